"""The resource's schema on a real API server: it stores what bes_api takes, and refuses what bes_api refuses, alike."""

import contextlib
import http.client
import json
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from broken_forms import defects
from broken_services import BROKEN
from control_plane import api_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from served_schema import defaulted
from service_samples import Data, changed, parsed, sample, services

from bes_api.crd import COLUMNS, definition, node_at, resource_schema
from bes_api.location import field_path
from bes_api.rules import RULES, violations
from bes_api.service import API_VERSION, PLURAL
from bes_api.service_status import (
    Condition,
    ConditionStatus,
    ConditionType,
    PolicyStatus,
    PolicyVersion,
    Reason,
    ServedStatus,
    ServiceStatus,
    read_status,
    write_status,
)
from bes_lab.cluster.certificates import ADMIN
from bes_lab.cluster.control_plane import LOOPBACK, ControlPlane

__all__ = ["api_server"]
pytestmark = pytest.mark.control_plane

JSON = "application/json"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITION = f"{DEFINITIONS}/{definition()['metadata']['name']}"
SERVICES = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}"
SPEC = node_at(resource_schema(), "spec")
OF_LIST_TYPE = {path: rule.id for rule in RULES if rule.cel is None for path in rule.paths}
CALM = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rules_broken_by(service: Data) -> set[str] | None:
    """What bes_api says: the rules that the service breaks; None where its form is wrong."""
    try:
        return {violation.rule.id for violation in violations(parsed(service))}
    except ValidationError:
        return None


@dataclass(frozen=True)
class Answer:
    """What the API server says to one service."""

    accepted: bool
    said: Data
    text: str

    @property
    def rules(self) -> set[str]:
        """Ids of the rules that it names."""
        found = {rule.id for rule in RULES if rule.message in self.text}
        for cause in self.said.get("details", {}).get("causes", []):
            if cause["reason"] == "FieldValueDuplicate":
                found.add(OF_LIST_TYPE[re.sub(r"\[[0-9]+\]", "[*]", cause["field"]).removesuffix("[*]")])
        return found


class Server:
    """Plain requests of an administrator, over one connection."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=str(plane.certificates / "ca.crt"))
        context.load_cert_chain(plane.certificates / f"{ADMIN}.crt", plane.certificates / f"{ADMIN}.key")
        self._connection = http.client.HTTPSConnection(LOOPBACK, plane.port, timeout=60, context=context)

    def ask(self, method: str, path: str, body: Data | None = None, accept: str = JSON) -> tuple[int, Data]:
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, {"content-type": JSON, "accept": accept})
        answer = self._connection.getresponse()
        said = answer.read()
        kind = answer.headers.get_content_type()
        return answer.status, json.loads(said) if kind == JSON else {"message": said.decode()}

    def apply(self, service: Data) -> Answer:
        status, said = self.ask("POST", f"{SERVICES}?dryRun=All&fieldValidation=Strict", service)
        assert status in {201, 400, 422}, said
        return Answer(status == 201, said, said.get("message", "") if status != 201 else "")

    def serves(self) -> bool:
        """Whether the resource's schema is in force."""
        return self.ask("POST", f"{SERVICES}?dryRun=All", sample())[0] == http.client.CREATED

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def server(api_server: ControlPlane) -> Iterator[Server]:
    """The API server, once it serves the resource."""
    with contextlib.closing(Server(api_server)) as server:
        status, made = server.ask("POST", DEFINITIONS, definition())
        assert status in {201, 409}, made["message"]
        limit = time.monotonic() + 60
        while not server.serves():
            assert time.monotonic() < limit, server.ask("GET", DEFINITION)[1].get("status")
            time.sleep(0.1)
        yield server


def test_the_definition_is_established_and_structural(server: Server) -> None:
    conditions = server.ask("GET", DEFINITION)[1]["status"]["conditions"]
    assert {each["type"]: each["status"] for each in conditions} == {"NamesAccepted": "True", "Established": "True"}


def test_a_fresh_resource_is_not_taken_for_a_reconciled_one_and_has_its_defaults(server: Server) -> None:
    answer = server.apply(sample())
    assert answer.accepted, answer.text
    assert answer.said["status"] == {"observedGeneration": -1}
    assert answer.said["spec"]["policy"]["promotion"] == {"mode": "Automatic", "margin": "0.01", "shadow": "5m"}
    assert "load" not in answer.said["spec"]


@given(services())
@CALM
def test_random_valid_services_are_stored_whole(server: Server, data: Data) -> None:
    answer = server.apply(data)
    assert answer.accepted, answer.text
    assert answer.said["spec"] == defaulted(data["spec"], SPEC)
    assert parsed(data | {"spec": answer.said["spec"]}) == parsed(data)


@pytest.mark.parametrize("rule", BROKEN)
def test_the_server_refuses_what_breaks_a_rule_and_names_that_rule_alone(server: Server, rule: str) -> None:
    answer = server.apply(BROKEN[rule][0])
    assert not answer.accepted
    assert answer.rules == {rule}, answer.text


@given(st.data())
@CALM
def test_server_and_bes_api_agree_on_one_defect_at_a_time(server: Server, data: st.DataObject) -> None:
    whole = data.draw(services())
    at, defective = data.draw(st.sampled_from(defects(whole, SPEC)))
    answer = server.apply(defective)
    broken = rules_broken_by(defective)
    assert answer.accepted is (broken == set()), (field_path(at), broken, answer.text)
    assert broken is None or answer.rules == broken, (field_path(at), answer.text)


def test_the_status_is_written_apart_from_the_spec_and_shows_in_the_columns(server: Server) -> None:
    name = "columns"
    made = server.ask("POST", SERVICES, changed("metadata", "name", to=name))[1]
    assert made["metadata"]["generation"] == 1, made
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    ready = Condition(
        type=ConditionType.READY, status=ConditionStatus.TRUE, last_transition_time=at, reason=Reason.AS_DESIRED
    )
    status = ServiceStatus(
        observed_generation=1,
        conditions=(ready,),
        policy=PolicyStatus(active=PolicyVersion(name="Learned", since=at)),
        served=ServedStatus(performance=Decimal("0.97"), in_time=Decimal("0.99")),
    )
    code, written = server.ask("PUT", f"{SERVICES}/{name}/status", made | {"spec": {}, "status": write_status(status)})
    assert code == http.client.OK, written
    assert (written["spec"], read_status(written)) == (made["spec"], status)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = server.ask("GET", f"{SERVICES}/{name}", accept=accept)[1]
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", *(column[0] for column in COLUMNS)]
    assert table["rows"][0]["cells"][:-1] == [name, "True", "Learned", "0.97", "0.99"]
    assert server.ask("DELETE", f"{SERVICES}/{name}")[0] == http.client.OK
