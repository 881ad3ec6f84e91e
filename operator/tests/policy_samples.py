"""A small world for the way of a policy: artifacts made by hand, Jobs that end, routers that report, a clock."""

import gzip
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from desired_samples import EMULATED, SETTINGS, UID, changed, profiles_in, service_in

from bes_api.artifact import digest_of
from bes_api.config_map import PASSPORT, REPORT, WEIGHTS, data_digest, data_of, files_in
from bes_api.passport import Passport, TrainingSummary, TunedRule
from bes_api.report import EvaluationReport, WorkloadOutcome
from bes_api.router_config import Placement
from bes_api.router_status import RouterStatus
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService
from bes_operator.labels import COMPONENT, Component, child_labels
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.policy.plan import plan
from bes_operator.policy.seen import PolicyPlan, PolicySeen, RouterSeen
from bes_operator.policy.training_job import SCENARIO_ANNOTATION
from bes_operator.settings import OperatorSettings

NAMESPACE = "apps"
BEGIN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FEATURES = tuple(f"feature{index}" for index in range(24))
UNITS = 2
COMPARATOR = "PricedGated/Bunched (tuned)"


def safetensors(tensors: Mapping[str, tuple[tuple[int, ...], Sequence[float]]]) -> bytes:
    """The file's form, written out: https://github.com/huggingface/safetensors#format."""
    header: dict[str, Any] = {}
    numbers = b""
    for name, (shape, values) in tensors.items():
        content = struct.pack(f"<{len(values)}d", *values)
        header[name] = {
            "dtype": "F64",
            "shape": list(shape),
            "data_offsets": [len(numbers), len(numbers) + len(content)],
        }
        numbers += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def weights(seed: float = 0.5) -> bytes:
    width = len(FEATURES)
    shapes = {"linear": (2, width), "hidden": (UNITS, width), "bias": (UNITS,), "out": (2, UNITS)}
    return safetensors({name: (shape, [seed] * math.prod(shape)) for name, shape in shapes.items()})


def passport(scenario: Scenario, content: bytes, **changes: Any) -> Passport:
    models = tuple(model.name for model in scenario.models)
    values: dict[str, Any] = {
        "kind": "Learned",
        "layout": "candidate/2",
        "feature_names": FEATURES,
        "feature_offset": (0.0,) * len(FEATURES),
        "feature_scale": (1.0,) * len(FEATURES),
        "models": models,
        "tasks": tuple(task.name for task in scenario.tasks),
        "scenario_hash": scenario.content_hash(),
        "seeds": (1,),
        "weights_sha256": digest_of(content),
        "base_parameters": (0.0,) * 15,
        "guessed_base_parameters": (0.0,) * 15,
        "tuned_rules": {
            "PricedGated/Bunched": TunedRule(placement=Placement.BUNCHED, parameters=(1.0, 2.0, 3.0)),
            "Threshold/LeastLoaded": TunedRule(parameters=(9.0,)),
            "Static(opt-1.3b)/Bunched": TunedRule(placement=Placement.BUNCHED, parameters=(55.0, 1.0)),
        },
        "training": TrainingSummary(learner="Evolution", decisions=1000, seconds=1.0, seed=1),
    }
    return Passport(**(values | changes))


def outcome(workload: str, policy: str, performance: float, differs: float | None = None) -> WorkloadOutcome:
    return WorkloadOutcome(
        workload=workload,
        policy=policy,
        seed=1,
        requests=100,
        performance=performance,
        in_time=1.0,
        windows_above_96=0.0,
        windows_above_98=0.0,
        differs=differs,
    )


def report(scenario: Scenario, gains: Sequence[float], differs: float = 0.5, **changes: Any) -> EvaluationReport:
    """Workload i: the comparator earns .8, the candidate ``gains[i]`` more."""
    rules = ["DeadlineAware", "Threshold/LeastLoaded (tuned)", *(f"Static({each.name})" for each in scenario.models)]
    validation = [outcome(f"v{index}", COMPARATOR, 0.8) for index in range(3)]
    validation += [outcome(f"v{index}", rule, 0.7) for index in range(3) for rule in rules]
    outcomes = [outcome(f"w{index}", COMPARATOR, 0.8) for index in range(len(gains))]
    outcomes += [outcome(f"w{index}", "Learned", 0.8 + gain, differs) for index, gain in enumerate(gains)]
    values: dict[str, Any] = {
        "scenario_hash": scenario.content_hash(),
        "base_rate": 60.0,
        "outcomes": tuple(outcomes),
        "validation": tuple(validation),
        "comparator": COMPARATOR,
    }
    return EvaluationReport(**(values | changes))


def artifact(
    scenario: Scenario, gain: float = 0.03, seed: float = 0.5, said: EvaluationReport | None = None, **changes: Any
) -> dict[str, bytes]:
    """Files of an artifact that beats its rule by ``gain`` on each of 37 workloads, give or take."""
    content = weights(seed)
    said = said or report(scenario, [gain + 0.001 * (index % 3 - 1) for index in range(37)])
    return {
        WEIGHTS: content,
        PASSPORT: passport(scenario, content, **changes).model_dump_json().encode(),
        REPORT: gzip.compress(said.model_dump_json().encode(), mtime=0),
    }


@dataclass
class World:
    """Objects by key as the API server would hold them, and everybody else in it."""

    service: BestEffortService = field(default_factory=lambda: service_in(EMULATED))
    settings: OperatorSettings = SETTINGS
    now: datetime = BEGIN
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    pods: list[Manifest] = field(default_factory=list)
    others: list[Manifest] = field(default_factory=list)
    """Training Jobs of other services."""
    routers: int = 2
    decisions: int = 0
    """Of each router, in shadow."""
    trouble: dict[str, Any] = field(default_factory=dict)
    """Fields of every router's candidate status."""
    silent: bool = False
    """Routers say nothing."""
    blind: bool = False
    """A profile cannot be read."""
    events: list[tuple[str, str]] = field(default_factory=list)
    last: PolicyPlan | None = None
    _made: int = 0

    @property
    def scenario(self) -> Scenario:
        return scenario_of(self.service, {})

    def seen(self) -> PolicySeen:
        jobs = [each for key, each in self.objects.items() if key.kind == "Job"]
        labels = {key: each["metadata"].get("labels", {}) for key, each in self.objects.items()}
        policies = [key for key in labels if key.kind == "ConfigMap" and labels[key].get(COMPONENT) == Component.POLICY]
        imported = self.service.spec.policy.source.imported
        return PolicySeen(
            service=self.service,
            namespace=NAMESPACE,
            uid=UID,
            scenario=None if self.blind else self.scenario,
            settings=self.settings,
            now=self.now,
            config_maps=tuple(self.objects[key] for key in policies),
            jobs=tuple(jobs),
            pods=tuple(self.pods),
            trainings=(*jobs, *self.others),
            imported=self.objects.get(Key("ConfigMap", NAMESPACE, imported.config_map_name)) if imported else None,
            routers=tuple(self._router(index) for index in range(self.routers)),
            previous=self.last.status if self.last is not None else None,
        )

    def turn(self) -> PolicyPlan:
        """One pass: plan, carry out, and what desired does with the routers' folders."""
        found = plan(self.seen())
        for step in found.steps:
            self._apply(step.manifest)
        for deletion in found.deletions:
            self.delete(deletion.key)
        for name, files in (("active", found.part.active), ("candidate", found.part.candidate)):
            self._apply(self.config_map(f"demo-{name}", files, owner=UID))
        self._prune(found)
        self.events += [(each.reason, each.message) for each in found.events]
        self.last = found
        return found

    def settle(self, passes: int = 12) -> PolicyPlan:
        """Passes until one changes nothing; the one after it must then ask for the same and tell nothing."""
        for _ in range(passes):
            before = json.dumps([self.objects[key] for key in sorted(self.objects)])
            found = self.turn()
            if before == json.dumps([self.objects[key] for key in sorted(self.objects)]):
                assert plan(self.seen()) == replace(found, events=())
                return found
        raise AssertionError("it never comes to rest")

    def later(self, **duration: float) -> "World":
        self.now += timedelta(**duration)
        return self

    def change(self, change: Any) -> "World":
        self.service = changed(self.service, change)
        return self

    def config_map(self, name: str, files: Mapping[str, bytes], owner: str, **changes: Any) -> dict[str, Any]:
        labels = dict(child_labels("demo", Component.POLICY))
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": [{"uid": owner}]}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **data_of(files), **changes}

    def job(self) -> dict[str, Any]:
        """The Job of the scenario as it is now."""
        found = [each for key, each in self.objects.items() if key.kind == "Job"]
        wanted = self.scenario.content_hash()
        return next(each for each in found if each["metadata"]["annotations"][SCENARIO_ANNOTATION] == wanted)

    def train(self, files: Mapping[str, bytes], said: str | None = None) -> str:
        """Let the Job create its artifact, say ``said`` (or the digest), and succeed."""
        job, digest = self.job(), data_digest(files)
        assert job["spec"]["suspend"] is False
        name = f"demo-policy-{digest.removeprefix('sha256:')[:16]}"
        self.put(self.config_map(name, files, owner=job["metadata"]["uid"], immutable=True))
        self.end_pod(job, said if said is not None else digest)
        job["status"] = {"conditions": [self._condition("Complete")], "succeeded": 1}
        return digest

    def end_pod(
        self, job: Manifest, said: str, code: int = 0, phase: str = "Succeeded", owner: str | None = None
    ) -> None:
        owners = [{"kind": "Job", "uid": owner or job["metadata"]["uid"], "controller": True}]
        ended = {"terminated": {"exitCode": code, "message": said}}
        status = {"phase": phase, "containerStatuses": [{"name": "training", "state": ended, "restartCount": 0}]}
        self.pods.append({"kind": "Pod", "metadata": {"name": "p", "ownerReferences": owners}, "status": status})

    def fail(self, message: str) -> None:
        job = self.job()
        self.end_pod(job, message, code=2, phase="Failed")
        job["status"] = {"conditions": [self._condition("Failed", message="BackoffLimitExceeded")]}

    def put(self, manifest: dict[str, Any]) -> None:
        self._apply(manifest)

    def delete(self, key: Key) -> None:
        """With what only it owned, as garbage collection does."""
        gone = self.objects.pop(key, None)
        uid = gone["metadata"].get("uid") if gone else None
        for other in list(self.objects.values()):
            owners = other["metadata"].get("ownerReferences", [])
            left = [each for each in owners if each["uid"] != uid]
            if owners and not left:
                del self.objects[key_of(other)]
            other["metadata"]["ownerReferences"] = left

    def files(self, name: str) -> dict[str, bytes]:
        return files_in(self.objects[Key("ConfigMap", NAMESPACE, f"demo-{name}")])

    def told(self) -> list[str]:
        return [reason for reason, _ in self.events]

    def _condition(self, kind: str, message: str = "") -> dict[str, Any]:
        at = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": kind, "status": "True", "lastTransitionTime": at, "message": message}

    def _prune(self, found: PolicyPlan) -> None:
        """What the loop does with labelled objects of the service that nobody intends."""
        intended = {key_of(step.manifest) for step in found.steps} | found.kept
        intended |= {Key("ConfigMap", NAMESPACE, f"demo-{name}") for name in ("active", "candidate")}
        for key, each in list(self.objects.items()):
            ours = any(owner["uid"] == UID for owner in each["metadata"].get("ownerReferences", []))
            if ours and key not in intended:
                self.delete(key)

    def _apply(self, manifest: Manifest) -> None:
        """Server-side apply as far as it matters here: leaves are set, owners are merged by uid, data is replaced."""
        key, new = key_of(manifest), json.loads(json.dumps(manifest))
        live = self.objects.get(key)
        if live is None:
            self._made += 1
            new["metadata"] |= {"uid": f"uid-{self._made}", "creationTimestamp": self.now.isoformat()}
            self.objects[key] = new
            return
        if live.get("immutable"):
            assert all(new.get(part) in (None, live.get(part)) for part in ("data", "binaryData")), "it is immutable"
        owners = {each["uid"]: each for each in live["metadata"].get("ownerReferences", [])}
        owners |= {each["uid"]: each for each in new["metadata"].get("ownerReferences", [])}
        live["metadata"] |= {**new["metadata"], "ownerReferences": list(owners.values())}
        if key.kind == "Job":
            live["spec"] |= new["spec"]
        else:
            for part in ("data", "binaryData"):
                live.pop(part, None)
                if part in new:
                    live[part] = new[part]

    def _router(self, index: int) -> RouterSeen:
        if self.silent:
            return RouterSeen(f"router-{index}")
        active, candidate = self._folder("demo-active"), self._folder("demo-candidate")
        said: dict[str, Any] = {
            "service": "demo",
            "boot_id": str(index),
            "started_at": 0.0,
            "uptime_seconds": 1.0,
            "ready": True,
            "draining": False,
            "configuration": {"digest": "sha256:" + "0" * 64},
            "policy": {"asked": "Delivered", "name": "x", "digest": active, "fallback": active is None, "failures": 0},
            "tasks": [],
            "errors": {},
            "discovery": {"source": "endpointslices"},
            "load": {"source": "direct", "known": 0, "listed": 0, "share": 1.0},
            "in_flight": 0,
            "connections": 0,
            "backends_ready": 0,
            "backends_listed": 0,
            "versions": {},
        }
        if candidate is not None:
            said["candidate"] = {
                "digest": candidate,
                "decisions": self.decisions,
                "slow_microseconds": 1000.0,
                **self.trouble,
            }
        return RouterSeen(f"router-{index}", RouterStatus.model_validate(said), age_seconds=3.0)

    def _folder(self, name: str) -> str | None:
        held = self.objects.get(Key("ConfigMap", NAMESPACE, name))
        files = files_in(held) if held is not None else {}
        return data_digest(files) if files else None


__all__ = ["BEGIN", "COMPARATOR", "EMULATED", "NAMESPACE", "World", "artifact", "profiles_in", "report"]
