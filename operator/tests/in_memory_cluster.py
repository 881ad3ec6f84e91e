"""An API server in memory: server-side apply with owners of fields, versions, uids, and faults on demand."""

import copy
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bes_operator.compare import MERGE_DEFAULTS, merge_keys
from bes_operator.errors import Absent, ClusterError, Conflict, Refused, TimedOut
from bes_operator.kinds import SERVICE_KIND
from bes_operator.manifest import Apply, Key, Manifest, key_of

Path = tuple[str, ...]
_IDENTITY = {("f:apiVersion",), ("f:kind",), *((("f:metadata"), f"f:{name}") for name in ("name", "namespace", "uid"))}


@dataclass(frozen=True)
class Call:
    """One call as it came in."""

    verb: str
    key: Key

    @property
    def writes(self) -> bool:
        return self.verb not in ("read", "list")


@dataclass
class InMemoryCluster:
    """See the module. `fault` may raise before a call is done; one that sets `lose_answer` is done, and then raises."""

    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    fault: Callable[[Call, int], ClusterError | None] = lambda _call, _number: None
    lose_answer: bool = False
    after: Callable[[Call], None] = lambda _call: None
    """Controllers of this cluster: called after every write."""
    admission: Callable[[dict[str, Any]], None] = lambda _new: None
    """Alters what is applied before it is stored, as a webhook or a feature that is off does."""
    _versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.writes]

    async def read(self, key: Key) -> Manifest | None:
        return self._do(Call("read", key), lambda: self._found(key))

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> tuple[Manifest, ...]:
        def found() -> tuple[Manifest, ...]:
            ours = (k for k in sorted(self.objects) if k.kind == kind and namespace in (None, k.namespace))
            return tuple(copy.deepcopy(self.objects[k]) for k in ours if _selected(self.objects[k], selector))

        return self._do(Call("list", Key(kind, namespace or "", "")), found)

    async def apply(self, step: Apply) -> Manifest:
        key = key_of(step.manifest)
        return self._do(Call("apply", key), lambda: self._apply(key, step, create=True))

    async def write_status(self, manifest: Manifest) -> Manifest:
        key = key_of(manifest)
        return self._do(Call("status", key), lambda: self._status(key, manifest))

    async def create(self, manifest: Manifest) -> Manifest:
        key = key_of(manifest)
        return self._do(Call("create", key), lambda: self._create(key, manifest))

    async def replace(self, manifest: Manifest) -> Manifest:
        key = key_of(manifest)
        return self._do(Call("replace", key), lambda: self._replace(key, manifest))

    async def delete(self, key: Key, uid: str) -> None:
        return self._do(Call("delete", key), lambda: self._delete(key, uid))

    def put(self, manifest: Manifest) -> dict[str, Any]:
        """As if somebody else had written it, whole."""
        key = key_of(manifest)
        old = self.objects.get(key)
        new = copy.deepcopy(dict(manifest))
        new["metadata"] = {"uid": f"uid-{next(self._versions)}", **(old or {}).get("metadata", {}), **new["metadata"]}
        self._store(key, old, new)
        return self.objects[key]

    def edit(self, key: Key, change: Callable[[dict[str, Any]], None]) -> None:
        """As if somebody had edited it by hand: what changed is no longer anybody's who applied it."""
        new = copy.deepcopy(self.objects[key])
        change(new)
        before, after = dict(_leaves(self.objects[key])), dict(_leaves(new))
        for manager, owned in _owners(new).items():
            _set_owned(new, manager, {path for path in owned if before.get(path) == after.get(path)})
        self._store(key, self.objects[key], new)

    def remove(self, key: Key) -> None:
        """Delete, and collect what it alone owned."""
        gone = self.objects.pop(key)["metadata"]["uid"]
        for other in [k for k, m in self.objects.items() if any(o["uid"] == gone for o in _owner_references(m))]:
            if other in self.objects:
                self.remove(other)

    def _do(self, call: Call, action: Callable[[], Any]) -> Any:
        self.calls.append(call)
        error = self.fault(call, len(self.calls))
        if error is not None and not (self.lose_answer and call.writes):
            raise error
        answer = action()
        if call.writes:
            self.after(call)
        if error is not None:
            raise TimedOut(f"{call.verb} {call.key}", "its answer was lost")
        return answer

    def _found(self, key: Key) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get(key))

    def _apply(self, key: Key, step: Apply, create: bool) -> dict[str, Any]:
        old, uid = self.objects.get(key), step.manifest["metadata"].get("uid")
        if old is None and (uid is not None or not create):
            raise Conflict(f"apply {key}", "uid mismatch: no such object")
        if old is not None and uid not in (None, old["metadata"]["uid"]):
            raise Conflict(f"apply {key}", "uid mismatch")
        new = copy.deepcopy(old) if old is not None else {"metadata": {"uid": f"uid-{next(self._versions)}"}}
        if new.get("immutable") and new.get("data") != step.manifest.get("data"):
            raise Refused(f"apply {key}", "it is immutable")
        if key.kind == "RoleBinding" and old is not None and old["roleRef"] != step.manifest["roleRef"]:
            raise Refused(f"apply {key}", "cannot change roleRef")
        owners = _owners(new)
        wanted = {path: value for path, value in _leaves(step.manifest) if path not in _IDENTITY}
        live = dict(_leaves(new))
        for other, owned in owners.items():
            clash = {path for path in owned & wanted.keys() if live.get(path) != wanted[path]}
            if other != step.field_manager and clash:
                if not step.force:
                    raise Conflict(f"apply {key}", f"conflict with {other}: {sorted(clash)}")
                owned.difference_update(clash)
        dropped = owners.get(step.field_manager, set()) - wanted.keys()
        elsewhere = set().union(*(owned for other, owned in owners.items() if other != step.field_manager))
        for path in dropped - elsewhere:
            _remove(new, path)
        _merge(new, step.manifest)
        self.admission(new)
        _set_owned(new, step.field_manager, set(wanted))
        for other, owned in owners.items():
            if other != step.field_manager:
                _set_owned(new, other, owned)
        self._store(key, old, new)
        return self._found(key) or {}

    def _status(self, key: Key, manifest: Manifest) -> dict[str, Any]:
        old = self.objects.get(key)
        if old is None:
            raise Absent(f"write the status of {key}", "not found")
        if manifest["metadata"].get("uid") not in (None, old["metadata"]["uid"]):
            raise Conflict(f"write the status of {key}", "uid mismatch")
        self._store(key, old, {**copy.deepcopy(old), "status": copy.deepcopy(manifest["status"])})
        return self._found(key) or {}

    def _create(self, key: Key, manifest: Manifest) -> dict[str, Any]:
        if key in self.objects:
            raise Conflict(f"create {key}", "already exists")
        return copy.deepcopy(self.put(manifest))

    def _replace(self, key: Key, manifest: Manifest) -> dict[str, Any]:
        old = self.objects.get(key)
        if old is None:
            raise Absent(f"replace {key}", "not found")
        if manifest["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            raise Conflict(f"replace {key}", "the object has been modified")
        return copy.deepcopy(self.put(manifest))

    def _delete(self, key: Key, uid: str) -> None:
        if key not in self.objects:
            return
        if self.objects[key]["metadata"]["uid"] != uid:
            raise Conflict(f"delete {key}", "uid mismatch")
        self.remove(key)

    def _store(self, key: Key, old: Mapping[str, Any] | None, new: dict[str, Any]) -> None:
        if old is not None and _without_version(old) == _without_version(new):
            return
        metadata = new["metadata"]
        metadata["resourceVersion"] = str(next(self._versions))
        if old is None or old.get("spec") != new.get("spec"):
            metadata["generation"] = metadata.get("generation", 0) + 1
        if old is None and key.kind == SERVICE_KIND:
            new.setdefault("status", {"observedGeneration": -1})
        self.objects[key] = new


def _selected(manifest: Mapping[str, Any], selector: str) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _without_version(manifest: Mapping[str, Any]) -> Any:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "resourceVersion"}
    return json.dumps({**manifest, "metadata": metadata}, sort_keys=True)


def _owner_references(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return manifest["metadata"].get("ownerReferences") or []


def _leaves(value: Any, field: str = "", path: Path = ()) -> Any:
    if path == ("f:metadata", "f:managedFields"):
        return
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, name, (*path, f"f:{name}"))
    elif isinstance(value, list) and value and (keys := merge_keys(field, value)):
        for item in value:
            name = {key: item.get(key, MERGE_DEFAULTS.get(key)) for key in keys}
            yield from _leaves({**name, **item}, "", (*path, f"k:{json.dumps(name, sort_keys=True)}"))
    elif path:
        yield path, copy.deepcopy(value)


def _owners(manifest: Mapping[str, Any]) -> dict[str, set[Path]]:
    entries = manifest["metadata"].get("managedFields") or []
    return {entry["manager"]: set(_paths(entry["fieldsV1"])) for entry in entries}


def _paths(fields: Mapping[str, Any], path: Path = ()) -> Any:
    if not fields:
        yield path
    for step, below in fields.items():
        yield from _paths(below, (*path, step))


def _set_owned(manifest: dict[str, Any], manager: str, owned: set[Path]) -> None:
    fields: dict[str, Any] = {}
    for path in owned:
        here = fields
        for step in path:
            here = here.setdefault(step, {})
    entries = [e for e in manifest["metadata"].get("managedFields") or [] if e["manager"] != manager]
    entry = {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}
    manifest["metadata"]["managedFields"] = sorted([*entries, *([entry] if owned else [])], key=lambda e: e["manager"])


def _merge(into: dict[str, Any], intent: Mapping[str, Any]) -> None:
    for name, value in intent.items():
        there = into.get(name)
        if isinstance(value, Mapping) and isinstance(there, dict):
            _merge(there, value)
        elif isinstance(value, list) and isinstance(there, list) and (keys := merge_keys(name, value)):
            for item in value:
                same = [one for one in there if all(_key(one, key) == _key(item, key) for key in keys)]
                if same:
                    _merge(same[0], item)
                else:
                    there.append(copy.deepcopy(item))
        else:
            into[name] = copy.deepcopy(value)


def _key(item: Mapping[str, Any], key: str) -> Any:
    return item.get(key, MERGE_DEFAULTS.get(key))


def _remove(value: Any, path: Path) -> None:
    step, rest = path[0], path[1:]
    if step.startswith("k:"):
        name = json.loads(step[2:])
        for item in list(value):
            if all(_key(item, key) == wanted for key, wanted in name.items()):
                if rest and rest[0][2:] not in name:
                    _remove(item, rest)
                elif set(item) <= set(name):
                    value.remove(item)
    elif step[2:] in value:
        if rest:
            _remove(value[step[2:]], rest)
        if not rest or value[step[2:]] in ({}, []):
            del value[step[2:]]
