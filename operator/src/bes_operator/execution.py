"""Carrying out what a pass decided: apply what differs, in order; then delete what nothing intends any more."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bes_operator.altered import Altered
from bes_operator.cluster import Cluster
from bes_operator.compare import must_apply, must_replace
from bes_operator.errors import Conflict, Leaving, NameTaken
from bes_operator.kinds import CHILD_KINDS
from bes_operator.manifest import Apply, Key, Manifest, key_of
from bes_operator.observed import Observed
from bes_operator.ownership import Claim, claim_on, held_by, is_leaving, owned_by


@dataclass(frozen=True)
class Execution:
    """For one service, in one pass."""

    cluster: Cluster
    observed: Observed
    service: Key
    uid: str
    altered: Altered

    async def apply(self, steps: Sequence[Apply]) -> None:
        """Every step whose object is not yet as it says. ClusterError: a call failed, and what comes after is not done.

        NameTaken: an object of that name is somebody else's; then nothing at all is applied.
        """
        found, own = dict[Key, Manifest | None](), self._own()
        strangers = [key for key in dict.fromkeys(map(_key, steps)) if await self._is_strange(key, own, found)]
        if strangers:
            raise NameTaken(strangers)
        for step in steps:
            key = key_of(step.manifest)
            live = self.observed.get(key) or found.get(key)
            if must_apply(step.manifest, live, step.field_manager) and not (live and self.altered.stands(step, live)):
                await self._apply(step, live)

    async def prune(self, intended: Collection[Key]) -> None:
        """Delete what the service owns and nothing intends."""
        for key, live in self.observed.of_service(self.service).items():
            if key.kind in CHILD_KINDS and key not in intended and owned_by(live, self.uid) and not is_leaving(live):
                await self.delete(key, live["metadata"]["uid"])

    async def delete(self, key: Key, uid: str) -> None:
        """One object, if it still is that one."""
        try:
            await self.cluster.delete(key, uid)
        except Conflict:
            await self.observed.look_again(key)
            raise
        self.observed.deleted(key)

    async def _is_strange(self, key: Key, own: Collection[str], found: dict[Key, Manifest | None]) -> bool:
        live = self.observed.get(key)
        if live is None or claim_on(live, self.service, self.uid, own) is not Claim.OURS:
            live = found[key] = await self.observed.look_again(key)
        claim = Claim.OURS if live is None else claim_on(live, self.service, self.uid, own)
        if claim is Claim.LEAVING:
            held = f"; {text}" if live is not None and (text := held_by(live)) else ""
            raise Leaving(f"apply {key}", f"the one of an earlier service of this name is still being deleted{held}")
        return claim is Claim.TAKEN

    def _own(self) -> frozenset[str]:
        children = self.observed.of_service(self.service).values()
        return frozenset(child["metadata"]["uid"] for child in children if owned_by(child, self.uid))

    async def _apply(self, step: Apply, live: Manifest | None) -> None:
        manifest = step.manifest
        if live is not None and must_replace(manifest, live):
            await self.delete(key_of(manifest), live["metadata"]["uid"])
            live = None
        if live is not None:  # if another has taken its place meanwhile, that one is not ours to change
            manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": live["metadata"]["uid"]}}
        key = key_of(manifest)
        try:
            applied = await self.cluster.apply(Apply(manifest, step.field_manager, step.force))
        except Conflict:
            await self.observed.look_again(key)
            raise
        self.altered.applied(step, applied)
        self.observed.saw(applied)


def _key(step: Apply) -> Key:
    return key_of(step.manifest)


def intended(steps: Iterable[Apply]) -> frozenset[Key]:
    """What must not be pruned."""
    return frozenset(map(_key, steps))
