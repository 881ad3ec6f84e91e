import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from in_memory_cluster import Call, InMemoryCluster
from virtual_time import run

from bes_operator.errors import ClusterError, NotLeading, TimedOut, Unavailable
from bes_operator.leader import Fenced, Leader
from bes_operator.manifest import Apply, Key
from bes_operator.settings import Leadership

LEASE = Key("Lease", "own", "best-effort-serving-operator")
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": "a"}, "data": {"a": "b"}}


def settings(identity: str) -> Leadership:
    return Leadership(identity=identity, duration_seconds=15, renew_deadline_seconds=10, retry_seconds=2)


class Candidate:
    """One operator: writes down when it leads."""

    def __init__(self, cluster: InMemoryCluster, name: str) -> None:
        wrong = timedelta(hours=ord(name))  # clocks need not agree
        self.leader = Leader(
            cluster, "own", settings(name), lambda: datetime(2026, 1, 1, tzinfo=UTC) - wrong + timedelta(seconds=now())
        )
        self.fenced = Fenced(cluster, self.leader)
        self.spans: list[tuple[float, float]] = []

    async def lead(self) -> None:
        began = now()
        try:
            await asyncio.sleep(1e9)
        finally:
            self.spans.append((began, now()))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.leader.run(self.lead))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_one_of_two_leads_and_keeps_on() -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        a, b = Candidate(cluster, "a"), Candidate(cluster, "b")
        async with a.running(), b.running():
            await asyncio.sleep(600)
            assert [each.leader.leads() for each in (a, b)] == [True, False]
        assert len(a.spans) == 1
        assert cluster.objects[LEASE]["spec"]["leaseTransitions"] == 0

    run(test())


def test_a_leader_that_ends_in_order_gives_the_lease_back_and_another_takes_it_at_once() -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        a, b = Candidate(cluster, "a"), Candidate(cluster, "b")
        async with a.running():
            await asyncio.sleep(5)
            gone = now()
        async with b.running():
            await asyncio.sleep(5)
            assert b.leader.leads()
            assert now() - gone < settings("b").duration_seconds

    run(test())


def test_a_leader_that_dies_is_followed_once_its_lease_has_run_out() -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        a, b = Candidate(cluster, "a"), Candidate(cluster, "b")
        task = asyncio.create_task(a.leader.run(a.lead))
        await asyncio.sleep(20)
        held = dict(cluster.objects[LEASE]["spec"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        cluster.objects[LEASE]["spec"] = held  # killed: nothing was given back
        began = now()
        async with b.running():
            await asyncio.sleep(14)
            assert not b.leader.leads()
            await asyncio.sleep(5)
            assert b.leader.leads()
        assert b.spans[0][0] - began >= 15
        assert cluster.objects[LEASE]["spec"]["leaseTransitions"] == 1

    run(test())


def test_two_never_lead_at_once_however_the_api_server_treats_them() -> None:
    """A leader that is cut off stops before another may begin; the other sees the Lease all the time."""

    async def test(cut_off_seconds: float) -> None:
        cluster = InMemoryCluster()
        a, b = Candidate(cluster, "a"), Candidate(cluster, "b")
        async with a.running():
            await asyncio.sleep(30)
            first = asyncio.current_task()
            assert first is not None
            until = now() + cut_off_seconds

            def fault(_call: Call, _number: int) -> ClusterError | None:
                mine = (asyncio.current_task() or first).get_name().startswith("a")
                return Unavailable("call", "500") if mine and now() < until else None

            cluster.fault = fault
            for task in asyncio.all_tasks():
                if task is not first:
                    task.set_name("a")
            async with b.running():
                await asyncio.sleep(200)
        both = sorted(a.spans + b.spans)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(both)), both

    for seconds in (3, 9, 11, 14, 16, 30, 100):
        run(test(seconds))


def test_a_leader_stops_when_it_cannot_renew_and_leads_again_when_it_can() -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        a = Candidate(cluster, "a")
        async with a.running():
            await asyncio.sleep(30)
            cluster.fault = lambda *_: Unavailable("call", "500")
            lost = now()
            await asyncio.sleep(60)
            assert not a.leader.leads()
            cluster.fault = lambda *_: None
            await asyncio.sleep(5)
            assert a.leader.leads()
        assert a.spans[0][1] - lost <= settings("a").renew_deadline_seconds

    run(test())


def test_who_does_not_lead_may_not_write() -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        a = Candidate(cluster, "a")
        for write in (
            lambda: a.fenced.apply(Apply(MANIFEST)),
            lambda: a.fenced.write_status(MANIFEST),
            lambda: a.fenced.create(MANIFEST),
            lambda: a.fenced.replace(MANIFEST),
            lambda: a.fenced.delete(Key("ConfigMap", "n", "a"), "uid"),
        ):
            with pytest.raises(NotLeading):
                await write()
        assert cluster.writes == []
        assert await a.fenced.read(Key("ConfigMap", "n", "a")) is None
        async with a.running():
            await asyncio.sleep(1)
            await a.fenced.apply(Apply(MANIFEST))
        assert Key("ConfigMap", "n", "a") in cluster.objects

    run(test())


def test_a_write_on_its_way_is_cut_off_before_another_may_lead() -> None:
    class Slow(InMemoryCluster):
        async def apply(self, step: Apply) -> dict[str, object]:  # noqa: ARG002 - never answers
            await asyncio.sleep(1e9)
            return {}

    async def test() -> None:
        cluster = Slow()
        a = Candidate(cluster, "a")
        async with a.running():
            await asyncio.sleep(20)
            cluster.fault = lambda *_: Unavailable("call", "500")
            began = now()
            with pytest.raises(TimedOut):
                await a.fenced.apply(Apply(MANIFEST))
            assert now() - began < settings("a").duration_seconds

    run(test())
