"""From a service to every object that it owns, without I/O, clock or environment."""
