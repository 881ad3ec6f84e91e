"""The engine of the router benchmark: answers at once and costs as little as Python can, so the proxy is what is seen.

One process listens on as many ports as the scenario has engines. ``python -m bes_lab.bench.backend COUNT`` prints
its ports, one line of JSON, and serves until its standard input closes.
"""

import argparse
import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

HOST = "127.0.0.1"
CHUNKS = 16
CHUNK_SECONDS = 0.01

_BODY = json.dumps(
    {
        "id": "cmpl-bench",
        "object": "text_completion",
        "created": 0,
        "model": "bench",
        "choices": [{"index": 0, "text": " word" * 16, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 128, "completion_tokens": 16, "total_tokens": 144},
    }
).encode()
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
# nginx buffers an answer unless told otherwise; a stream must leave every proxy as it came
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT = b'data: {"id":"cmpl-bench","choices":[{"index":0,"text":" word","finish_reason":null}]}\n\n'
_CHUNK = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)
_STREAM_END = b"0\r\n\r\n"
_METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(_METRICS), _METRICS)


class Connection(asyncio.Protocol):
    """One connection: a POST gets the completion (whole, or as a timed stream), anything else the load figures."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        body, self.body = self.body, b""
        if self.parser.get_method() != b"POST":
            self.transport.write(_PLAIN)
        elif b'"stream":true' in body:
            self.transport.write(_STREAM_HEAD + _CHUNK)
            self.loop.call_later(CHUNK_SECONDS, self._stream, CHUNKS - 1)
        else:
            self.transport.write(_WHOLE)

    def _stream(self, left: int) -> None:
        if self.transport.is_closing():
            return
        if left == 0:
            self.transport.write(_STREAM_END)
            return
        self.transport.write(_CHUNK)
        self.loop.call_later(CHUNK_SECONDS, self._stream, left - 1)


async def serve(count: int) -> None:
    """Listen on ``count`` ports, say which, and end when standard input closes (also when the parent dies)."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Connection, HOST, 0) for _ in range(count)]
    sys.stdout.write(json.dumps([server.sockets[0].getsockname()[1] for server in servers]) + "\n")
    sys.stdout.flush()
    closed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(closed), sys.stdin)
    await closed.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    uvloop.run(serve(parser.parse_args().count))
