"""An engine of one's own, the program: answers a prompt with its own words over OpenAI's API. Standard library only."""

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Counts:
    """What the metrics page says."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.finished = 0


class Echo(BaseHTTPRequestHandler):
    """One request at a time per connection; connections are kept."""

    protocol_version = "HTTP/1.1"
    counts = Counts()

    def do_GET(self) -> None:
        """The health path and the metrics page, as echo.py names them."""
        if self.path == "/ready":
            return self._answer(200, b"", "text/plain")
        if self.path == "/metrics":
            counts = self.counts
            page = f"echo_running {counts.running}\necho_waiting 0\necho_finished_total {counts.finished}\n"
            return self._answer(200, page.encode(), "text/plain; version=0.0.4")
        return self._answer(404, b'{"error": {"message": "no such path", "type": "not_found"}}')

    def do_POST(self) -> None:
        """Completions: the prompt's first words."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.counts.lock:
            self.counts.running += 1
        words = str(asked["prompt"]).split()[: int(asked.get("max_tokens", 16))]
        choice = {"index": 0, "text": " ".join(words), "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
        answer = {"id": "echo", "object": "text_completion", "created": 0, "model": asked["model"]}
        self._answer(200, json.dumps({**answer, "choices": [choice], "usage": usage}).encode())
        with self.counts.lock:
            self.counts.running -= 1
            self.counts.finished += 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Echo)
    print(f"echo on 127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - the port that was taken
    server.serve_forever()
