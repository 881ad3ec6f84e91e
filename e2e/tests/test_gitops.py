"""Health as Argo CD (Lua) and Flux (CEL) see it is as kstatus sees it, for every status that the operator may write."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import celpy
import lupa
import yaml

from bes_api.service_status import Condition, ConditionStatus, ConditionType, Reason, ServiceStatus, write_status

EXAMPLES = Path(__file__).parents[2] / "examples" / "gitops"
GENERATION = 3
HEALTH = {"InProgress": "Progressing", "Failed": "Degraded", "Current": "Healthy"}
Resource = dict[str, Any]


def resource(observed: int, states: dict[ConditionType, ConditionStatus]) -> Resource:
    conditions = tuple(
        Condition(
            type=kind,
            status=status,
            observed_generation=observed,
            last_transition_time=datetime(2026, 1, 31, tzinfo=UTC),
            reason=Reason.WAITING,
            message=f"{kind} is {status}",
        )
        for kind, status in states.items()
    )
    status = write_status(ServiceStatus(observed_generation=observed, conditions=conditions))
    if not conditions:
        del status["conditions"]  # as the definition's default leaves it: observedGeneration alone
    return {"metadata": {"name": "opt", "generation": GENERATION}, "spec": {}, "status": status}


def resources() -> Iterator[Resource]:
    """Every state of the three conditions that kstatus reads, seen in time or too early."""
    yield resource(-1, {})
    states = (ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN)
    for observed, *each in itertools.product((GENERATION - 1, GENERATION), states, states, states):
        kinds = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
        yield resource(observed, dict(zip(kinds, each, strict=True)))


def kstatus(found: Resource) -> str:
    """kstatus' generic rules in their order (sigs.k8s.io/cli-utils, pkg/kstatus/status, checkGenericProperties)."""
    status = found["status"]
    is_true = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    if status["observedGeneration"] != found["metadata"]["generation"] or "Reconciling" in is_true:
        return "InProgress"
    if "Stalled" in is_true:
        return "Failed"
    return "Current" if "Ready" in is_true else "InProgress"


def test_the_states_of_the_table_lead_to_every_kind_of_health() -> None:
    assert {kstatus(found) for found in resources()} == HEALTH.keys()


def test_argo_cd_calls_healthy_what_kstatus_calls_current() -> None:
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    document = yaml.safe_load((EXAMPLES / "argocd-health.yaml").read_text())
    ((name, script),) = document["data"].items()
    assert name == "resource.customizations.health.besteffort.dev_BestEffortService"
    health = lua.eval(f"function(obj) {script} end")
    for found in resources():
        said = health(lua.table_from(found, recursive=True))
        assert said.status == HEALTH[kstatus(found)], json.dumps(found)
        assert said.message
        if said.status == "Degraded":
            assert said.message == "Stalled is True"


def test_flux_calls_current_what_kstatus_calls_current() -> None:
    (check,) = yaml.safe_load((EXAMPLES / "flux-health.yaml").read_text())["spec"]["healthCheckExprs"]
    environment = celpy.Environment()
    programs = {
        health: environment.program(environment.compile(check[member]))
        for health, member in (("InProgress", "inProgress"), ("Failed", "failed"), ("Current", "current"))
    }
    for found in resources():
        given = {name: celpy.json_to_cel(part) for name, part in found.items()}
        said = next((health for health, program in programs.items() if program.evaluate(given)), "InProgress")
        assert said == kstatus(found), json.dumps(found)


def test_both_are_about_this_resource() -> None:
    (check,) = yaml.safe_load((EXAMPLES / "flux-health.yaml").read_text())["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == ("besteffort.dev/v1alpha1", "BestEffortService")
