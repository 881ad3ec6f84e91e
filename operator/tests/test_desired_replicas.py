"""Who scales: steps are applied here to a small stand-in for the API server's ownership of one field."""

from collections.abc import Mapping
from typing import Any

import pytest
from desired_samples import EVERYTHING, changed, request_for, service_in

from bes_operator.desired.objects import desired_objects
from bes_operator.manifest import FIELD_MANAGER, REPLICAS_MANAGER, Apply, Key, Manifest, key_of
from bes_operator.names import engine_name

NAME = Key("Deployment", "apps", engine_name("everything", "opt-1.3b"))
RANGE: Mapping[str, Any] = {"replicaRange": {"min": 2, "max": 4}}


class OneDeployment:
    """What server-side apply does to `spec.replicas`: owners by manager; unowned again, it is reset to 1."""

    def __init__(self) -> None:
        self.replicas: int | None = None
        self.owners: set[str] = set()
        self.seen: list[int] = []

    @property
    def live(self) -> Manifest | None:
        if self.replicas is None:
            return None
        entries = [
            {"manager": owner, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            for owner in sorted(self.owners)
        ]
        return {
            "kind": "Deployment",
            "metadata": {"name": NAME.name, "namespace": NAME.namespace, "managedFields": entries},
            "spec": {"replicas": self.replicas},
        }

    def apply(self, step: Apply) -> None:
        wanted = step.manifest.get("spec", {}).get("replicas")
        if wanted is not None:
            if wanted != self.replicas and self.owners - {step.field_manager}:
                assert step.force
                self.owners.clear()
            self.replicas = wanted
            self.owners.add(step.field_manager)
        elif step.field_manager in self.owners:
            self.owners.discard(step.field_manager)
            if not self.owners:
                self.replicas = 1
        elif self.replicas is None:
            self.replicas = 1
        self.seen.append(self.replicas or 0)

    def scaled_by_somebody(self, replicas: int) -> None:
        """An update of the scale subresource takes the field from whoever applied it."""
        self.replicas, self.owners = replicas, {"autoscaler"}


def passed(deployment: OneDeployment, stated: Mapping[str, Any]) -> list[Apply]:
    """One pass over the model with ``stated``; the steps that it took."""

    def state(spec: dict[str, Any]) -> None:
        model = spec["models"][1]
        model.pop("replicas", None)
        model.pop("replicaRange", None)
        model.update(stated)

    live = {NAME: deployment.live} if deployment.live is not None else {}
    request = request_for(EVERYTHING, service=changed(service_in(EVERYTHING), state), live=live)
    steps = [step for step in desired_objects(request).steps if key_of(step.manifest) == NAME]
    for step in steps:
        deployment.apply(step)
    return steps


def only_ours(steps: list[Apply]) -> bool:
    return [step.field_manager for step in steps] == [FIELD_MANAGER]


def test_a_new_model_with_a_range_begins_at_its_lower_end() -> None:
    deployment = OneDeployment()
    passed(deployment, RANGE)
    assert deployment.replicas == 2
    assert FIELD_MANAGER not in deployment.owners
    assert only_ours(passed(deployment, RANGE))


def test_a_fixed_number_is_handed_over_without_a_dip() -> None:
    deployment = OneDeployment()
    passed(deployment, {"replicas": 4})
    deployment.seen.clear()
    passed(deployment, RANGE)
    assert set(deployment.seen) == {4}
    assert deployment.owners == {REPLICAS_MANAGER}
    assert only_ours(passed(deployment, RANGE))


def test_a_handover_never_overrides_whoever_scaled_meanwhile() -> None:
    deployment = OneDeployment()
    passed(deployment, {"replicas": 4})
    handed = [step for step in passed(deployment, RANGE) if step.field_manager == REPLICAS_MANAGER]
    assert [step.force for step in handed] == [False]


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_whoever_scales_inside_the_range_is_left_alone(replicas: int) -> None:
    deployment = OneDeployment()
    passed(deployment, RANGE)
    deployment.scaled_by_somebody(replicas)
    assert only_ours(passed(deployment, RANGE))
    assert deployment.replicas == replicas


@pytest.mark.parametrize(("scaled", "brought_to"), [(1, 2), (0, 2), (9, 4)])
def test_outside_the_range_a_model_is_brought_back_into_it(scaled: int, brought_to: int) -> None:
    deployment = OneDeployment()
    passed(deployment, RANGE)
    deployment.scaled_by_somebody(scaled)
    passed(deployment, RANGE)
    assert deployment.replicas == brought_to


def test_taken_back_the_number_is_ours_alone_and_never_dips() -> None:
    deployment = OneDeployment()
    passed(deployment, {"replicas": 3})
    passed(deployment, RANGE)
    deployment.seen.clear()
    passed(deployment, {"replicas": 3})
    assert set(deployment.seen) == {3}
    assert deployment.owners == {FIELD_MANAGER}
    assert only_ours(passed(deployment, {"replicas": 3}))
