"""An artifact on its way into the ledger: found, checked, judged. What cannot be used is refused, with the reason."""

from collections.abc import Container, Mapping
from decimal import Decimal
from typing import Literal

from bes_api.artifact import check_form, fits, report_in
from bes_api.config_map import MAX_ARTIFACT_BYTES, data_digest, files_in
from bes_api.errors import ArtifactError, ArtifactMisfitError, ArtifactUnreadableError, ConfigurationError
from bes_api.passport import Passport
from bes_api.scenario import Scenario
from bes_api.service_status import Reason
from bes_operator.manifest import Manifest
from bes_operator.names import active_name, candidate_name
from bes_operator.policy.gate import Verdict, failures_of, judge
from bes_operator.policy.ledger import PolicyRecord, Stage, instant, likeness_of
from bes_operator.policy.seen import PolicySeen

Origin = Literal["Trained", "Imported"]


def accept(
    seen: PolicySeen, scenario: Scenario, manifest: Manifest | None, digest: str, origin: Origin
) -> PolicyRecord:
    """The record of the artifact that should have that digest, in the stage that the gate gives it."""
    record = PolicyRecord(
        digest=digest,
        config_map="" if manifest is None else manifest["metadata"]["name"],
        origin=origin,
        kind="Learned",
        scenario=scenario.content_hash(),
        likeness=likeness_of(scenario),
        models=(),
        tasks=(),
        stage=Stage.REFUSED,
        since=instant(seen.now),
    )
    try:
        files = _files(manifest, digest)
        passport, verdict = _judged(files, f"ConfigMap {record.config_map}", seen.service.spec.policy.promotion.margin)
        if passport.scenario_hash != record.scenario:
            raise ArtifactMisfitError(
                f"it was trained for scenario {passport.scenario_hash}, the service's is {record.scenario}: "
                "train it for this service"
            )
        fits(passport, scenario)
        return _placed(record, passport, verdict)
    except ArtifactError as error:
        return record.model_copy(update={"reason": Reason.ARTIFACT_REFUSED, "message": str(error)})


def found_again(seen: PolicySeen, manifest: Manifest, proven: Container[str]) -> PolicyRecord | None:
    """The record of an artifact that the service owns already, when the ledger is gone; None: it is none of worth.

    Digests of ``proven`` have routed before.
    """
    try:
        digest = data_digest(files_in(manifest))
        files = _files(manifest, digest)
        name = manifest["metadata"]["name"]
        passport, verdict = _judged(files, name, seen.service.spec.policy.promotion.margin)
    except (ArtifactError, ConfigurationError):
        return None
    current = seen.scenario if seen.scenario and seen.scenario.content_hash() == passport.scenario_hash else None
    record = PolicyRecord(
        digest=digest,
        config_map=name,
        origin="Trained",
        kind=passport.kind,
        scenario=passport.scenario_hash,
        likeness=likeness_of(current) if current is not None else passport.scenario_hash,
        models=passport.models,
        tasks=passport.tasks,
        stage=Stage.SHADOW,
        since=instant(seen.now),
    )
    record = _placed(record, passport, verdict)
    if digest in proven and record.stage is Stage.SHADOW:
        return record.model_copy(update={"stage": Stage.PROVEN})
    return record


def judged_again(seen: PolicySeen, record: PolicyRecord) -> PolicyRecord:
    """The record under the margin that the resource states now. What has routed is not judged again."""
    if record.judged is None or record.stage not in (Stage.SHADOW, Stage.RULE):
        return record
    failures = failures_of(record.judged, seen.service.spec.policy.promotion.margin)
    stage = Stage.RULE if failures else Stage.SHADOW
    if stage is record.stage:
        return record
    changes = {"stage": stage, "since": instant(seen.now), "shadow_since": None}
    return record.model_copy(update={**changes, "reason": Reason.RULE_IS_ENOUGH if failures else None})


def _files(manifest: Manifest | None, digest: str) -> Mapping[str, bytes]:
    if manifest is None:
        raise ArtifactUnreadableError(f"there is no ConfigMap with the artifact {digest}; create it beside the service")
    name = manifest["metadata"]["name"]
    try:
        files = files_in(manifest)
    except ConfigurationError as error:
        raise ArtifactUnreadableError(f"ConfigMap {name}: {error}") from error
    if (size := sum(map(len, files.values()))) > MAX_ARTIFACT_BYTES:
        raise ArtifactUnreadableError(f"ConfigMap {name}: has {size:,} bytes and may have {MAX_ARTIFACT_BYTES:,}")
    if (found := data_digest(files)) != digest:
        raise ArtifactUnreadableError(f"ConfigMap {name}: its digest is {found}, not {digest}: it is another artifact")
    return files


def _judged(files: Mapping[str, bytes], source: str, margin: Decimal) -> tuple[Passport, Verdict]:
    passport = check_form(files, source)
    report = report_in(files, source)
    if report.scenario_hash != passport.scenario_hash:
        raise ArtifactMisfitError(f"{source}: its report is of another scenario than its passport; train again")
    return passport, judge(report, passport, margin)


def _placed(record: PolicyRecord, passport: Passport, verdict: Verdict) -> PolicyRecord:
    message = f"{verdict.figures}: {'; '.join(verdict.failures)}" if verdict.failures else verdict.figures
    changes = {
        "kind": passport.kind,
        "models": passport.models,
        "tasks": passport.tasks,
        "stage": Stage.RULE if verdict.failures else Stage.SHADOW,
        "judged": verdict.judged,
        "rule": verdict.rule,
        "reason": Reason.RULE_IS_ENOUGH if verdict.failures else None,
        "message": message,
    }
    return record.model_copy(update=changes)


def files_of(seen: PolicySeen, record: PolicyRecord) -> Mapping[str, bytes] | None:
    """The files of a recorded artifact, wherever they still are; None: they are lost.

    Its own ConfigMap comes first, then the copies that routers are given.
    """
    copies = (record.config_map, active_name(seen.service.name), candidate_name(seen.service.name))
    held = {each["metadata"]["name"]: each for each in seen.config_maps}
    found = [held[name] for name in copies if name in held]
    if seen.imported is not None and seen.imported["metadata"]["name"] == record.config_map:
        found.insert(0, seen.imported)
    for manifest in found:
        try:
            files = files_in(manifest)
        except ConfigurationError:
            continue
        if data_digest(files) == record.digest:
            return files
    return None
