"""Open-loop replay of a trace against a URL: send instants are fixed beforehand and never wait for answers."""
