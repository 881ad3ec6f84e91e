"""Trainings: the Job of the wanted scenario, its turn in the queue, what became of it, what its pod said.

The queue is the suspended Jobs of all services in the order in which they were made; every service looks only whether
it is its own Job's turn. A watch tells of older Jobs first, so two services that look at once agree on who is first.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bes_api.config_map import data_digest, files_in
from bes_api.errors import ConfigurationError
from bes_api.service import PolicyType, Training
from bes_api.service_status import Reason, TrainingState
from bes_operator.event import Event
from bes_operator.manifest import Apply, Key, Manifest, key_of
from bes_operator.policy.ledger import Ledger, Stage, TrainingRecord, instant
from bes_operator.policy.seen import QUEUE_MANAGER, Deletion, PolicySeen
from bes_operator.policy.training_job import CONTAINER, SCENARIO_ANNOTATION, job_of, order_of

JOB_KEPT_SECONDS = 3600.0
"""So long a finished Job stays for its log, once its artifact is safe."""
QUEUE_SECONDS, RESULT_SECONDS = 15.0, 60.0
"""How often a Job in the queue looks; how long an artifact may take to appear behind its Job's end."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass
class Course:
    """What one pass has found and decided so far about trainings."""

    ledger: Ledger
    position: int | None = None
    """Of the wanted training in the queue."""
    steps: list[Apply] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    kept: set[Key] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def wanted_training(seen: PolicySeen) -> Training | None:
    """How the service wants its policy trained; None: not at all, or not for now."""
    policy = seen.service.spec.policy
    learned = policy.type is PolicyType.LEARNED and seen.scenario is not None
    return policy.source.training if learned else None


def wanted_scenario(seen: PolicySeen) -> str | None:
    """Content hash of the scenario that shall be trained; None: none, or nobody knows for now."""
    return seen.scenario.content_hash() if seen.scenario is not None and wanted_training(seen) is not None else None


def follow(seen: PolicySeen, ledger: Ledger) -> Course:
    """Look at every training of the service; start, let go, stop and forget what is due."""
    course = Course(ledger)
    wanted = wanted_scenario(seen)
    unknown = seen.scenario is None and seen.service.spec.policy.type is PolicyType.LEARNED
    met = set()
    for job in seen.jobs:
        scenario = (job["metadata"].get("annotations") or {}).get(SCENARIO_ANNOTATION)
        if scenario is None:
            continue
        met.add(scenario)
        course.kept |= {key_of(job), Key("ConfigMap", seen.namespace, job["metadata"]["name"])}
        if "deletionTimestamp" not in job["metadata"] and not unknown:
            _look_at(seen, course, job, scenario, scenario == wanted)
    _note_lost(seen, course, met)
    if wanted is not None and wanted not in met and course.ledger.training(wanted) is None:
        _start(seen, course, wanted)
    return course


def said_digest(job: Manifest, pods: tuple[Manifest, ...]) -> str | None:
    """What a succeeded pod of exactly this Job said: the only digest that is believed."""
    for pod, status in _containers(job, pods):
        ended = (status.get("state") or {}).get("terminated") or {}
        message = str(ended.get("message", "")).strip()
        succeeded = (pod.get("status") or {}).get("phase") == "Succeeded" and ended.get("exitCode") == 0
        if succeeded and _DIGEST.fullmatch(message):
            return message
    return None


def owned_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object of that uid is among its owners."""
    return any(each.get("uid") == uid for each in manifest["metadata"].get("ownerReferences") or ())


def artifact_with(seen: PolicySeen, digest: str) -> Manifest | None:
    """The immutable ConfigMap of the service whose files have that digest."""
    for each in seen.config_maps:
        if each.get("immutable") and each["metadata"]["name"].endswith(digest.removeprefix("sha256:")[:16]):
            try:
                if data_digest(files_in(each)) == digest:
                    return each
            except ConfigurationError:
                continue
    return None


def _look_at(seen: PolicySeen, course: Course, job: Manifest, scenario: str, wanted: bool) -> None:
    conditions = {each["type"]: each for each in (job.get("status") or {}).get("conditions") or ()}
    ended = {name: each for name, each in conditions.items() if each.get("status") == "True"}
    record = course.ledger.training(scenario) or _new_record(seen, job, scenario)
    if "Complete" in ended:
        age = (seen.now - _time(ended["Complete"], seen.now)).total_seconds()
        if wanted or course.ledger.policy(record.digest) is not None:
            _succeeded(seen, course, job, record, age)
        elif age >= JOB_KEPT_SECONDS:  # the service has changed, and its artifact was never looked at
            _delete(seen, course, job)
            course.ledger = course.ledger.without(scenarios=[scenario])
        else:
            course.waits.append(JOB_KEPT_SECONDS - age)
    elif "Failed" in ended:
        if record.state is not TrainingState.FAILED:
            message = _failure(job, seen.pods) or record.message or ended["Failed"].get("message", "")
            _fail(seen, course, record, Reason.TRAINING_FAILED, f"{message}; raise training.revision to try again")
        if not wanted:
            _delete(seen, course, job)
    elif not wanted:
        _delete(seen, course, job)
        course.ledger = course.ledger.without(scenarios=[scenario])  # it may be asked for again
        course.events.append(Event("Normal", "TrainingCancelled", "the service has changed meanwhile"))
    else:
        _unfinished(seen, course, job, record)


def _unfinished(seen: PolicySeen, course: Course, job: Manifest, record: TrainingRecord) -> None:
    training = wanted_training(seen)
    if training is not None and seen.scenario is not None:
        course.steps.append(Apply(order_of(seen, seen.scenario, training)))
    state = TrainingState.RUNNING
    if job["spec"].get("suspend"):
        state = TrainingState.QUEUED
        course.position, free = _turn(seen, job)
        course.waits.append(QUEUE_SECONDS)
        if course.position <= free:
            go = {**{part: job[part] for part in ("apiVersion", "kind")}, "metadata": _identity(job)}
            course.steps.append(Apply({**go, "spec": {"suspend": False}}, QUEUE_MANAGER))
    elif record.state is TrainingState.QUEUED:
        course.events.append(Event("Normal", "TrainingStarted", f"Job {job['metadata']['name']} trains"))
    changes: dict[str, Any] = {"message": _failure(job, seen.pods) or record.message}
    changes["attempts"] = max(record.attempts, _attempts(job, seen.pods))
    if record.state is not state:
        changes |= {"state": state, "since": instant(seen.now)}
    course.ledger = course.ledger.with_training(record.model_copy(update=changes))


def _turn(seen: PolicySeen, job: Manifest) -> tuple[int, int]:
    """The Job's position among those that wait, and how many may run beside those that do."""
    unfinished = [each for each in seen.trainings if not _finished(each)]
    waiting = [each for each in unfinished if each["spec"].get("suspend")]
    before = sum(_order(each) < _order(job) for each in waiting)
    return before + 1, seen.settings.max_trainings - (len(unfinished) - len(waiting))


def _succeeded(seen: PolicySeen, course: Course, job: Manifest, record: TrainingRecord, age: float) -> None:
    if record.state is TrainingState.FAILED:
        return
    digest = record.digest or said_digest(job, seen.pods)
    policy = course.ledger.policy(digest)
    artifact = artifact_with(seen, digest) if digest is not None else None
    if policy is None and artifact is None:
        if age < RESULT_SECONDS:  # the watch of pods or ConfigMaps may be behind that of Jobs
            course.waits.append(RESULT_SECONDS - age)
            return
        what = "its pod's last word was no digest" if digest is None else f"its artifact {digest} is not there"
        message = f"Job {record.job} succeeded, but {what}; raise training.revision to train again"
        _fail(seen, course, record, Reason.ARTIFACT_LOST, message)
        return
    if record.state is not TrainingState.SUCCEEDED:
        changes = {"state": TrainingState.SUCCEEDED, "since": instant(seen.now), "digest": digest}
        changes |= {"attempts": max(record.attempts, 1), "message": ""}
        course.ledger = course.ledger.with_training(record.model_copy(update=changes))
    elif policy is not None and (policy.stage is Stage.REFUSED or artifact is None or owned_by(artifact, seen.uid)):
        if age >= JOB_KEPT_SECONDS:
            _delete(seen, course, job)
        else:
            course.waits.append(JOB_KEPT_SECONDS - age)


def _note_lost(seen: PolicySeen, course: Course, met: set[str]) -> None:
    """Trainings that were under way and whose Job is gone."""
    for record in course.ledger.trainings:
        if record.scenario in met:
            continue
        if record.state is TrainingState.QUEUED:  # nothing was spent on it: it may queue again
            course.ledger = course.ledger.without(scenarios=[record.scenario])
        elif record.state is TrainingState.RUNNING:
            message = f"Job {record.job} is gone without an artifact; raise training.revision to train again"
            _fail(seen, course, record, Reason.ARTIFACT_LOST, message)


def _start(seen: PolicySeen, course: Course, wanted: str) -> None:
    training = wanted_training(seen)
    if training is None or seen.scenario is None:
        return
    order, job = order_of(seen, seen.scenario, training), job_of(seen, wanted)
    course.steps += [Apply(order), Apply(job)]
    course.kept |= {key_of(order), key_of(job)}
    course.waits.append(QUEUE_SECONDS)


def _new_record(seen: PolicySeen, job: Manifest, scenario: str) -> TrainingRecord:
    training = wanted_training(seen)
    return TrainingRecord(
        scenario=scenario,
        revision=training.revision if training is not None else 1,
        job=job["metadata"]["name"],
        state=TrainingState.QUEUED,
        since=instant(seen.now),
    )


def _fail(seen: PolicySeen, course: Course, record: TrainingRecord, reason: Reason, message: str) -> None:
    changes = {"state": TrainingState.FAILED, "since": instant(seen.now), "reason": reason, "message": message}
    course.ledger = course.ledger.with_training(record.model_copy(update=changes))
    course.events.append(Event("Warning", str(reason), message))


def _delete(seen: PolicySeen, course: Course, job: Manifest) -> None:
    """With its order; pods and what the Job still owns go with it."""
    course.kept.discard(key_of(job))
    course.deletions.append(Deletion(key_of(job), job["metadata"]["uid"]))
    order = Key("ConfigMap", seen.namespace, job["metadata"]["name"])
    course.kept.discard(order)


def _containers(job: Manifest, pods: tuple[Manifest, ...]) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
    """The training container's status in each pod that the Job itself made."""
    uid = job["metadata"]["uid"]
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        if any(each.get("uid") == uid and each.get("controller") for each in owners):
            for status in (pod.get("status") or {}).get("containerStatuses") or ():
                if status.get("name") == CONTAINER:
                    yield pod, status


def _failure(job: Manifest, pods: tuple[Manifest, ...]) -> str:
    """The last line that a failed container of the Job left."""
    for _, status in _containers(job, pods):
        for state in (status.get("state"), status.get("lastState")):
            ended = (state or {}).get("terminated") or {}
            if ended.get("exitCode"):
                said = str(ended.get("message", "")).strip().rpartition("\n")[2]
                return said or f"exit code {ended['exitCode']} ({ended.get('reason', 'Error')})"
    return ""


def _attempts(job: Manifest, pods: tuple[Manifest, ...]) -> int:
    return sum(1 + int(status.get("restartCount", 0)) for _, status in _containers(job, pods))


def _finished(job: Manifest) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(each["type"] in ("Complete", "Failed") and each.get("status") == "True" for each in conditions)


def _order(job: Manifest) -> tuple[str, str]:
    return str(job["metadata"].get("creationTimestamp", "")), str(job["metadata"].get("uid", ""))


def _identity(job: Manifest) -> dict[str, Any]:
    return {part: job["metadata"][part] for part in ("name", "namespace", "uid")}


def _time(condition: Mapping[str, Any], otherwise: datetime) -> datetime:
    written = condition.get("lastTransitionTime")
    return datetime.fromisoformat(written) if isinstance(written, str) else otherwise
