"""What runs beside the data path: load figures, health, metrics and the admin port, the decision log, the fallback."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_rig import FIGURES, AlwaysModel, Asked, Engine, complete, live, rig, scenario_of_rig

from bes_api.errors import BestEffortError
from bes_api.router_config import DeadlineAwarePolicy, DirectLoad, LearnedPolicy, PolicyChoice, RouterConfig
from bes_router import decider
from bes_router.decision_log import DecisionLog
from bes_router.errors import StartupError
from bes_router.lease import Lease
from bes_router.load import DirectSource, requests_in_flight
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Decision, LoadView, RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.policy.tracker import LoadTracker

NAMES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")


def test_figures_are_summed_over_names_and_series() -> None:
    assert requests_in_flight(FIGURES % (3, 4), NAMES) == 7
    assert requests_in_flight(b'a{x="}"} 1\na{x="2"} 2.5\na_total 9\nb 4 1700000000\n', (b"a", b"b")) == 7.5


@pytest.mark.parametrize(
    "text", [b"", b"a 1\n", b"a 1\nb NaN\n", b"a 1\nb -1\n", b"a 1\nb x\n", b"a 1\nb\n", b"# a 1\nb 1\n"]
)
def test_a_figure_that_is_missing_or_nonsense_is_unknown(text: bytes) -> None:
    assert requests_in_flight(text, (b"a", b"b")) is None


@given(st.binary(max_size=100))
def test_any_exposition_is_read_or_unknown(noise: bytes) -> None:
    value = requests_in_flight(b"a 1\n" + noise, (b"a",))
    assert value is None or value >= 0


class Seen:
    """Takes figures as the tracker does, and keeps them."""

    def __init__(self, engines: int) -> None:
        self.own: list[float] = [0.0] * engines
        self.snapshots: list[tuple[list[float | None], list[float], list[float]]] = []

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Sequence[float],
        at: Sequence[float],
        served: tuple[float, float] | None = None,  # noqa: ARG002 - the tracker's signature
    ) -> None:
        self.snapshots.append((list(counts), list(own_then), list(at)))


@live
async def test_a_poll_hands_on_counts_with_own_counts_of_that_instant_and_unknown_for_the_rest() -> None:
    async with rig(complete, complete, complete) as it:
        it.engines[0].running = 5.0
        it.engines[1].running = None
        await it.engines[2].stop()
        seen = Seen(6)
        seen.own[3] = 2.0
        backends = [backend for backend in it.running.router.serving.backends if backend is not None]
        source = DirectSource(backends, 6, DirectLoad(interval_seconds=0.5), seen)
        began = time.monotonic()
        await source.poll()
        ((counts, own, at),) = seen.snapshots
        assert counts == [None, None, None, 6.0, None, None]
        assert own[3] == 2.0
        assert began <= at[3] <= time.monotonic()
        assert source.known(time.monotonic()) == [False, False, False, True, False, False]
        assert not any(source.known(time.monotonic() + 4))


@live
async def test_an_engine_that_hangs_delays_nobody_and_is_unknown() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        writer.close()

    hung = await asyncio.start_server(never, "127.0.0.1", 0)
    async with rig() as it:
        backend = it.running.router.serving.backends[1]
        assert backend is not None
        backend.port = hung.sockets[0].getsockname()[1]
        seen = Seen(2)
        began = time.monotonic()
        await DirectSource([backend], 2, DirectLoad(interval_seconds=0.1), seen).poll()
        assert time.monotonic() - began < 0.5
        assert seen.snapshots[0][0] == [None, None]
    hung.close()
    await asyncio.sleep(0.05)


@live
async def test_live_figures_reach_the_view_and_the_metrics() -> None:
    async with rig() as it:
        it.engines[0].running = 9.0
        await asyncio.sleep(0.15)
        view = it.running.router.serving.tracker.view(time.monotonic())
        assert 5 < view.load[1] <= 10
        text = (await it.admin("/metrics")).body.decode()
        assert 'bes_router_load_figures_known{model="large",replica="0"} 1.0' in text
        age = float(text.split("\nbes_router_load_figures_age_seconds ")[1].split("\n")[0])
        assert 0 <= age < 1


@live
async def test_an_unhealthy_engine_is_left_out_until_it_is_healthy_again() -> None:
    async with rig() as it:
        backend = it.running.router.serving.backends[1]
        assert backend is not None
        assert backend.ready
        it.engines[0].healthy = False
        health = it.running._health
        await health.probe()
        assert backend.ready  # one bad answer is no verdict
        await health.probe()
        assert not backend.ready
        assert (await it.ask()).status == 503
        it.engines[0].healthy = True
        await health.probe()
        assert (await it.ask()).status == 200


@live
async def test_the_admin_port_answers_health_readiness_and_metrics_only() -> None:
    async with rig() as it:
        for _ in range(3):
            await it.ask({"prompt": "x", "model": "trivia"})
        await it.ask({"prompt": "x", "model": "nonsense"})
        assert (await it.admin("/healthz")).body == b"ok\n"
        assert (await it.admin("/readyz")).status == 200
        assert (await it.admin("/v1/models")).status == 404
        lines = (await it.admin("/metrics")).body.decode().splitlines()
        for line in (
            'bes_router_requests_total{outcome="in_time",task="trivia"} 3.0',
            'bes_router_decisions_total{model="large",task="trivia"} 3.0',
            'bes_router_errors_total{reason="unknown_model"} 1.0',
            'bes_router_in_time_total{task="trivia"} 3.0',
            'bes_router_request_seconds_count{task="trivia"} 3.0',
            "bes_router_dispatch_seconds_count 3.0",
            'bes_router_policy_info{policy="Always"} 1.0',
            "bes_router_policy_is_fallback 0.0",
            'bes_router_in_flight{model="large",replica="0"} 0.0',
            'bes_router_backend_ready{model="large",replica="0"} 1.0',
            'bes_router_backend_ready{model="small",replica="0"} 0.0',
        ):
            assert line in lines
        reward = next(line for line in lines if line.startswith('bes_router_reward_total{task="trivia"}'))
        assert float(reward.split()[1]) == pytest.approx(2.4)
        assert any(line.startswith("process_resident_memory_bytes") for line in lines)


@live
async def test_logged_decisions_replay_to_the_same_choice(tmp_path: Path) -> None:
    scenario = scenario_of_rig(replicas=2, full=0.05, zero=0.3)
    catalogue = catalogue_of(scenario)
    policy = load_policy(DeadlineAwarePolicy(), scenario, catalogue)
    path = tmp_path / "decisions.jsonl"

    async def slow(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        await complete(engine, asked, writer)

    log = DecisionLog(path, scenario, policy.name)
    async with rig(slow, slow, scenario=scenario, policy=policy, decisions=log) as it:
        await asyncio.gather(*(it.ask({"prompt": "secret words" * 9, "model": "trivia"}) for _ in range(20)))
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (head["version"], head["policy"]) == (1, "DeadlineAware")
    assert type(scenario).model_validate(head["scenario"]) == scenario
    assert len(lines) == 20
    assert "secret" not in path.read_text()
    for line in lines:
        request, view = RoutingRequest(**line["request"]), LoadView(**line["view"])
        assert policy.choose(request, view, line["now"]) == Decision(**line["decision"])
        assert line["decision"]["model"] == 1


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--decision-log"):
        DecisionLog(tmp_path / "nowhere" / "log", scenario_of_rig(), "Static")


def test_a_disk_that_fails_ends_the_log_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLog(Path("/dev/full"), scenario_of_rig(), "Static")
    log.flush()
    log.close()
    assert "ends here" in caplog.text


def config(policy: PolicyChoice) -> RouterConfig:
    return RouterConfig(service="demo", scenario=scenario_of_rig(), policy=policy)


def test_an_artifact_that_cannot_be_used_means_the_fallback_and_says_so(tmp_path: Path) -> None:
    scenario = scenario_of_rig()
    catalogue = catalogue_of(scenario)
    loaded = decider.load(
        config(LearnedPolicy(artifact=tmp_path)), lambda choice: load_policy(choice, scenario, catalogue)
    )
    assert loaded.name == "DeadlineAware; fallback"
    assert str(tmp_path) in loaded.problem


def test_a_fallback_that_cannot_be_loaded_is_one_clear_error() -> None:
    def loader(choice: PolicyChoice) -> Policy:
        raise BestEffortError("no")

    with pytest.raises(StartupError, match="fallback: no"):
        decider.load(config(DeadlineAwarePolicy()), loader)


class Broken:
    """A policy that fails, or chooses what is not ready."""

    name = "Broken"

    def __init__(self, engine: int | None) -> None:
        self.engine = engine

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - a contract
        if self.engine is None:
            raise FloatingPointError("overflow")
        return Decision(0, self.engine)


@pytest.mark.parametrize("engine", [None, 0, 99])
def test_a_policy_that_fails_a_decision_does_not_fail_the_request(engine: int | None) -> None:
    @live
    async def check() -> None:
        async with rig(policy=Broken(engine)) as it:
            assert (await it.ask()).status == 200
            assert it.running.router.metrics.policy_failures == 1

    check()


def test_a_lease_is_given_back_exactly_once() -> None:
    scenario = scenario_of_rig()
    tracker = LoadTracker(catalogue_of(scenario), 0.0)
    lease = Lease(tracker, 1, 0.0)
    assert list(tracker.own) == [0.0, 1.0]
    lease.release()
    lease.release()
    assert list(tracker.own) == [0.0, 0.0]
    with pytest.raises(KeyError), Lease(tracker, 0, 0.0):
        raise KeyError
    assert tracker.in_flight == 0


def test_the_fallback_of_the_rig_is_a_policy() -> None:
    policy: Policy = AlwaysModel(scenario_of_rig(), 1)
    assert policy.name == "Always"
