import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run

from bes_operator.errors import Busy
from bes_operator.queue import WorkQueue, delay_after
from bes_operator.settings import Backoff

BACKOFF = Backoff(first_seconds=1.0, cap_seconds=8.0)


class Diary:
    def __init__(self) -> None:
        self.failures: list[tuple[object, float]] = []
        self.passes = 0

    def passed(self, seconds: float) -> None:  # noqa: ARG002 - as the protocol has it
        self.passes += 1

    def failed(self, key: object, error: Exception, seconds: float, again_in_seconds: float) -> None:  # noqa: ARG002
        self.failures.append((key, again_in_seconds))


def worked(work: Callable[[str], Awaitable[float | None]], workers: int = 2) -> tuple[WorkQueue[str], Diary]:
    diary = Diary()
    return WorkQueue(work, BACKOFF, workers, diary, random.Random(1)), diary


async def for_a_while(queue: WorkQueue[str], seconds: float) -> None:
    running = asyncio.create_task(queue.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_key_that_is_added_often_is_worked_on_once() -> None:
    async def test() -> None:
        seen: list[str] = []

        async def work(key: str) -> None:
            seen.append(key)

        queue, _ = worked(work)
        for key in "aabab":
            queue.add(key)
        await for_a_while(queue, 10)
        assert sorted(seen) == ["a", "b"]

    run(test())


def test_what_is_added_while_it_is_worked_on_is_worked_on_once_more_and_never_at_the_same_time() -> None:
    async def test() -> None:
        running, most, times = 0, 0, 0

        async def work(key: str) -> None:
            nonlocal running, most, times
            running, times = running + 1, times + 1
            most = max(most, running)
            await asyncio.sleep(5)
            running -= 1

        queue, _ = worked(work, workers=4)
        queue.add("a")
        running_queue = asyncio.create_task(for_a_while(queue, 60))
        await asyncio.sleep(2)
        for _ in range(3):
            queue.add("a")
        await running_queue
        assert (most, times) == (1, 2)

    run(test())


def test_no_more_workers_than_allowed_run_at_once_and_every_key_gets_one() -> None:
    async def test() -> None:
        running, most, done = 0, 0, set()

        async def work(key: str) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            done.add(key)

        queue, _ = worked(work, workers=3)
        for key in "abcdefghij":
            queue.add(key)
        await for_a_while(queue, 60)
        assert (most, len(done)) == (3, 10)

    run(test())


def test_a_pass_that_wants_to_be_called_again_is_called_then() -> None:
    async def test() -> None:
        at: list[float] = []

        async def work(key: str) -> float | None:
            at.append(asyncio.get_running_loop().time())
            return 30.0 if len(at) < 3 else None

        queue, _ = worked(work)
        queue.add("a")
        await for_a_while(queue, 1000)
        assert [round(later - earlier) for earlier, later in itertools.pairwise(at)] == [30, 30]

    run(test())


def test_a_failing_key_waits_longer_each_time_up_to_the_cap_and_others_do_not() -> None:
    async def test() -> None:
        others: list[str] = []

        async def work(key: str) -> None:
            if key == "bad":
                raise OSError("no")
            others.append(key)

        queue, diary = worked(work)
        queue.add("bad")
        queue.add("good")
        await for_a_while(queue, 100)
        delays = [delay for _, delay in diary.failures]
        assert others == ["good"]
        assert all(
            low <= d <= high for d, (low, high) in zip(delays, [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8)], strict=False)
        )
        assert 100 / 8 <= len(delays) <= 100 / 4 + 5

    run(test())


def test_success_forgets_earlier_failures() -> None:
    async def test() -> None:
        calls = 0

        async def work(key: str) -> float:
            nonlocal calls
            calls += 1
            if calls in (1, 2, 3, 5):
                raise OSError("no")
            return 100.0

        queue, diary = worked(work)
        queue.add("a")
        await for_a_while(queue, 200)
        assert diary.failures[3][1] <= 1.0

    run(test())


def test_something_new_cuts_a_back_off_short_but_never_into_a_storm() -> None:
    async def test() -> None:
        calls: list[float] = []

        async def work(key: str) -> None:
            calls.append(asyncio.get_running_loop().time())
            raise OSError("no")

        queue, _ = worked(work)
        queue.add("a")
        running = asyncio.create_task(for_a_while(queue, 60))
        for _ in range(600):
            queue.add("a")
            await asyncio.sleep(0.1)
        await running
        assert min(later - earlier for earlier, later in itertools.pairwise(calls)) >= 0.4
        assert len(calls) > 30, "events bring it back sooner than the cap of 8 s"

    run(test())


def test_the_api_servers_wish_is_the_least_that_is_waited() -> None:
    assert delay_after(1, BACKOFF, 0.0, Busy("read", "wait", 17.0).retry_after_seconds) == 17.0
    assert delay_after(1, BACKOFF, 0.0, 1e9) == 300.0, "and not believed without end"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delays_grow_and_stay_within_half_and_whole_of_the_cap(failures: int, chance: float) -> None:
    delay = delay_after(failures, BACKOFF, chance, None)
    assert 0.5 <= delay <= 8.0
    assert delay_after(failures + 1, BACKOFF, chance, None) >= delay


def test_cancelling_the_queue_cancels_its_workers_and_waits_for_them() -> None:
    async def test() -> None:
        ended = False

        async def work(key: str) -> None:
            nonlocal ended
            try:
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(1)
                ended = True

        queue, _ = worked(work)
        queue.add("a")
        await for_a_while(queue, 5)
        assert ended

    run(test())


def test_depth_counts_what_is_due_and_how_long_it_waits() -> None:
    async def test() -> None:
        async def work(key: str) -> None:
            await asyncio.sleep(100)

        queue, _ = worked(work, workers=1)
        for key in "abc":
            queue.add(key)
        queue.add("later", 1000)
        running = asyncio.create_task(for_a_while(queue, 50))
        await asyncio.sleep(30)
        depth = queue.depth()
        running.cancel()
        assert depth.keys == 2
        assert depth.oldest_seconds == pytest.approx(30)

    run(test())


def test_a_forgotten_key_is_not_worked_on() -> None:
    async def test() -> None:
        seen: list[str] = []

        async def work(key: str) -> None:
            seen.append(key)

        queue, _ = worked(work)
        queue.add("a", 10)
        queue.add("b", 10)
        queue.forget("a")
        await for_a_while(queue, 60)
        assert seen == ["b"]

    run(test())
