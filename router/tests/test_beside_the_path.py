"""What runs beside the data path: load figures, health, metrics and the admin port, the decision log, the fallback."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from router_rig import AlwaysModel, Asked, Engine, complete, live, rig, scenario_of_rig, until

from bes_api.config_map import MAX_ARTIFACT_BYTES
from bes_api.router_config import DeadlineAwarePolicy, LearnedPolicy, PolicyChoice, PricedPolicy, RouterConfig
from bes_router import decider, health
from bes_router.decision_log import DecisionLog
from bes_router.errors import StartupError
from bes_router.lease import Lease
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Decision, LoadView, RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.policy.tracker import LoadTracker
from bes_router.watch import take


@live
async def test_live_figures_reach_the_view_and_the_metrics() -> None:
    async with rig() as it:
        it.engines[0].running = 9.0
        began = time.monotonic()
        tracker = it.running.router.serving.tracker
        await until(lambda: tracker.view(time.monotonic()).load[1] > 5)
        assert tracker.view(time.monotonic()).load[1] <= 10
        text = ""
        while 'bes_router_load_figures_known{model="large",replica="0"} 1.0' not in text:
            text = (await it.admin("/metrics")).body.decode()
        age = float(text.split("\nbes_router_load_figures_age_seconds ")[1].split("\n")[0])
        assert 0 <= age <= time.monotonic() - began
        assert 'bes_router_load_source_info{source="direct"} 1.0' in text
        assert "bes_router_load_figures_coverage 1.0" in text
        assert f"bes_router_load_query_errors_total {it.running.generation.load.tally.errors:.1f}" in text
        assert float(text.split("bes_router_load_query_seconds_count ")[1].split("\n")[0]) >= 2


@live
async def test_an_unhealthy_engine_is_left_out_until_it_is_healthy_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_SECONDS", 1e6)  # only this test probes
    async with rig() as it:
        backend = it.running.router.serving.backends[1]
        assert backend is not None
        assert backend.ready
        it.engines[0].healthy = False
        probes = it.running.generation.health
        await probes.probe()
        assert backend.ready  # one bad answer is no verdict
        await probes.probe()
        assert not backend.ready
        assert (await it.ask()).status == 503
        it.engines[0].healthy = True
        await probes.probe()
        assert (await it.ask()).status == 200


@live
async def test_the_admin_port_answers_health_readiness_and_metrics_to_everybody() -> None:
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
    catalogue = catalogue_of(scenario_of_rig())
    loaded = decider.load(config(LearnedPolicy(artifact=tmp_path)), catalogue, take(tmp_path, MAX_ARTIFACT_BYTES))
    assert loaded.name == "DeadlineAware; fallback=absent"
    assert str(tmp_path) in loaded.problem


def test_a_fallback_that_cannot_be_loaded_is_one_clear_error() -> None:
    bad = config(DeadlineAwarePolicy()).model_copy(update={"fallback": PricedPolicy(parameters=(1.0,))})
    with pytest.raises(StartupError, match="fallback: Priced takes"):
        decider.load(bad, catalogue_of(bad.scenario))


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


@live
async def test_a_decision_that_the_fallback_took_says_so_wherever_it_is_told_of(tmp_path: Path) -> None:
    policy, path = Broken(None), tmp_path / "decisions.jsonl"
    log = DecisionLog(path, scenario_of_rig(), policy.name)
    async with rig(policy=policy, decisions=log) as it:
        failed = await it.ask()
        policy.engine = 1
        answers = [failed, await it.ask()]
        explained = [it.running.ring.explain(answer.fields["x-bes-decision"]) for answer in answers]
    names = ["Always; fallback=failed", "Broken"]
    assert [answer.fields["x-bes-policy"] for answer in answers] == names
    assert [found and found.policy for found in explained] == names
    assert [json.loads(line)["policy"] for line in path.read_text().splitlines()] == ["Broken", *names]


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
