"""A router whose engines are pods: they come, go and are replaced under traffic, and no request is lost by it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from router_rig import (
    NO_DIGEST,
    PATIENCE_SECONDS,
    AlwaysModel,
    Answer,
    Behaviour,
    Engine,
    Rig,
    live,
    patient,
    scenario_of_rig,
    until,
)
from slice_server import NAMESPACE, Fault, SliceServer, answering, endpoint, slice_of, slice_server
from steady_traffic import Held, Traffic, quick

from bes_api.discovery_config import EndpointSlices, ServedModel
from bes_api.router_config import DirectLoad, Limits, RouterConfig, StaticPolicy
from bes_api.router_status import RouterStatus
from bes_router import generation, running, status
from bes_router.backends import Backend
from bes_router.decider import Loaded
from bes_router.delivery import Delivered
from bes_router.ejection import Cause, Phase
from bes_router.errors import StartupError
from bes_router.policy.catalogue import catalogue_of
from bes_router.running import RunningRouter

SERVICE = "opt-large"


def delivered(
    replicas: int, *, max_in_flight: int = 64, limits: Limits | None = None, service: str = SERVICE
) -> Delivered:
    scenario = scenario_of_rig(replicas, max_in_flight)
    config = RouterConfig(
        service="demo",
        scenario=scenario,
        discovery=EndpointSlices(
            namespace=NAMESPACE, engines=(ServedModel(model="large", service=service, served_model="org/large"),)
        ),
        load=DirectLoad(interval_seconds=0.2, stale_after_seconds=PATIENCE_SECONDS),
        policy=StaticPolicy(model="large"),
        limits=limits or Limits(),
    )
    policy = AlwaysModel(scenario, 1)
    return Delivered(config, catalogue_of(scenario), Loaded(policy, policy), NO_DIGEST)


@dataclass
class Pods(Rig):
    """Engines by the name of their pod, and the API server that knows of them."""

    api: SliceServer = field(init=False)
    pods: dict[str, Engine] = field(default_factory=dict)

    async def create(self, name: str, behaviour: Behaviour = quick, *, ready: bool | None = True) -> Engine:
        engine = self.pods[name] = Engine(behaviour)
        await engine.start()
        self.engines.append(engine)
        self.say(name, ready=ready)
        return engine

    def say(self, name: str, **conditions: Any) -> None:
        self.api.put(slice_of(SERVICE, name, self.pods[name].port, endpoint(name, **conditions)))

    async def end(self, name: str) -> None:
        """As a pod ends: it terminates while it still serves, finishes what it has, and is gone."""
        engine = self.pods[name]
        self.say(name, ready=False, serving=True, terminating=True)
        await until(lambda: self.backend(name) is None)
        await until(lambda: not engine.connections)
        await engine.stop()
        self.api.remove(name)

    def backend(self, name: str) -> Backend | None:
        return next((each for each in self.running.generation.backends if each.listed.join == name), None)

    async def serves(self, *names: str) -> None:
        await until(
            lambda: (
                sorted(each.listed.join or "" for each in self.running.generation.backends if each.ready)
                == sorted(names)
            )
        )

    @property
    def state(self) -> RouterStatus:
        return status.status_of(self.running)


@contextlib.asynccontextmanager
async def pods(
    folder: Path, *names: str, replicas: int = 2, fault: Fault | None = None, **config: Any
) -> AsyncIterator[Pods]:
    """A router for up to ``replicas`` pods, of which ``names`` are ready; ``fault``: of the API server, always."""
    with patient():
        async with slice_server(folder) as api:
            api.always = fault
            it = Pods(None, 0, 0, [])  # type: ignore[arg-type]  # set below: the router starts when its pods run
            it.api = api
            for name in names:
                await it.create(name)
            it.running = RunningRouter(delivered(replicas, **config), server=api.server)
            await it.running.start()
            it.port, it.admin_port = it.running.ports
            try:
                yield it
            finally:
                for client in it.clients:
                    client.close()
                await it.running.close()
                for engine in it.engines:
                    await engine.stop()
                await asyncio.sleep(0.01)


@live
async def roll(root: Path) -> None:
    async with pods(root, "a1", "b1", replicas=2) as it:
        traffic = Traffic(it)
        await traffic.goes_on()
        for round_ in range(2, 5):
            for place in "ab":
                old, new = f"{place}{round_ - 1}", f"{place}{round_}"
                await it.create(new, ready=False)  # the one that is new starts
                await traffic.goes_on(5)
                assert it.backend(new) is None, "there is no replica for it yet"
                it.say(new)
                await it.end(old)
                await until(lambda name=new: (found := it.backend(name)) is not None and found.ready)  # type: ignore[misc]
                await traffic.goes_on(5)
        await traffic.end()
        await it.settle()
        assert set(traffic.statuses) == {200}
        assert it.state.errors == {}
        assert it.own == [0.0] * 4
        assert all(engine.asked for engine in it.engines)
        (chatter, _) = it.state.tasks
        assert chatter.requests == chatter.in_time == len(traffic.statuses)


def test_no_request_fails_while_every_pod_of_a_model_is_replaced_again_and_again(tmp_path: Path) -> None:
    roll(tmp_path)


@live
async def without_surge(root: Path) -> None:
    async with pods(root, "a1", "b1", "c1", replicas=3) as it:
        traffic = Traffic(it)
        for place in "abc":
            await it.end(f"{place}1")
            await it.create(f"{place}2", ready=False)
            await until(lambda name=f"{place}2": it.backend(name) is not None)  # type: ignore[misc]
            found = it.backend(f"{place}2")
            assert found is not None
            await traffic.goes_on(5)
            assert not found.ready, "kubelet does not call it ready yet, whatever it answers"
            assert not it.pods[f"{place}2"].asked
            it.say(f"{place}2")
            await until(lambda each=found: each.ready)  # type: ignore[misc]
        await traffic.goes_on()
        await traffic.end()
        assert set(traffic.statuses) == {200}
        assert it.state.errors == {}


def test_no_request_fails_while_pods_are_replaced_with_none_to_spare(tmp_path: Path) -> None:
    without_surge(tmp_path)


@live
async def keeps(root: Path) -> None:
    async with pods(root, "a", "b", replicas=3) as it:
        for _ in range(8):
            assert (await it.ask()).status == 200
        stays = it.backend("b")
        assert stays is not None
        held = Held()
        it.pods["b"].behaviour = held
        it.pods["a"].healthy = False
        it.say("a", ready=False)
        await it.serves("b")
        asking = asyncio.create_task(it.ask())
        await until(lambda: it.in_flight == 1)
        view = it.running.generation.serving.tracker.view
        rate, accepted = view(time.monotonic()).rate_slow, it.pods["b"].accepted
        good, ratios = stays.standing.good, list(stays.standing._ratios)
        tracker, serving = it.running.generation.serving.tracker, it.running.router.serving
        it.api.remove("a")
        await it.create("c")
        await it.serves("b", "c")
        assert it.running.router.serving is serving
        assert it.running.generation.serving.tracker is tracker
        assert it.backend("b") is stays
        assert (stays.standing.good, list(stays.standing._ratios)) == (good, ratios)
        assert rate > 0
        assert it.in_flight == 1
        held.release.set()
        assert (await asking).status == 200
        assert it.pods["b"].accepted <= accepted + 1, "kept connections are used on"


def test_what_is_known_of_the_engines_that_stay_is_kept(tmp_path: Path) -> None:
    keeps(tmp_path)


@live
async def departs(root: Path) -> None:
    async with pods(root, "a", replicas=1, max_in_flight=2) as it:
        held = Held()
        it.pods["a"].behaviour = held
        asking = asyncio.create_task(it.ask())
        await until(lambda: it.in_flight == 1)
        first = it.backend("a")
        it.say("a", ready=False, serving=True, terminating=True)
        await until(lambda: it.backend("a") is None)
        assert (await it.ask()).status == 503
        answer = await it.ask()
        assert answer.fields["retry-after"]
        await it.create("b", held)
        await it.serves("b")
        found = it.backend("b")
        assert first is not None
        assert found is not None
        assert found.engine == first.engine, "its replica was free at once"
        assert it.own == [0.0, 0.0], "what its predecessor still does is not its load"
        assert (it.in_flight, it.running.generation.serving.in_flight) == (0, 1)
        other = asyncio.create_task(it.ask())
        await until(lambda: it.in_flight == 1)
        assert (await it.ask()).status == 429, "but it is held here all the same"
        held.release.set()
        assert [(await asking).status, (await other).status] == [200, 200]
        await until(lambda: not it.pods["a"].connections)
        assert it.running.generation.serving.in_flight == 0


def test_a_pod_that_terminates_finishes_what_it_has_while_another_takes_its_replica(tmp_path: Path) -> None:
    departs(tmp_path)


@live
async def ejected(root: Path) -> None:
    async with pods(root, "a", "b", replicas=2) as it:
        found = it.backend("a")
        assert found is not None
        now = time.monotonic()
        judgement = it.running.generation.serving._judgement
        judgement._do(found, found.standing.eject(Cause.FAILING, now))
        await it.serves("b")
        assert "bes_router_backend_out{" in (await it.admin("/metrics")).body.decode()
        await it.end("a")
        assert "bes_router_backend_out{" not in (await it.admin("/metrics")).body.decode()
        found.probed_at = now + 1000.0
        it.running.generation.serving.sweep(now + 1000.0)  # its time out would be over
        assert found.standing.phase is Phase.EJECTED, "nobody judges it any more"
        await it.create("c")
        await it.serves("b", "c")


def test_a_pod_that_was_kept_out_takes_that_with_it(tmp_path: Path) -> None:
    ejected(tmp_path)


@live
async def forgotten(root: Path) -> None:
    async with pods(root, "a", replicas=1, max_in_flight=1) as it:
        held = Held()
        it.pods["a"].behaviour = held
        asking = asyncio.create_task(it.ask())
        await until(lambda: it.in_flight == 1)
        await it.running.adopt(delivered(1, max_in_flight=1, service="opt-other"))
        assert it.running.generation.backends == []
        assert (it.in_flight, it.state.in_flight) == (0, 1)
        assert (await it.ask()).status == 429
        held.release.set()
        assert (await asking).status == 200
        await until(lambda: it.state.in_flight == 0)
        assert (await it.ask()).status == 503


def test_requests_at_pods_that_a_new_configuration_does_not_list_still_count_for_admission(tmp_path: Path) -> None:
    forgotten(tmp_path)


@live
async def outage(root: Path) -> None:
    async with pods(root, "a", "b", replicas=2) as it:
        traffic = Traffic(it)
        await it.api.stop()
        await until(lambda: it.state.discovery.failures > 2)
        await traffic.goes_on()
        state = it.state.discovery
        assert "Cannot connect" in (state.problem or "")
        assert state.age_seconds is not None
        metrics = (await it.admin("/metrics")).body.decode()
        assert "\nbes_router_discovery_current 0.0\n" in metrics
        assert "\nbes_router_discovery_age_seconds " in metrics
        assert 'bes_router_discovery_info{source="endpointslices"} 1.0' in metrics
        assert (await it.admin("/readyz")).status == 200
        await it.pods["a"].stop()  # dies while nobody can say so
        await until(lambda: (found := it.backend("a")) is not None and not found.ready)
        await traffic.goes_on()
        await it.api.start()
        await until(lambda: it.state.discovery.problem is None)
        await traffic.end()
        assert set(traffic.statuses) == {200}
        assert "\nbes_router_discovery_current 1.0\n" in (await it.admin("/metrics")).body.decode()


def test_while_the_api_server_is_away_requests_go_on_and_probes_tell_who_died(tmp_path: Path) -> None:
    outage(tmp_path)


@live
async def reconfigured(root: Path) -> None:
    async with pods(root, "a", "b", replicas=2) as it:
        traffic = Traffic(it)
        await traffic.goes_on()
        await it.running.adopt(delivered(3))
        assert {each.listed.join for each in it.running.generation.backends} == {"a", "b"}
        await traffic.goes_on()
        it.api.always = answering(500)
        await it.running.adopt(delivered(2, limits=Limits(idle_timeout_seconds=9.0)))
        assert it.state.discovery.problem
        await it.serves("a", "b")
        await traffic.goes_on()
        it.api.always = None
        await until(lambda: it.state.discovery.problem is None)
        await traffic.end()
        assert set(traffic.statuses) == {200}
        await until(lambda: it.api.watching == 1)  # those of the configurations before are over


def test_a_new_configuration_serves_on_with_the_pods_that_are_known_also_without_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "FIRST_FOUND_SECONDS", 0.3)
    reconfigured(tmp_path)


@live
async def starts_alone(root: Path) -> None:
    async with pods(root, replicas=1, fault=answering(503)) as it:
        answer = await it.ask()
        assert (answer.status, "retry-after" in answer.fields) == (503, True)
        assert (await it.admin("/readyz")).status == 200
        assert "\nbes_router_discovery_age_seconds " not in (await it.admin("/metrics")).body.decode()
        await it.create("a")
        it.api.always = None
        await it.serves("a")
        assert (await it.ask()).status == 200


def test_without_the_api_server_a_router_starts_with_nobody_and_serves_as_soon_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "FIRST_FOUND_SECONDS", 0.1)
    starts_alone(tmp_path)


@live
async def surplus(root: Path) -> None:
    async with pods(root, "a", "b", replicas=1) as it:
        assert it.state.discovery.waiting == 1
        assert it.state.backends_listed == 1
        assert "\nbes_router_discovery_waiting 1.0\n" in (await it.admin("/metrics")).body.decode()
        await it.end("a")
        await it.serves("b")
        assert it.state.discovery.waiting == 0
        await it.end("b")
        assert it.state.discovery.without_endpoints == (SERVICE,)


def test_pods_beyond_the_range_wait_and_status_says_so(tmp_path: Path) -> None:
    surplus(tmp_path)


@live
async def newcomers_figures(root: Path) -> None:
    async with pods(root, "a", replicas=1) as it:
        board = it.running.generation.load.board
        it.pods["a"].running = 7.0
        await until(lambda: bool(board.known(0.0)[1]) and board._readings[1].in_flight == 8.0)  # type: ignore[union-attr]
        gone = asyncio.Event()

        async def never(*_: Any) -> None:
            await gone.wait()

        await it.end("a")
        await it.create("b", never)
        it.pods["b"].running = None
        await it.serves("b")
        assert board._readings[1] is None, "its predecessor's figure is not its own"
        gone.set()


def test_figures_of_a_pod_are_not_taken_for_those_of_the_next_at_its_place(tmp_path: Path) -> None:
    newcomers_figures(tmp_path)


def test_outside_a_cluster_endpoint_slices_are_refused_with_the_mend() -> None:
    @live
    async def check() -> None:
        with pytest.raises(StartupError, match="run it in a pod, or list the backends"):
            RunningRouter(delivered(1))

    check()


@live
async def leaves(root: Path) -> None:
    async with pods(root, "a", replicas=1, limits=Limits(propagation_seconds=1.0)) as it:
        kept = await it.client()
        kept.post({"prompt": "x"})
        assert (await kept.answer()).fields.get("connection") != "close"
        draining = asyncio.create_task(it.running.drain())
        await until(lambda: it.state.draining)
        assert (await it.admin("/readyz")).status == 503
        answers: list[Answer] = [await it.ask() for _ in range(5)]  # whoever has not heard comes all the same
        kept.post({"prompt": "x"})
        answers.append(await kept.answer())
        assert {(answer.status, answer.fields["connection"]) for answer in answers} == {(200, "close")}
        late = await it.client()  # accepted while it may be, and asks when nobody else is
        await until(lambda: not it.running._servers[0].is_serving())
        late.post({"prompt": "x"})
        assert (await late.answer()).status == 200
        assert await draining
        with pytest.raises(OSError, match="onnect"):
            await it.client()


def test_a_router_that_ends_is_not_ready_but_serves_whoever_comes_until_all_have_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "JUST_NOW_SECONDS", PATIENCE_SECONDS)
    leaves(tmp_path)


@pytest.mark.slow
def test_as_a_module_in_a_pod_it_starts_while_its_api_server_is_away(tmp_path: Path) -> None:
    delivered(1).config.write(tmp_path / "router.json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {**os.environ, "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    command = [sys.executable, "-m", "bes_router", "--config", str(tmp_path / "router.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        with urlopen(line.split("admin ")[1].strip(" )\n") + "/metrics") as answer:  # noqa: S310 - our own loopback URL
            assert b"\nbes_router_discovery_current 0.0\n" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        said = process.communicate()[1]
        assert b"Traceback" not in said
        assert said.count(b"which engines run is as it was last known") == 1


def test_as_a_module_outside_a_cluster_it_says_what_to_mend_in_one_line(tmp_path: Path) -> None:
    delivered(1).config.write(tmp_path / "router.json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    command = [sys.executable, "-m", "bes_router", "--config", str(tmp_path / "router.json")]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert "KUBERNETES_SERVICE_HOST is not set" in ended.stderr
    assert len(ended.stderr.splitlines()) <= 2
