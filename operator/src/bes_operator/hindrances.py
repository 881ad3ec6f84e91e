"""Why a Deployment's pods do not start, in words that stay the same while kubelets try again and again. Pure.

Names of pods, counts of restarts and of nodes, back-off times and addresses are left out: each would be a new status.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bes_operator.live import rollout_of
from bes_operator.manifest import Key, Manifest
from bes_operator.ownership import is_leaving

PATIENCE_SECONDS = 60.0
"""So old a pod must be before a person is asked: kubelets try again, and a Secret may come a moment after its pod."""
CRASHES = 3
"""Restarts of a container; before, whatever it needs may have been late."""
LONG_RUN_SECONDS = 600.0
"""Who ran so long before the end is in no loop: kubelets begin their back-off anew then."""
_LONGEST = 300
_NO_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_TOLD_APART = ("image", "command", "args", "env")
"""Of a container: by these, and what it asks for, pods of an older template are known."""
_AMOUNTS = ("limits", "requests")
_VOLATILE = re.compile(
    r"(?:\b\d+(?:\.\d+){3}|\[[0-9a-f:]+\])(?::\d+)?(?:->\S+)?"  # addresses, of both ends
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # requests
    r"|(?<!sha256:)\b[0-9a-f]{32,64}\b"  # containers
)


@dataclass(frozen=True, order=True)
class Hindrance:
    """What keeps a pod from becoming ready. The gravest sorts first."""

    transient: bool
    """It may end by itself, as a node comes or a load is done; otherwise nothing helps but a person."""
    said: str
    detail: str = ""

    @property
    def message(self) -> str:
        """For a condition."""
        return f"{self.said} ({self.detail})" if self.detail else self.said

    def after(self, told: str) -> str:
        """The message, with the detail that was told before where nothing is said of it just now.

        Kubelets before 1.32 say why a pull failed only until their back-off begins.
        """
        before = None if self.detail else re.search(re.escape(self.said) + r" \([^()]*\)", told)
        return self.message if before is None else before.group()


def hindrance_of(deployment: Manifest, live: Mapping[Key, Manifest]) -> Hindrance | None:
    """Of the pods of its newest template, one pod's word: the gravest, whichever pod it is. None: nothing is known."""
    return min((each for pod in _pods(deployment, live) for each in _of_pod(pod)), default=None)


def stall_in_seconds(deployment: Manifest, live: Mapping[Key, Manifest], now: datetime) -> float | None:
    """When somebody has to be asked to mend it: 0 or less means now. None: no pod waits for that."""
    pods = [pod for pod in _pods(deployment, live) if any(not each.transient for each in _of_pod(pod))]
    ages = [(now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])).total_seconds() for pod in pods]
    return PATIENCE_SECONDS - max(ages) if ages else None


def _pods(deployment: Manifest, live: Mapping[Key, Manifest]) -> list[Manifest]:
    """What a webhook altered resembles no template: then all are meant, once none of an older template is left."""
    rollout = rollout_of(deployment)
    if rollout.done:
        return []
    name = deployment["metadata"]["name"]
    found = [pod for key, pod in live.items() if key.kind == "Pod" and _is_of(pod, name) and not is_leaving(pod)]
    newest = [pod for pod in found if _resembles(pod, deployment["spec"]["template"])]
    return newest or (found if rollout.settled else [])


def _is_of(pod: Manifest, deployment: str) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(o["kind"] == "ReplicaSet" and o["name"].rpartition("-")[0] == deployment for o in owners)


def _resembles(pod: Manifest, template: Mapping[str, Any]) -> bool:
    """What a pod has beside it does not count: containers of others, and resources that the API server fills in."""
    found = {each["name"]: each for each in pod["spec"]["containers"]}
    return all(
        each["name"] in found
        and all((each.get(field) or None) == (found[each["name"]].get(field) or None) for field in _TOLD_APART)
        and _resources(each) <= _resources(found[each["name"]])
        for each in template["spec"]["containers"]
    )


def _resources(container: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    stated = container.get("resources") or {}
    return {(kind, name, str(value)) for kind in _AMOUNTS for name, value in (stated.get(kind) or {}).items()}


def _of_pod(pod: Manifest) -> Iterator[Hindrance]:
    status = pod.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        yield Hindrance(True, "no node takes its pod", _why_no_node(str(scheduled.get("message") or "")))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        found = None if container.get("ready") else _of_container(container)
        if found is not None:
            yield found


def _of_container(container: Mapping[str, Any]) -> Hindrance | None:
    """Waiting for a back-off, running once more and just ended are one and the same here."""
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason"), str(waiting.get("message") or "")
    if reason in _NO_IMAGE:
        return Hindrance(False, f"image {container.get('image')} cannot be pulled", _why_no_image(message))
    if reason in _NO_CONTAINER:
        return Hindrance(False, f"container {container['name']} cannot be made", _short(message))
    ended = (container.get("lastState") or {}).get("terminated") or state.get("terminated")
    if ended is not None:
        return _of_end(container, ended)
    if reason == "RunContainerError":
        return Hindrance(True, f"container {container['name']} cannot be started", _short(message))
    return None


def _of_end(container: Mapping[str, Any], ended: Mapping[str, Any]) -> Hindrance:
    """A container that has ended, and starts again."""
    code, reason = f"exit code {ended.get('exitCode')}", ended.get("reason")
    why = {"OOMKilled": f"out of memory, {code}", "Error": code, "Completed": code}.get(str(reason))
    detail = why or _short(f"{reason or 'no reason given'}, {code}: {ended.get('message') or ''}")
    if int(container.get("restartCount", 0)) >= CRASHES and _ran_seconds(ended) < LONG_RUN_SECONDS:
        return Hindrance(False, f"container {container['name']} ends again and again", detail)
    return Hindrance(True, f"container {container['name']} has ended and starts again", detail)


def _ran_seconds(ended: Mapping[str, Any]) -> float:
    """0 for one that never ran."""
    times = [ended.get(field) for field in ("startedAt", "finishedAt")]
    began, end = (datetime.fromisoformat(time) if time else None for time in times)
    return (end - began).total_seconds() if began is not None and end is not None else 0.0


def _why_no_image(message: str) -> str:
    """Without what a back-off puts before the reason."""
    _, back_off, why = message.partition("ErrImagePull: ")
    return _short(why) if back_off else "" if message.startswith("Back-off") else _short(message)


def _why_no_node(message: str) -> str:
    """Without counts of nodes, and what preemption came to."""
    counted = re.match(
        r"\d+/\d+ nodes are available: (.*?)\.?(?:\s(?:preemption|no new claims)\b.*)?$", message, re.DOTALL
    )
    if counted is None:
        return _short(message)
    return _short(", ".join(_distinct(re.sub(r"^\d+ ", "", each) for each in re.split(r", (?=\d)", counted.group(1)))))


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts))


def _short(message: str) -> str:
    """One line, without brackets, the end of it where it is long: that is where the cause is said."""
    text = " ".join(_VOLATILE.sub("", message).replace("(", "[").replace(")", "]").split()).strip(" .:,")
    return text if len(text) <= _LONGEST else f"...{text[-_LONGEST:]}"
