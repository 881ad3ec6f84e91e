"""Every fault of the campaign: how it is made, how it ends, and which failures of clients it excuses."""

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bes_api.config_map import PASSPORT, WEIGHTS
from bes_api.router_config import LearnedPolicy, RouterConfig
from bes_lab.bench.policies import write_scorer
from bes_lab.errors import StartError
from bes_lab.faults.system import System

Act = Callable[[System], None]
VICTIM_GPU = 1
_STATES = frozenset({"refuse", "slow", "loading", "frozen-metrics"})
"""Faults that do not count requests."""


@dataclass(frozen=True)
class Step:
    """One fault. ``excuses``: of failed requests, those that the fault may cost."""

    name: str
    title: str
    begin: Act
    end: Act
    excuses: str = "none"
    """``begun``: whose answer had begun; ``own``: in flight at the router that ended; ``none``."""
    ends_router: int | None = None
    needs_prometheus: bool = False
    needs_artifact: bool = False
    hold_factor: float = 1.0
    strikes: tuple[str, int] | None = None
    """The engine whose requests are to be hit: a fault that met none of them shows nothing."""


def all_steps(model: str, replicas: int) -> list[Step]:
    """In the order in which they are made; ``model``: whose engines misbehave, one after the other."""
    return [*_processes(), *_deliveries(), *_figures(), *_engine(model, replicas)]


def _nothing(_: System) -> None:
    """Ended by itself."""


def _processes() -> list[Step]:
    def ready(system: System, backends: int) -> None:
        system.each(lambda said: said.values["bes_router_backend_ready"] >= backends, "all backends were ready again")

    def return_gpu(system: System) -> None:
        system.service.return_gpu(VICTIM_GPU)
        ready(system, sum(len(gpu.engines) for gpu in system.service.addresses))

    def end(how: int, code: int) -> Act:
        def act(system: System) -> None:
            found = system.service.end_router(1, how)
            if found != code:
                raise StartError(f"a router ended with exit code {found}, expected {code}")

        return act

    def back(system: System) -> None:
        system.service.return_router(1)

    return [
        Step(
            "gpu-kill",
            "kill -9 of one of the GPU processes, then its return",
            lambda system: system.service.kill_gpu(VICTIM_GPU),
            return_gpu,
            excuses="begun",
        ),
        Step(
            "router-kill",
            "kill -9 of a router beside another, then its return",
            end(signal.SIGKILL, -signal.SIGKILL),
            back,
            excuses="own",
            ends_router=1,
        ),
        Step(
            "router-term",
            "SIGTERM of a router with streams open, then its return",
            end(signal.SIGTERM, 0),
            back,
            ends_router=1,
        ),
    ]


def _deliveries() -> list[Step]:
    kept: dict[str, RouterConfig | bytes] = {}

    def other_limits(system: System) -> None:
        system.configure(
            lambda config: config.model_copy(
                update={
                    "policy": config.fallback,
                    "limits": config.limits.model_copy(update={"max_body_bytes": 1 << 20}),
                    "explain_headers": True,
                }
            )
        )

    def limits_back(system: System) -> None:
        policy = system.plan.policy if system.artifact is None else LearnedPolicy(artifact=system.artifact)
        system.configure(lambda config: config.model_copy(update={"policy": policy}))

    def broken_config(system: System) -> None:
        for router in system.routers:
            path = system.service.config_file(router)
            kept[path.name] = path.read_bytes()
            path.write_bytes(path.read_bytes()[:-300])
        system.each(lambda said: said.values["bes_router_configuration_refused"] == 1, "a broken one was refused")

    def config_back(system: System) -> None:
        for router in system.routers:
            path = system.service.config_file(router)
            content = kept[path.name]
            path.write_bytes(content if isinstance(content, bytes) else b"")
        system.each(lambda said: said.values["bes_router_configuration_refused"] == 0, "the former one was taken")

    def spoilt(spoil: Callable[[System, Path], None]) -> Act:
        def act(system: System) -> None:
            spoil(system, _artifact(system))
            _falls_back(system, True)

        return act

    steps = [
        ("truncated", "its weights cut off", _truncate),
        ("corrupted", "a few bytes of its weights turned", _corrupt),
        ("misfit", "an artifact of another layout", _misfit),
        ("removed", "its files gone", _remove),
    ]
    return [
        Step("config", "another configuration (policy, limits) and back", other_limits, limits_back),
        Step("config-broken", "a configuration that is cut off, then the former one", broken_config, config_back),
        Step("policy-swapped", "another policy in place of the one that serves", _swap, _restore, needs_artifact=True),
        Step(
            "policy-foreign", "the policy of another service, which a scorer can be; then restored", _foreign, _restore,
            needs_artifact=True,
        ),
        *(
            Step(
                f"policy-{name}", f"the policy's folder: {what}; then restored", spoilt(act), _restore,
                needs_artifact=True,
            )
            for name, what, act in steps
        ),
    ]  # fmt: skip


def _artifact(system: System) -> Path:
    if system.artifact is None:
        raise StartError("this campaign runs without an artifact")
    return system.artifact


def _falls_back(system: System, wanted: bool) -> None:
    system.each(lambda said: said.values["bes_router_policy_is_fallback"] == wanted, f"fallback decides: {wanted}")


def _deliver(system: System, files: Path, what: str) -> None:
    """Put ``files`` into the policy's folder, one by one as `cp` does, and wait until the routers decide by them."""
    before = [system.figures(router).values["bes_router_deliveries_total"] for router in system.routers]
    shutil.copytree(files, _artifact(system), dirs_exist_ok=True)

    def applied() -> bool:
        now = [system.figures(router).values["bes_router_deliveries_total"] for router in system.routers]
        return all(new > old for new, old in zip(now, before, strict=True))

    system.until(applied, what)
    _falls_back(system, False)


def _swap(system: System) -> None:
    made = system.folder / "artifact-other"
    write_scorer(made, system.plan.scenario, 7)
    _deliver(system, made, "the other policy decides")


def _foreign(system: System) -> None:
    scenario, made = system.plan.scenario, system.folder / "artifact-foreign"
    tasks = [task.model_copy(update={"name": f"{task.name}-elsewhere"}) for task in scenario.tasks]
    write_scorer(made, scenario.model_copy(update={"tasks": tuple(tasks), "default_task": tasks[0].name}), 8)
    _deliver(system, made, "the other service's policy decides")


def _restore(system: System) -> None:
    _deliver(system, system.folder / "artifact-original", "the former policy decides again")


def _truncate(_: System, folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _corrupt(_: System, folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 8):
        content[at] ^= 0xFF
    (folder / WEIGHTS).write_bytes(bytes(content))


def _misfit(_: System, folder: Path) -> None:
    passport = json.loads((folder / PASSPORT).read_text(encoding="utf-8"))
    passport["feature_names"] = passport["feature_names"][::-1]
    (folder / PASSPORT).write_text(json.dumps(passport), encoding="utf-8")


def _remove(_: System, folder: Path) -> None:
    for name in (PASSPORT, WEIGHTS):
        (folder / name).unlink()


def _figures() -> list[Step]:
    def frozen(system: System) -> None:
        for gpu in system.service.addresses:
            for engine in gpu.engines:
                system.misbehave(engine, kind="frozen-metrics")

    def thawed(system: System) -> None:
        for gpu in system.service.addresses:
            for engine in gpu.engines:
                system.behave(engine)

    def back(system: System) -> None:
        system.service.start_prometheus()
        system.service.wait_for_figures()

    return [
        Step(
            "prometheus",
            "Prometheus stopped, then back",
            lambda system: system.service.stop_prometheus(),
            back,
            needs_prometheus=True,
            hold_factor=2.0,
        ),
        Step("figures-frozen", "every engine's load figures frozen", frozen, thawed, hold_factor=2.0),
    ]


def _engine(model: str, replicas: int) -> list[Step]:
    kinds: list[tuple[str, str, str, dict[str, object]]] = [
        ("refuse", "refuses connections, as while it loads", "begun", {"for_seconds": 2.0}),
        ("stall", "accepts and never answers", "silent", {}),
        ("busy", "answers 503", "none", {"status": 503}),
        ("die", "resets before its first byte", "none", {}),
        ("die-midway", "resets in the middle of answers", "begun", {"kind": "die", "after_bytes": 400}),
        ("slow", "is 20 times as slow", "none", {"factor": 20.0}),
        ("loading", "answers 503 on every page", "none", {}),
        ("frozen-metrics", "has frozen load figures", "none", {}),
        ("wrong-length", "says longer lengths than it sends", "begun", {"by": 9}),
        ("too-short", "says shorter lengths than it sends", "begun", {"kind": "wrong-length", "by": -9}),
        ("garbage", "sends noise", "none", {}),
        ("two-lengths", "states two lengths", "none", {}),
        ("length-and-chunked", "states a length and chunks", "none", {}),
    ]

    def step(number: int, name: str, what: str, excuses: str, settings: Mapping[str, object]) -> Step:
        replica = number % replicas

        def begin(system: System) -> None:
            system.misbehave(system.engine(model, replica), **{"kind": name, **settings})

        def end(system: System) -> None:
            system.behave(system.engine(model, replica))

        title = f"an engine {what}"
        return Step(f"engine-{name}", title, begin, end, excuses, strikes=None if name in _STATES else (model, replica))

    return [step(number, *each) for number, each in enumerate(kinds)]
