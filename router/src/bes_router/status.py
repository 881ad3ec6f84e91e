"""What a running router says of itself: the status document, the views beside it, and the metrics of its deliveries."""

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bes_api.router_status import (
    CandidateStatus,
    ConfigurationStatus,
    DiscoveryStatus,
    LoadStatus,
    PolicyStatus,
    RouterStatus,
    TaskStatus,
)
from bes_router.shadow import SLOW_SECONDS

if TYPE_CHECKING:
    from bes_router.delivery import Candidate
    from bes_router.generation import Generation
    from bes_router.running import RunningRouter

PACKAGES = ("best-effort-serving", "numpy", "uvloop", "aiohttp")


@dataclass
class Reloads:
    """Deliveries so far: those that serve or served, and configurations that were refused."""

    applied: int = 0
    refused: int = 0


def status_of(running: "RunningRouter") -> RouterStatus:
    """The whole document."""
    generation, delivered = running.generation, running.delivered
    refused = delivered.refused
    return RouterStatus(
        service=delivered.config.service,
        boot_id=running.boot_id,
        started_at=running.started_at,
        uptime_seconds=time.monotonic() - running.began,
        ready=running.ready,
        draining=running.router.draining,
        configuration=ConfigurationStatus(
            digest=delivered.digest,
            refused_digest=refused.digest if refused else None,
            problem=refused.problem if refused else None,
        ),
        policy=_policy(running),
        candidate=_candidate(delivered.candidate) if delivered.candidate else None,
        tasks=_tasks(generation),
        errors={str(reason): count for reason, count in generation.metrics.errors.items() if count},
        load=_load(generation),
        discovery=_discovery(generation),
        in_flight=generation.serving.in_flight,
        connections=len(running.router.connections),
        backends_ready=sum(backend.ready for backend in generation.backends),
        backends_listed=len(generation.backends),
        versions=_versions(),
    )


def _policy(running: "RunningRouter") -> PolicyStatus:
    loaded = running.delivered.loaded
    return PolicyStatus(
        asked=running.delivered.config.policy.type,
        name=loaded.policy.name,
        digest=loaded.digest,
        trained_for=loaded.passport.scenario_hash if loaded.passport else None,
        fallback=bool(loaded.problem),
        reason=loaded.word or None,
        problem=loaded.problem or None,
        failures=running.generation.metrics.policy_failures,
    )


def _candidate(candidate: "Candidate") -> CandidateStatus:
    figures = candidate.figures
    return CandidateStatus(
        digest=candidate.digest,
        name=candidate.policy.name if candidate.policy else None,
        problem=candidate.problem or None,
        decisions=figures.decisions,
        same_model=figures.same_model,
        same_engine=figures.same_engine,
        failures=figures.failures,
        slow=figures.slow,
        slow_microseconds=SLOW_SECONDS * 1e6,
        mean_microseconds=figures.seconds / figures.decisions * 1e6 if figures.decisions else None,
        slowest_microseconds=figures.slowest_seconds * 1e6,
        last_failure=figures.last_failure or None,
    )


def _tasks(generation: "Generation") -> tuple[TaskStatus, ...]:
    metrics = generation.metrics
    return tuple(
        TaskStatus(
            name=name,
            in_time=task.in_time,
            late=task.late,
            failed=task.failed,
            client_gone=task.client_gone,
            client_fault=task.client_faults,
            reward=task.reward,
            peak_reward=task.peak_reward,
            decisions=dict(zip(metrics.model_names, decisions, strict=True)),
        )
        for name, task, decisions in zip(metrics.task_names, metrics.tasks, metrics.decisions, strict=True)
    )


def _load(generation: "Generation") -> LoadStatus:
    known = generation.load.board.known(time.monotonic())
    return LoadStatus(
        source=generation.load.name,
        age_seconds=generation.figures_age(),
        known=sum(known[backend.engine] for backend in generation.backends),
        listed=len(generation.backends),
        share=generation.serving.tracker.share,
        problem=generation.load.tally.problem or None,
    )


def _discovery(generation: "Generation") -> DiscoveryStatus:
    report = generation.discovery.report
    return DiscoveryStatus(
        source=generation.discovery.name,
        age_seconds=None if report.heard_at is None else time.monotonic() - report.heard_at,
        lists=report.lists,
        failures=report.failures,
        waiting=report.waiting,
        without_endpoints=report.unserved,
        groups_not_told_apart=report.guessed,
        problem=report.problem or None,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an image holds the sources, not the distribution
            continue
    return found


def load_of(running: "RunningRouter") -> dict[str, Any]:
    """The load view of this moment, as a decision would see it."""
    generation = running.generation
    now = time.monotonic()
    view = generation.serving.tracker.view(now)
    known = generation.load.board.known(now)
    return {
        **_load(generation).model_dump(),
        "requests_per_second": {"fast": view.rate_fast, "slow": view.rate_slow},
        "engines": [
            {
                "backend": backend.label,
                "own_in_flight": generation.serving.tracker.own[backend.engine],
                "estimated_in_flight": view.load[backend.engine],
                "figure_known": known[backend.engine],
            }
            for backend in generation.backends
        ],
    }


def backends_of(running: "RunningRouter") -> list[dict[str, Any]]:
    """Every listed backend."""
    own = running.generation.serving.tracker.own
    return [
        {
            "backend": backend.label,
            "address": backend.address,
            "port": backend.port,
            "join": backend.listed.joined_by,
            "ready": backend.ready,
            "healthy": backend.healthy,
            "standing": backend.standing.phase,
            "kept_out_for": backend.standing.cause,
            "in_flight": own[backend.engine],
            "kept_connections": len(backend.idle),
        }
        for backend in running.generation.backends
    ]


def policy_of(running: "RunningRouter") -> dict[str, Any]:
    """What decides, and the passport of its artifact."""
    delivered = running.delivered
    passport = delivered.loaded.passport
    return {
        **_policy(running).model_dump(),
        "configured": delivered.config.policy.model_dump(mode="json"),
        "fallback_rule": delivered.config.fallback.model_dump(mode="json"),
        "passport": passport.model_dump(mode="json") if passport else None,
    }


class DeliveryCollector(Collector):
    """The metrics of what was delivered to ``running``."""

    def __init__(self, running: "RunningRouter") -> None:
        self._running = running

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Render, called by the registry."""
        reloads, delivered = self._running.reloads, self._running.delivered
        family = CounterMetricFamily(
            "bes_router_deliveries", "configurations, policies and candidates that came", labels=["outcome"]
        )
        family.add_metric(["applied"], reloads.applied)
        family.add_metric(["refused"], reloads.refused)
        yield family
        yield GaugeMetricFamily(
            "bes_router_configuration_refused",
            "1 while the configuration in its folder is not the one that serves",
            value=float(delivered.refused is not None),
        )
        if delivered.candidate is not None:
            yield from self._candidate(delivered.candidate)

    def _candidate(self, candidate: "Candidate") -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        figures = candidate.figures
        yield GaugeMetricFamily(
            "bes_router_candidate_usable", "1 if the candidate decides in shadow", value=float(not candidate.problem)
        )
        family = CounterMetricFamily(
            "bes_router_candidate_decisions", "decisions that the candidate took again", labels=["outcome"]
        )
        sound = figures.decisions - figures.failures
        family.add_metric(["same_model"], figures.same_model)
        family.add_metric(["other_model"], sound - figures.same_model)
        family.add_metric(["failed"], figures.failures)
        yield family
        yield CounterMetricFamily(
            "bes_router_candidate_seconds", "time that the candidate's decisions took", value=figures.seconds
        )
