"""A change of configuration or policy takes effect from the next request on, and no request is lost by it."""

import asyncio
import contextlib
import gc
import json
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubelet import mount
from policy_scenarios import learned_artifact
from router_rig import (
    PATIENCE_SECONDS,
    Asked,
    Behaviour,
    Engine,
    Rig,
    begun,
    complete,
    live,
    patient,
    scenario_of_rig,
    until,
)
from steady_traffic import Held, Traffic, quick

from bes_api.config_map import MAX_ARTIFACT_BYTES, PASSPORT, ROUTER_CONFIG, WEIGHTS, data_digest, read_files
from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.errors import ConfigurationError
from bes_api.router_config import (
    ConfiguredPolicy,
    DeliveredPolicy,
    DirectLoad,
    Limits,
    PricedPolicy,
    RouterConfig,
    StaticPolicy,
)
from bes_api.router_status import RouterStatus
from bes_api.scenario import OnMiss, Scenario
from bes_router import deadlines, ejection, generation, running, shadow, status
from bes_router.decision_log import DecisionLog
from bes_router.delivery import Delivery, Sources
from bes_router.policy.artifact import write_artifact
from bes_router.policy.layout import Decision, LoadView, RoutingRequest
from bes_router.running import RunningRouter

SCENARIO = scenario_of_rig(replicas=2)
TURNED = SCENARIO.model_copy(update={"models": SCENARIO.models[::-1], "tasks": SCENARIO.tasks[::-1]})
ONE_TASK = SCENARIO.model_copy(update={"tasks": SCENARIO.tasks[:1]})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_SECONDS", 0.03)
    monkeypatch.setattr(running, "CONFIRM_SECONDS", 0.01)


class Delivering(Rig):
    """A router that follows folders which the test writes as kubelet does."""

    root: Path

    def config(
        self,
        listed: list[int] | None = None,
        scenario: Scenario = SCENARIO,
        policy: ConfiguredPolicy | None = None,
        **fields: Any,
    ) -> bytes:
        engines = [self.engines[number] for number in ([0, 1] if listed is None else listed)]
        return RouterConfig(
            service="demo",
            scenario=scenario,
            discovery=StaticBackends(
                backends=tuple(
                    BackendAddress(
                        model="large", replica=i, address="127.0.0.1", port=engine.port, served_model="org/large"
                    )
                    for i, engine in enumerate(engines)
                )
            ),
            load=DirectLoad(interval_seconds=0.5, stale_after_seconds=PATIENCE_SECONDS),
            policy=policy or StaticPolicy(model="large"),
            **fields,
        ).model_dump_json().encode()  # fmt: skip

    @property
    def state(self) -> RouterStatus:
        return status.status_of(self.running)

    async def deliver(self, done: Callable[[RouterStatus], bool], **folders: dict[str, bytes]) -> None:
        for name, files in folders.items():
            mount(self.root / name, files)
        await until(lambda: done(self.state))

    async def configure(self, document: bytes) -> None:
        files = {ROUTER_CONFIG: document}
        await self.deliver(lambda state: state.configuration.digest == data_digest(files), config=files)


@contextlib.asynccontextmanager
async def delivering(
    root: Path, *behaviours: Behaviour, log: Path | None = None, **config: Any
) -> AsyncIterator[Delivering]:
    engines = [Engine(behaviour) for behaviour in behaviours or (complete, complete)]
    for engine in engines:
        await engine.start()
    it = Delivering(None, 0, 0, engines)  # type: ignore[arg-type]  # set below
    it.root = root
    mount(root / "config", {ROUTER_CONFIG: it.config(**config)})
    mount(root / "policy", {})
    mount(root / "candidate", {})
    delivery = Delivery(Sources(root / "config", root / "policy", root / "candidate"))
    first = delivery.first()
    decisions = None if log is None else DecisionLog(log, first.config.scenario, first.loaded.name)
    it.running = RunningRouter(first, delivery, decisions=decisions)
    with patient():
        await it.running.start()
        it.port, it.admin_port = it.running.ports
        try:
            yield it
        finally:
            for client in it.clients:
                client.close()
            await it.running.close()
            for engine in engines:
                await engine.stop()
            await asyncio.sleep(0.01)


def artifact(root: Path, seed: int) -> dict[str, bytes]:
    made = learned_artifact(SCENARIO, seed)
    write_artifact(root / f"made-{seed}", made.passport, made.tensors)
    return read_files(root / f"made-{seed}", MAX_ARTIFACT_BYTES)


@live
async def swap_configurations(root: Path) -> None:
    async with delivering(root, quick, quick, quick) as it:
        traffic = Traffic(it)
        for _ in range(3):
            for document in (
                it.config([1, 2]),
                it.config([2]),
                it.config([2, 0], scenario=TURNED),
                it.config([1], scenario=ONE_TASK),
                it.config([0, 1], policy=PricedPolicy(), limits=Limits(idle_timeout_seconds=90.0)),
            ):
                await it.configure(document)
                await traffic.goes_on()
        await traffic.end()
        await it.settle()
        assert len(traffic.statuses) >= 15 * 20
        assert set(traffic.statuses) == {200}
        assert it.own == [0.0] * 4
        (chatter,) = [task for task in it.state.tasks if task.name == "chatter"]
        assert chatter.requests == chatter.in_time == len(traffic.statuses), "the counters go on, by name"


def test_no_request_fails_while_configurations_are_swapped_under_traffic(tmp_path: Path) -> None:
    swap_configurations(tmp_path)


@live
async def swap_policies(root: Path) -> None:
    whole, other = artifact(root, 1), artifact(root, 2)
    async with delivering(root, quick, quick, policy=DeliveredPolicy()) as it:
        traffic = Traffic(it)
        for files in (whole, {**whole, WEIGHTS: whole[WEIGHTS][:-1]}, other, {PASSPORT: b"{"}, {}, whole) * 2:
            usable = files in (whole, other)
            digest = data_digest(files) if usable else None
            await it.deliver(lambda state, d=digest: state.policy.digest == d, policy=files)  # type: ignore[misc]  # a bound default
            await traffic.goes_on()
            assert it.state.policy.fallback is not usable
        assert (await it.ask()).fields["x-bes-policy"] == "Learned"
        await traffic.end()
        assert set(traffic.statuses) == {200}
        said = {"Learned", *(f"DeadlineAware; fallback={word}" for word in ("absent", "unreadable"))}
        assert set(traffic.policies) == said
        assert it.state.policy.failures == 0


def test_no_request_fails_while_policies_are_swapped_broken_and_restored(tmp_path: Path) -> None:
    swap_policies(tmp_path)


def test_a_request_in_flight_ends_as_it_began_and_is_counted_by_who_serves_now(tmp_path: Path) -> None:
    held = Held()

    @live
    async def check() -> None:
        async with delivering(tmp_path, held, held) as it:
            asking = asyncio.create_task(it.ask())
            while not it.in_flight:
                await asyncio.sleep(0.001)
            old = it.running.router.serving
            before = it.own
            await it.configure(it.config(scenario=TURNED))
            assert it.running.router.serving is not old
            assert old.tracker.in_flight == 0
            assert it.in_flight == 1
            assert it.own == [*before[2:], *before[:2]], "the models are numbered the other way round now"
            held.release.set()
            answer = await asking
            assert answer.status == 200
            assert answer.fields["x-bes-model"] == "large"
            await it.settle()
            assert it.own == [0.0] * 4
            assert sum(task.in_time for task in it.state.tasks) == 1
            kept = [(backend, connection) for backend in it.running.generation.backends for connection in backend.idle]
            assert len(kept) == 1, "its connection serves on"
            assert all(connection.backend is backend for backend, connection in kept)

    check()


class Doomed:
    """An engine that breaks its requests off at a word."""

    def __init__(self) -> None:
        self.dead = asyncio.Event()

    async def __call__(self, _: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        await self.dead.wait()
        writer.transport.abort()


def test_a_request_that_fails_after_a_swap_is_decided_leased_and_counted_anew_by_who_serves_now(
    tmp_path: Path,
) -> None:
    doomed, held = Doomed(), Held()

    @live
    async def check() -> None:
        log = tmp_path / "decisions.jsonl"
        async with delivering(tmp_path, doomed, held, log=log, listed=[0]) as it:
            asking = asyncio.create_task(it.ask({"prompt": "x", "model": "trivia"}))
            await until(lambda: bool(it.in_flight))
            old = it.running.router.serving
            await it.configure(it.config([0, 1], scenario=TURNED))
            doomed.dead.set()
            await until(lambda: bool(it.engines[1].asked))
            assert (old.in_flight, it.in_flight) == (0, 1)
            assert it.own == [0.0, 1.0, 0.0, 0.0], "its second engine of `large`, which is the first model now"
            held.release.set()
            answer = await asking
            assert answer.status == 200
            assert (answer.fields["x-bes-task"], answer.fields["x-bes-model"]) == ("trivia", "large")
            assert answer.fields["x-bes-decision"].endswith("-2; attempt=2")
            await it.settle()
            assert it.own == [0.0] * 4
            assert {task.name: task.in_time for task in it.state.tasks} == {"trivia": 1, "chatter": 0}
            retries = it.running.router.metrics.setbacks.retries
            assert dict(retries) == {("backend_broke_off", "answered"): 1}

    check()
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert ["scenario" in line for line in lines] == [True, False, True, False]
    assert lines[3]["request"]["task"] == 0, "as the scenario above it numbers tasks"


def test_a_request_whose_task_is_gone_when_its_engine_fails_hears_of_that_failure(tmp_path: Path) -> None:
    doomed = Doomed()

    @live
    async def check() -> None:
        async with delivering(tmp_path, doomed, complete, listed=[0]) as it:
            asking = asyncio.create_task(it.ask({"prompt": "x", "model": "trivia"}))
            await until(lambda: bool(it.in_flight))
            await it.configure(it.config([0, 1], scenario=ONE_TASK))
            doomed.dead.set()
            answer = await asking
            assert (answer.status, answer.json["error"]["code"]) == (503, "backend_broke_off")
            assert not it.engines[1].asked
            assert it.running.generation.serving.in_flight == 0

    check()


def test_a_retry_under_a_new_configuration_has_the_new_deadline_and_no_other(tmp_path: Path) -> None:
    doomed, held = Doomed(), Held()

    def aborting(seconds: float) -> Scenario:
        tasks = [
            task.model_copy(
                update={"full_until_seconds": seconds, "zero_from_seconds": seconds, "on_miss": OnMiss.ABORT}
            )
            for task in SCENARIO.tasks
        ]
        return SCENARIO.model_copy(update={"tasks": tuple(tasks)})

    @live
    async def check() -> None:
        async with delivering(tmp_path, doomed, held, listed=[0], scenario=aborting(1000.0)) as it:
            asking = asyncio.create_task(it.ask())
            await until(lambda: bool(it.in_flight))
            old, began = it.running.router.serving, time.monotonic()
            await it.configure(it.config([0, 1], scenario=aborting(4000.0)))
            doomed.dead.set()
            await until(lambda: bool(it.engines[1].asked))
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(deadlines, "time", SimpleNamespace(monotonic=lambda: began + 2000.0))
                old._aborts._fire()
            assert it.in_flight == 1
            it.reach(began + 5000.0)
            assert (await asking).status == 504
            held.release.set()

    check()


def test_what_fails_in_a_configuration_that_is_over_keeps_nobody_out(tmp_path: Path) -> None:
    doomed, held = Doomed(), Held()

    @live
    async def check() -> None:
        async with delivering(tmp_path, doomed, held) as it:
            asking = [asyncio.create_task(it.ask()) for _ in range(2 * ejection.FAILURES_IN_ROW)]
            await until(lambda: [len(engine.asked) for engine in it.engines] == [ejection.FAILURES_IN_ROW] * 2)
            await it.configure(it.config([0, 1], limits=Limits(idle_timeout_seconds=90.0)))
            doomed.dead.set()
            held.release.set()
            assert {(await each).status for each in asking} == {200}
            assert it.running.router.metrics.setbacks.out == {}

    check()


def test_kept_connections_to_engines_that_stay_are_used_on_and_others_are_closed(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            clients = [await it.client() for _ in range(4)]
            for client in clients:
                client.post({"prompt": "x"})
            assert [(await client.answer()).status for client in clients] == [200] * 4
            first = [engine.accepted for engine in it.engines]
            assert min(first) > 0
            await it.configure(it.config([1]))
            assert (await it.ask()).status == 200
            assert [engine.accepted for engine in it.engines] == first
            while it.engines[0].connections:
                await asyncio.sleep(0.005)
            assert it.engines[1].connections

    check()


def test_an_engine_that_is_no_longer_listed_finishes_what_it_has(tmp_path: Path) -> None:
    held = Held()

    @live
    async def check() -> None:
        async with delivering(tmp_path, held, complete, listed=[0]) as it:
            asking = asyncio.create_task(it.ask())
            while not it.in_flight:
                await asyncio.sleep(0.001)
            await it.configure(it.config([1]))
            assert (await it.ask()).status == 200
            assert len(it.engines[0].asked) == 1
            held.release.set()
            assert (await asking).status == 200
            while it.engines[0].connections:  # nothing keeps a connection to it
                await asyncio.sleep(0.005)

    check()


@pytest.mark.parametrize(
    ("document", "says"),
    [(b"{", "JSON"), (b'{"version": 1}', "scenario"), (None, "nothing")],
    ids=["cut", "incomplete", "empty"],
)
def test_an_invalid_configuration_leaves_the_old_one_and_says_why(
    tmp_path: Path, document: bytes | None, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path, quick, quick) as it:
            traffic = Traffic(it)
            served = it.state.configuration.digest
            files = {} if document is None else {ROUTER_CONFIG: document}
            await it.deliver(lambda state: state.configuration.problem is not None, config=files)
            state = it.state.configuration
            assert says in (state.problem or "")
            assert (state.digest, state.refused_digest) == (served, data_digest(files) if files else None)
            metrics = (await it.admin("/metrics")).body.decode()
            assert "\nbes_router_configuration_refused 1.0\n" in metrics
            assert 'bes_router_deliveries_total{outcome="refused"} 1.0' in metrics
            await it.configure(it.config([1]))
            assert it.state.configuration.problem is None
            await traffic.end()
            assert set(traffic.statuses) == {200}

    check()
    assert says in caplog.text


def test_a_configuration_that_cannot_be_carried_out_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:

            def fail(*_: object) -> None:
                raise ConfigurationError("load.ca_file: is not there")

            with monkeypatch.context() as patched:
                patched.setattr(generation, "load_source", fail)
                refused = it.config([1])
                await it.deliver(lambda state: state.configuration.problem is not None, config={ROUTER_CONFIG: refused})
                assert "ca_file" in (it.state.configuration.problem or "")
                assert (await it.ask()).status == 200
            await it.configure(it.config([0]))
            assert it.state.configuration.problem is None
            assert it.state.backends_listed == 1

    check()


def test_configurations_that_served_leave_nothing_behind(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            left: list[weakref.ref[Any]] = []
            await it.configure(it.config([1]))
            tasks = len(asyncio.all_tasks())
            for number in range(6):
                await it.configure(it.config([number % 2]))
                left.append(weakref.ref(it.running.generation))
                assert (await it.ask()).status == 200
            gc.collect()
            assert len(asyncio.all_tasks()) <= tasks + 1, "one may be looking into the folders"
            assert [ref() is not None for ref in left] == [False] * 5 + [True]

    check()


def test_an_engine_that_stays_keeps_nothing_of_the_configurations_between_its_first_and_its_latest(
    tmp_path: Path,
) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            left: list[weakref.ref[Any]] = []
            for number in range(6):
                await it.configure(it.config(limits=Limits(max_body_bytes=10_000 + number)))
                left.append(weakref.ref(it.running.generation.serving.tracker))
                assert (await it.ask()).status == 200
            gc.collect()
            assert [ref() is not None for ref in left] == [False] * 5 + [True]

    check()


def test_the_decision_log_says_by_what_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"

    @live
    async def check() -> None:
        async with delivering(tmp_path, log=path) as it:
            await it.ask()
            await it.configure(it.config(scenario=TURNED, policy=PricedPolicy()))
            await it.ask()

    check()
    first, one, second, other = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["policy"], second["policy"]) == ("Static(large)", "Priced")
    assert Scenario.model_validate(second["scenario"]) == TURNED
    assert (one["number"], other["number"]) == (1, 2)


def test_new_limits_hold_for_connections_that_are_open(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            client = await it.client()
            client.post({"prompt": "x" * 500})
            assert (await client.answer()).status == 200
            await it.configure(it.config(limits=Limits(max_body_bytes=300)))
            client.post({"prompt": "x" * 500})
            assert (await client.answer()).status == 413

    check()


def test_a_router_that_drains_goes_on_draining_under_a_new_configuration(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            client = await it.client()
            client.raw(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n")
            await until(lambda: any(map(begun, it.running.router.connections)))
            draining = asyncio.create_task(it.running.drain())
            await until(lambda: it.running.router.draining)
            await it.configure(it.config([1]))
            client.raw(b'{"prompt":"x"}')
            answer = await client.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert await draining

    check()


def test_a_candidate_decides_one_request_in_sixteen_again_and_routes_none(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with delivering(tmp_path) as it:
            assert it.state.candidate is None
            files = artifact(tmp_path, 1)
            await it.deliver(lambda state: state.candidate is not None, candidate=files)
            for _ in range(3 * shadow.EVERY):
                assert (await it.ask()).fields["x-bes-policy"] == "Static(large)"
            candidate = it.state.candidate
            assert candidate is not None
            assert (candidate.digest, candidate.name) == (data_digest(files), "Learned")
            assert (candidate.decisions, candidate.failures, candidate.same_model) == (3, 0, 3)
            assert 0 < (candidate.mean_microseconds or 0) <= candidate.slowest_microseconds
            await it.configure(it.config([1]))
            after = it.state.candidate
            assert after is not None
            assert after.decisions == 3, "its figures go on with its files"
            await it.deliver(lambda state: state.candidate is None, candidate={})

    check()


class Candidate:
    """A policy for tests: raises, takes its time, or chooses what is not ready, or nothing where something was."""

    name = "Candidate"

    def __init__(self, how: str) -> None:
        self._how = how

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - a contract
        match self._how:
            case "raises":
                raise FloatingPointError("overflow")
            case "slow":
                time.sleep(0.002)
        return {"unready": Decision(0, 0), "nonsense": Decision(9, 99), "nothing": Decision(-1, -1)}.get(
            self._how, Decision(1, 1)
        )


@pytest.mark.parametrize("how", ["raises", "unready", "nonsense", "nothing", "slow", "same"])
def test_whatever_a_candidate_does_is_counted_and_costs_no_request(how: str) -> None:
    figures = shadow.ShadowFigures()
    watching = shadow.Shadow(Candidate(how), figures)
    view = LoadView([0.0] * 2, [0.0], [0.0], [0.0], [0, 1], [1], [0.0] * 2, [0.0], [-1], 0.0, 0.0, 0.0)
    request = RoutingRequest(0, 1, 1, 1.0, 1.0)
    for _ in range(shadow.EVERY):
        watching.decided(request, view, 0.0, Decision(1, 1))
    assert figures.decisions == 1
    assert figures.failures == (how in {"raises", "unready", "nonsense", "nothing"})
    assert figures.same_engine == (how in {"slow", "same"})
    assert figures.slow >= (how == "slow")
    assert bool(figures.last_failure) == bool(figures.failures)
