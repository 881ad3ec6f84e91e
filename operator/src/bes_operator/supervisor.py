"""Runs something that may end at any time in a thread and an event loop of its own, again and again until cancelled."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress

from bes_operator.queue import delay_after
from bes_operator.settings import Backoff

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 3.0


async def supervise(
    name: str,
    body: Callable[[asyncio.Event], Coroutine[None, None, None]],
    backoff: Backoff,
    chance: random.Random,
    begun_anew: Callable[[], None],
) -> None:
    """Run ``body`` (which ends when its event is set) for ever; ``begun_anew`` hears of every start but the first."""
    failures = 0
    while True:
        began = _now()
        error = await _once(name, body)
        failures = 1 if _now() - began > backoff.cap_seconds else failures + 1
        delay = delay_after(failures, backoff, chance.random(), None)
        _log.warning("%s ended: %s; again in %.1f s", name, error or "without an error", delay)
        await asyncio.sleep(delay)
        begun_anew()


async def _once(name: str, body: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> BaseException | None:
    """Returns what ended it. Cancelled, it asks the thread to end and leaves it behind if it does not soon."""
    here = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = here.create_future()
    stop: list[Callable[[], object]] = []
    asked_to_stop = threading.Event()

    async def in_thread() -> None:
        there, event = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: there.call_soon_threadsafe(event.set))
        if not asked_to_stop.is_set():
            await body(event)

    def tell(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)

    def thread() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(in_thread())
        except BaseException as caught:  # noqa: BLE001 - a thread's outermost frame: handed over, not lost
            error = caught
        with suppress(RuntimeError):  # the loop has closed: nobody waits for this thread any more
            here.call_soon_threadsafe(tell, error)

    threading.Thread(target=thread, name=name, daemon=True).start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        asked_to_stop.set()
        for ask in stop:
            with suppress(RuntimeError):  # its loop has closed
                ask()
        done, _ = await asyncio.wait({ended}, timeout=_PATIENCE_SECONDS)
        if not done:
            _log.warning("%s does not end; it is left behind and writes nothing", name)
        raise


def _now() -> float:
    return asyncio.get_running_loop().time()
