"""How a fault looks on the wire: exchanges that spoil the answer which the engine gives."""

import random

from bes_lab.engine.faults import Die, Garbage, Hitting, LengthAndChunked, TwoLengths, WrongLength
from bes_lab.engine.http import JSON, Connection, Exchange


def spoiled(fault: Hitting, exchange: Exchange) -> Exchange:
    """The exchange that answers as ``fault`` says; one that the fault does not touch on the wire stays as it is."""
    match fault:
        case Die():
            return _Dying(exchange.connection, fault.after_bytes)
        case WrongLength():
            return _WrongLength(exchange.connection, fault.by)
        case Garbage():
            return _Garbage(exchange.connection, fault)
        case TwoLengths():
            return _TwoLengths(exchange.connection, keep_alive=False)
        case LengthAndChunked():
            return _LengthAndChunked(exchange.connection, keep_alive=False)
        case _:
            return exchange


class _Dying(Exchange):
    """Lets so many bytes out, then resets the connection."""

    __slots__ = ("_left",)

    def __init__(self, connection: Connection, after_bytes: int) -> None:
        super().__init__(connection, keep_alive=False)
        self._left = after_bytes

    def _write(self, data: bytes) -> None:
        self.connection.write(data[: max(0, self._left)])
        self._left -= len(data)
        if self._left <= 0:
            self.connection.reset()


class _WrongLength(Exchange):
    __slots__ = ("_by",)

    def __init__(self, connection: Connection, by: int) -> None:
        super().__init__(connection, keep_alive=False)
        self._by = by

    def _framing(self, length: int) -> bytes:
        return b"content-length: %d\r\n" % max(0, length + self._by)

    def _chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (max(1, len(data) + self._by), data)


class _Garbage(Exchange):
    __slots__ = ("_noise",)

    def __init__(self, connection: Connection, fault: Garbage) -> None:
        super().__init__(connection, keep_alive=False)
        self._noise = random.Random(fault.seed).randbytes(fault.bytes)

    def reply(self, _status: int, _body: bytes, _content_type: bytes = JSON, headers: bytes = b"") -> None:  # noqa: ARG002 - named in calls
        """See ``Exchange``."""
        self.begin_stream()

    def begin_stream(self) -> None:
        """See ``Exchange``."""
        self.connection.write(self._noise)
        self.connection.answered(keep_alive=False)

    def send(self, data: bytes) -> None:
        """See ``Exchange``."""

    def end_stream(self) -> None:
        """See ``Exchange``."""


class _TwoLengths(Exchange):
    __slots__ = ()

    def _framing(self, length: int) -> bytes:
        return b"content-length: %d\r\ncontent-length: %d\r\n" % (length, length + 1)

    def _stream_framing(self) -> bytes:
        return b"content-length: 64\r\ncontent-length: 65\r\n"


class _LengthAndChunked(Exchange):
    __slots__ = ()

    def _framing(self, length: int) -> bytes:
        return b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % length

    def _stream_framing(self) -> bytes:
        return self._framing(64)
