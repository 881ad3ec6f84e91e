import asyncio
import random
import threading

from bes_operator.settings import Backoff
from bes_operator.supervisor import supervise

BACKOFF = Backoff(first_seconds=0.01, cap_seconds=0.02)


def test_what_ends_in_any_way_is_begun_again_in_a_thread_of_its_own() -> None:
    endings = [ValueError("an error"), SystemExit(1), asyncio.CancelledError(), None]
    threads: set[int] = set()
    anew: list[int] = []

    async def body(stop: asyncio.Event) -> None:
        threads.add(threading.get_ident())
        if not endings:
            await stop.wait()
        elif (ending := endings.pop(0)) is not None:
            raise ending

    async def test() -> None:
        enough = asyncio.Event()

        def begun_anew() -> None:
            anew.append(1)
            if len(anew) == 4:
                enough.set()

        task = asyncio.create_task(supervise("it", body, BACKOFF, random.Random(1), begun_anew))
        async with asyncio.timeout(30):
            await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    assert threading.get_ident() not in threads
    assert len(anew) == 4


def test_cancelling_asks_it_to_end_and_waits_for_that() -> None:
    ended = threading.Event()
    begun = threading.Event()

    async def body(stop: asyncio.Event) -> None:
        begun.set()
        await stop.wait()
        ended.set()

    async def test() -> None:
        task = asyncio.create_task(supervise("it", body, BACKOFF, random.Random(1), lambda: None))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert ended.is_set()

    asyncio.run(test())
