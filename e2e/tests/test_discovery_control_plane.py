"""A router's discovery on a real API server, with a pod's account that may read EndpointSlices and nothing else."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from control_plane import api_server
from router_rig import scenario_of_rig
from slice_server import endpoint, slice_of

from bes_api.discovery_config import EndpointSlices, ServedModel
from bes_lab.cluster.control_plane import API_SERVER, ETCD, ControlPlane
from bes_lab.cluster.programs import the_programs
from bes_router.discovery.api import ApiServer
from bes_router.discovery.endpoint_slices import SliceDiscovery
from bes_router.discovery.found import Found
from bes_router.discovery.pace import Pace

__all__ = ["api_server"]
pytestmark = pytest.mark.control_plane
QUICK = Pace(watch=5, first_pause=0.05, longest_pause=0.5)


class Namespace:
    """One namespace of the API server; the router's account in it, and what kubectl does there."""

    def __init__(self, plane: ControlPlane, name: str, account: Path) -> None:
        self.plane, self.name, self.account = plane, name, account
        self.kubectl("create", "namespace", name)
        self.kubectl("create", "serviceaccount", "router")
        account.mkdir()
        (account / "ca.crt").write_bytes((plane.certificates / "ca.crt").read_bytes())
        (account / "token").write_text(self.kubectl("create", "token", "router"))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [the_programs()["kubectl"], f"--kubeconfig={self.plane.kubeconfig}", f"--namespace={self.name}"]
        done = subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def allow(self) -> None:
        """What the chart's role for routers allows."""
        self.kubectl("create", "role", "router", "--verb=get,list,watch", "--resource=endpointslices.discovery.k8s.io")
        self.kubectl("create", "rolebinding", "router", "--role=router", f"--serviceaccount={self.name}:router")

    def put(self, name: str, **conditions: Any) -> None:
        """A slice of one pod; the API server takes no address of loopback."""
        one = endpoint(name, **conditions) | {"addresses": ["10.1.2.3"]}
        one["targetRef"]["namespace"] = self.name
        slice_ = slice_of("opt-large", name, 8000, one) | {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
        }
        slice_["metadata"].pop("namespace")
        self.kubectl("apply", "-f", "-", stdin=json.dumps(slice_))

    async def do(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(work, *arguments, **named)


class Watching:
    """A discovery at work."""

    def __init__(self, there: Namespace) -> None:
        engines = (ServedModel(model="large", service="opt-large", served_model="large"),)
        config = EndpointSlices(namespace=there.name, engines=engines)
        server = ApiServer(there.plane.url, there.account, QUICK)
        self.discovery = SliceDiscovery(config, scenario_of_rig(3), server, join_by_name=True)
        self.told: list[Found] = []

    @property
    def seen(self) -> dict[str | None, bool | None]:
        return {each.backend.join: each.ready for each in self.told[-1].listed} if self.told else {}

    async def sees(self, **pods: bool) -> None:
        await self.until(lambda: self.seen == pods)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watching(there: Namespace) -> AsyncIterator[Watching]:
    it = Watching(there)
    task = asyncio.create_task(it.discovery.run(it.told.append))
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def bounded(check: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(300):
            await check

    asyncio.run(run())


def test_endpoints_are_followed_by_whoever_may_read_slices_alone(api_server: ControlPlane, tmp_path: Path) -> None:
    there = Namespace(api_server, "followed", tmp_path / "account")

    async def check() -> None:
        async with watching(there) as it:
            await it.until(lambda: "403" in it.discovery.report.problem)
            assert "endpointslices" in it.discovery.report.problem
            await there.do(there.put, "a")
            await there.do(there.allow)
            await it.sees(a=True)
            assert it.discovery.report.problem == ""
            await there.do(there.put, "b", ready=False)
            await it.sees(a=True, b=False)
            await there.do(there.put, "b")
            await it.sees(a=True, b=True)
            await there.do(there.put, "a", ready=False, serving=True, terminating=True)
            await it.sees(b=True)
            await there.do(there.kubectl, "delete", "endpointslice", "b", "a")
            await it.sees()
            lists = it.discovery.report.lists
            heard = it.discovery.report.heard_at or 0.0
            # The server ends a watch after its time: the next one goes on, and nothing is listed anew.
            await it.until(lambda: (it.discovery.report.heard_at or 0.0) > heard + 2 * QUICK.watch)
            assert (it.discovery.report.lists, it.discovery.report.problem) == (lists, "")

    bounded(check())


def test_what_was_known_stays_while_api_server_and_store_are_dead_and_what_changed_is_seen_then(
    api_server: ControlPlane, tmp_path: Path
) -> None:
    there = Namespace(api_server, "outlived", tmp_path / "account")
    there.allow()
    there.put("a")
    there.put("b")

    async def check() -> None:
        async with watching(there) as it:
            await it.sees(a=True, b=True)
            api_server.kill(API_SERVER)
            await it.until(lambda: it.discovery.report.problem != "")
            api_server.kill(ETCD)
            failures = it.discovery.report.failures
            await it.until(lambda: it.discovery.report.failures > failures + 3)
            assert it.seen == {"a": True, "b": True}
            # Signals and children belong to the main thread; it is blocked meanwhile, as the discovery may be.
            api_server.start(ETCD)
            api_server.start(API_SERVER)
            await there.do(there.kubectl, "delete", "endpointslice", "a")
            await there.do(there.put, "c")
            await it.sees(b=True, c=True)
            assert it.discovery.report.problem == ""

    bounded(check())
