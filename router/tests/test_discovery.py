"""EndpointSlices listed and watched: whatever the API server does, the last known set stays and the true one comes."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_rig import live, scenario_of_rig, until
from slice_server import (
    NAMESPACE,
    QUICK,
    TOKEN,
    Fault,
    SliceServer,
    answering,
    certificate,
    endpoint,
    silence,
    slice_of,
    slice_server,
    writing,
)

from bes_api.discovery_config import EndpointSlices, ServedModel
from bes_router.discovery.api import ApiServer
from bes_router.discovery.endpoint_slices import SliceDiscovery
from bes_router.discovery.found import Found
from bes_router.discovery.pace import MOST_ASKED_SECONDS, Pace

CONFIG = EndpointSlices(
    namespace=NAMESPACE,
    engines=(
        ServedModel(model="small", service="opt-small", served_model="org/small"),
        ServedModel(model="large", service="opt-large", served_model="org/large"),
    ),
)
A, B, C = (slice_of("opt-large", name, 8000 + i, endpoint(name)) for i, name in enumerate("abc"))


class Watching:
    """A discovery at work and what it told."""

    def __init__(self, server: SliceServer, config: EndpointSlices = CONFIG, *, join_by_name: bool = True) -> None:
        self.server = server
        scenario = scenario_of_rig(replicas=3)
        self.discovery = SliceDiscovery(config, scenario, server.server, join_by_name=join_by_name)
        self.told: list[Found] = []
        self._task = asyncio.create_task(self.discovery.run(self.told.append))

    @property
    def names(self) -> list[str | None]:
        return [each.backend.join for each in self.told[-1].listed] if self.told else []

    async def sees(self, *names: str) -> None:
        await until(lambda: self.names == list(names))

    async def drop(self) -> None:
        """Cut the watch, once there is one."""
        await until(lambda: self.server.watching > 0)
        self.server.drop()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(folder: Path, *slices: dict[str, object]) -> AsyncIterator[Watching]:
    async with slice_server(folder, [dict(each) for each in slices]) as server:
        it = Watching(server)
        try:
            yield it
        finally:
            await it.end()


@live
async def follow(root: Path) -> None:
    async with watching(
        root, A, slice_of("opt-small", "s", 9000, endpoint("s")), slice_of("other", "o", 1, endpoint("o"))
    ) as it:
        await it.sees("s", "a")
        assert [found.current for found in it.told] == [False, True]
        first = it.told[-1].listed[1]
        assert (first.ready, first.backend.model, first.backend.replica) == (True, "large", 0)
        assert (first.backend.address, first.backend.port, first.backend.served_model) == (
            "127.0.0.1",
            8000,
            "org/large",
        )
        it.server.put(dict(B))
        await it.sees("s", "a", "b")
        it.server.put(slice_of("opt-large", "a", 8000, endpoint("a", ready=False)))
        await until(lambda: it.told[-1].listed[1].ready is False)
        it.server.put(slice_of("opt-large", "a", 8000, endpoint("a", ready=False, terminating=True)))
        await it.sees("s", "b")
        it.server.remove("b")
        await it.sees("s")
        (listing, *_) = it.server.asked
        assert listing.authorization == f"Bearer {TOKEN}"
        assert listing.query["labelSelector"] == "kubernetes.io/service-name in (opt-small,opt-large)"
        assert it.server.lists() == 1
        report = it.discovery.report
        assert (report.lists, report.failures, report.problem, report.unserved) == (1, 0, "", ("opt-large",))


def test_pods_are_listed_once_and_followed_by_what_the_watch_says(tmp_path: Path) -> None:
    follow(tmp_path)


@live
async def in_pages(root: Path) -> None:
    async with slice_server(root, [dict(each) for each in (A, B, C)]) as server:
        server.page = 1
        it = Watching(server)
        await it.sees("a", "b", "c")
        assert server.lists() == 3
        await it.end()


def test_a_long_list_is_read_page_by_page(tmp_path: Path) -> None:
    in_pages(tmp_path)


GARBAGE = [
    b"no json\n",
    b"[]\n",
    b'{"type":"ADDED"}\n',
    b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}\n',
    b'{"type":"SURPRISE","object":{}}\n',
    b"\xff\xfe\n",
    b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":""}}}\n',
]
FAULTS: dict[str, tuple[list[Fault], list[Fault]]] = {
    "list 500": ([answering(500)] * 3, []),
    "list 403": ([answering(403, "forbidden")] * 2, []),
    "list 410": ([answering(410)], []),
    "list 429": ([answering(429, retry_after="0")], []),
    "list redirected": ([answering(302, location="http://127.0.0.1:1/")], []),
    "watch 500": ([], [answering(500)] * 3),
    "watch 401": ([], [answering(401)]),
    "watch 410": ([], [answering(410)]),
    "watch ends at once": ([], [writing()] * 3),
    "watch breaks off": ([], [writing(cut=True)] * 2),
    "watch breaks off in an event": ([], [writing(b'{"type":"ADDED","obj', cut=True)]),
    "error 410": ([], [writing(b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n')]),
    "error 500": ([], [writing(b'{"type":"ERROR","object":{"code":500,"message":"leader changed"}}\n')]),
    "silence": ([], [silence]),
    **{f"garbage {i}": ([], [writing(line)] * 2) for i, line in enumerate(GARBAGE)},
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_any_fault_what_happened_meanwhile_is_seen(name: str, tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with slice_server(tmp_path, [dict(A), dict(B)]) as server:
            server.list_faults, server.watch_faults = (list(faults) for faults in FAULTS[name])
            server.pace = replace(QUICK, watch=1, silence=0.2)
            it = Watching(server)
            await it.sees("a", "b")
            server.put(dict(C))
            server.remove("a")
            await it.sees("b", "c")
            await until(lambda: not (server.list_faults or server.watch_faults))
            await until(lambda: it.discovery.report.problem == "")
            assert it.told[-1].listed[0].backend.replica == 1, "who stays keeps its replica"
            await it.end()

    check()


@live
async def ghosts(root: Path) -> None:
    async with watching(root, A, B) as it:
        await it.sees("a", "b")
        await until(lambda: it.server.watching > 0)
        it.server.always = answering(503)
        it.server.drop()
        await until(lambda: it.discovery.report.failures > 2)
        it.server.remove("a")
        it.server.put(dict(C))
        it.server.compact()
        assert it.names == ["a", "b"], "the last known set stays"
        assert "503" in it.discovery.report.problem
        it.server.always = None
        await it.sees("b", "c")
        assert it.discovery.report.problem == ""


def test_what_was_deleted_while_the_server_was_out_and_the_history_lost_is_no_ghost(tmp_path: Path) -> None:
    ghosts(tmp_path)


@live
async def resume(root: Path) -> None:
    async with watching(root, A) as it:
        await it.sees("a")
        it.server.bookmark()
        await until(lambda: it.discovery._version == str(it.server.version))
        await it.drop()
        await until(lambda: sum(asked.watch for asked in it.server.asked) > 1)
        assert it.server.asked[-1].query["resourceVersion"] == str(it.server.version), "from the bookmark on"
        assert it.server.lists() == 1


def test_a_dropped_watch_goes_on_where_it_was_also_after_a_bookmark(tmp_path: Path) -> None:
    resume(tmp_path)


@live
async def latecomers(root: Path) -> None:
    async with watching(root, A) as it:
        await it.sees("a")
        it.server.put(dict(B))
        it.server.put(slice_of("opt-large", "b", 8001, endpoint("b", ready=False)))
        await until(lambda: len(it.told[-1].listed) == 2 and it.told[-1].listed[1].ready is False)
        for _, line in list(it.server.history):  # all of it again, in whatever order
            it.server.say(line)
        for _, line in reversed(list(it.server.history)[:2]):
            it.server.say(line)
        it.server.put(dict(C))
        await it.sees("a", "b", "c")
        assert it.told[-1].listed[1].ready is False, "an old word is no news"
        it.server.remove("b")
        await it.sees("a", "c")
        told = len(it.told)
        it.server.say(it.server.event("MODIFIED", B | {"metadata": B["metadata"] | {"resourceVersion": "102"}}))
        it.server.bookmark()
        await until(lambda: it.discovery._version == str(it.server.version))
        assert (len(it.told), it.names) == (told, ["a", "c"])


def test_events_that_come_twice_or_late_change_nothing(tmp_path: Path) -> None:
    latecomers(tmp_path)


@live
async def forbidden(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with slice_server(root, [dict(A)]) as server:
        server.always = answering(403, "endpointslices is forbidden")
        it = Watching(server)
        await until(lambda: it.discovery.report.failures > 3)
        problem = it.discovery.report.problem
        assert "forbidden; let the pod's account get, list and watch endpointslices" in problem
        assert [record.levelname for record in caplog.records].count("WARNING") == 1, "said once, not each time"
        assert [found.current for found in it.told] == [False]
        server.always = None
        await it.sees("a")
        assert "says again which engines run" in caplog.text
        await it.end()


def test_a_role_that_is_missing_is_named_with_its_mend(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    forbidden(tmp_path, caplog)


@live
async def rotated(root: Path) -> None:
    async with watching(root, A) as it:
        await it.sees("a")
        (root / "token").write_text("second-token\n")
        await it.drop()
        await until(lambda: it.server.asked[-1].authorization == "Bearer second-token")
        (root / "token").unlink()
        await it.drop()
        await until(lambda: "token" in it.discovery.report.problem)
        assert it.names == ["a"]
        (root / "token").write_text("third-token")
        await until(lambda: it.server.asked[-1].authorization == "Bearer third-token")


def test_a_token_that_is_exchanged_or_missing_for_a_while_is_read_again(tmp_path: Path) -> None:
    rotated(tmp_path)


@live
async def trusted(root: Path) -> None:
    async with slice_server(root, [dict(A)], secure=True) as server:
        it = Watching(server)
        await it.sees("a")
        trusted_before = (root / "ca.crt").read_bytes()
        await server.stop()
        server.secure = certificate(root)
        trusted_now = (root / "ca.crt").read_bytes()
        (root / "ca.crt").write_bytes(trusted_before)
        server.put(dict(B))
        await server.start()
        await until(lambda: "certificate" in it.discovery.report.problem.lower())
        assert it.names == ["a"], "nothing is believed of a server that cannot show who it is"
        (root / "ca.crt").write_bytes(trusted_now)
        await it.sees("a", "b")
        (root / "ca.crt").write_text("nonsense")
        await it.drop()
        await until(lambda: it.discovery.report.failures > 2 and bool(it.discovery.report.problem))
        await it.end()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_only_a_server_that_the_account_trusts_is_believed_and_its_authority_can_be_exchanged(tmp_path: Path) -> None:
    trusted(tmp_path)


@live
async def began_with(root: Path) -> None:
    async with watching(root, A, slice_of("opt-small", "s", 9000, endpoint("s"))) as it:
        await it.sees("s", "a")
        it.server.always = answering(500)
        large = CONFIG.model_copy(update={"engines": CONFIG.engines[1:]})
        later = SliceDiscovery(large, scenario_of_rig(3), it.server.server, join_by_name=False)
        later.begin_with(it.discovery.known)
        told: list[Found] = []
        task = asyncio.create_task(later.run(told.append))
        await until(lambda: bool(told))
        assert not told[0].current
        assert [(each.backend.model, each.backend.join) for each in told[0].listed] == [("large", None)]
        it.server.always = None
        await until(lambda: told[-1].current)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_new_configuration_begins_with_what_the_old_one_knew(tmp_path: Path) -> None:
    began_with(tmp_path)


@live
async def refuses_giants(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bes_router.discovery.api.MAX_BYTES", 2000)
    async with slice_server(root, [dict(A)]) as server:
        it = Watching(server)
        await it.sees("a")
        server.put(slice_of("opt-large", "b", 8001, *(endpoint(f"b{i}") for i in range(20))))
        await until(lambda: "larger than 2000 bytes" in it.discovery.report.problem)
        assert it.names == ["a"]
        server.remove("b")
        await until(lambda: it.discovery.report.problem == "")
        await it.end()


def test_an_answer_or_event_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses_giants(tmp_path, monkeypatch)


@given(st.integers(0, 100_000), st.floats(0, 1e9), st.floats(0, 1))
def test_pauses_grow_to_a_limit_and_heed_the_server_within_reason(failures: int, asked: float, jitter: float) -> None:
    pace = Pace(jitter=lambda: jitter)
    pause = pace.pause(failures, asked)
    assert min(asked, MOST_ASKED_SECONDS) <= pause <= max(min(asked, MOST_ASKED_SECONDS), pace.longest_pause)
    assert pace.pause(failures + 1, asked) >= pause
    assert failures == 0 or pause >= pace.first_pause / 2


def test_the_api_server_of_a_pod_is_where_its_environment_says() -> None:
    assert ApiServer.of_pod({}) is None
    found = ApiServer.of_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert found is not None
    assert found.url == "https://10.96.0.1:443"
    six = ApiServer.of_pod({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert six is not None
    assert six.url == "https://[fd00::1]:443"
