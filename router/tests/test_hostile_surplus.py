"""Line ends behind an engine's answer, which the parser reads over in silence, reach no client (found by fuzzing)."""

import asyncio

import pytest
from router_rig import Asked, Behaviour, Engine, live, rig

BODY = b'{"object": "text_completion"}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
TRAILER = CHUNKED[:-2] + b"x-a: b\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def saying(*pieces: bytes) -> Behaviour:
    async def behave(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)

    return behave


@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, TRAILER, EMPTY], ids=["length", "chunked", "trailer", "empty"])
def test_an_answer_with_line_ends_behind_it_is_refused(answer: bytes, surplus: bytes) -> None:
    @live
    async def check() -> None:
        async with rig(saying(answer + surplus)) as it:
            reply = await it.ask()
            assert (reply.status, reply.json["error"]["code"]) == (503, "backend_bad_response")
            assert it.own == [0.0, 0.0]

    check()


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, TRAILER], ids=["length", "chunked", "trailer"])
def test_an_answer_in_pieces_of_any_size_is_whole(answer: bytes) -> None:
    @live
    async def check() -> None:
        for cut in (len(answer) - 1, len(answer) - 3, len(answer) - 5, 40):
            async with rig(saying(answer[:cut], answer[cut:])) as it:
                reply = await it.ask()
                assert (reply.status, reply.body) == (200, BODY), cut

    check()


@live
async def test_nothing_behind_the_end_is_relayed_of_an_answer_that_came_in_pieces() -> None:
    relayed = asyncio.Event()

    async def say(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[:-4])
        await relayed.wait()
        writer.write(WHOLE[-4:] + b"\r\n")

    async with rig(say) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        assert (await client.head()).status == 200
        assert await client.reader.readexactly(len(BODY) - 4) == BODY[:-4]
        relayed.set()
        assert await client.closed()
        assert it.errors() == {"backend_bad_response": 1}
