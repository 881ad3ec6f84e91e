"""Faults on a whole service under load, as `make faults` makes them all: what clients saw of a few of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bes_api.documents import the_service
from bes_api.router_config import DirectLoad
from bes_api.scenario_of import scenario_of
from bes_lab.faults import campaign as campaign_module
from bes_lab.faults.__main__ import main
from bes_lab.faults.campaign import Campaign, carry_out, started
from bes_lab.faults.judge import Afterwards, Moments, judge, performance
from bes_lab.faults.seen import OUTPUT_TOKENS, Kind, Seen, kind_of, prompt_of
from bes_lab.faults.steps import Step, all_steps
from bes_lab.faults.system import System

ROOT = Path(__file__).parents[2]
SCENARIO = scenario_of(*the_service(ROOT / "examples" / "opt-paper.yaml"))
STEPS = {step.name: step for step in all_steps("opt-6.7b", 4)}
PATIENT = SCENARIO.model_copy(
    update={
        "tasks": tuple(
            task.model_copy(update={"full_until_seconds": 60.0, "zero_from_seconds": 60.0}) for task in SCENARIO.tasks
        )
    }
)
"""A slow machine must not take the time from a retry: it ends at the deadline."""
SAMPLE = ["gpu-kill", "router-term", "router-kill", "config", "policy-truncated", "engine-die"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Campaign]]:
    campaign = Campaign(
        PATIENT,
        tmp_path_factory.mktemp("faults"),
        DirectLoad(interval_seconds=1.0),
        ROOT / "docs" / "results" / "policies" / "opt-paper" / "policy",
        rate=40.0,
        before_seconds=0.3,
        hold_seconds=1.0,
        after_seconds=0.5,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(campaign_module, "RESPONSE_SECONDS", 60.0)  # a slow machine answers late, and answers
        patched.setattr(campaign_module, "DRAINED_SECONDS", 60.0)
        with started(campaign) as system:
            yield system, campaign


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_fault_costs_only_what_it_must(running: tuple[System, Campaign], name: str) -> None:
    system, campaign = running
    verdict = carry_out(system, campaign, STEPS[name], SAMPLE.index(name))
    assert (verdict.failed, verdict.spoiled, verdict.unaccounted, verdict.in_flight_after) == (0, 0, 0, 0), verdict
    assert verdict.kinds["answered"] >= 40
    assert verdict.hits != 0


def seen(kind: Kind, due: float = 10.0, router: int = 0, ended: float = 10.2, model: str = "opt-6.7b") -> Seen:
    request = Seen(number=0, router=router, task="lambada", stream=False, due=due)
    return request.model_copy(update={"sent": due, "ended": ended, "kind": kind, "model": model})


def step(excuses: str, ends_router: int | None = None) -> Step:
    return Step("a", "a fault", lambda _: None, lambda _: None, excuses=excuses, ends_router=ends_router)


@pytest.mark.parametrize(
    ("excuses", "what", "failed"),
    [
        ("none", seen(Kind.REFUSED), 1),
        ("none", seen(Kind.BROKEN), 1),
        ("begun", seen(Kind.BROKEN), 0),
        ("begun", seen(Kind.LOST), 1),
        ("begun", seen(Kind.TORN), 1),
        ("own", seen(Kind.LOST, router=1, due=9.0), 0),
        ("own", seen(Kind.LOST, router=0, due=9.0), 1),
        ("own", seen(Kind.LOST, router=1, due=12.0), 1),
        ("own", seen(Kind.FOREIGN, router=1, due=9.0), 1),
    ],
)
def test_a_fault_excuses_its_own_failures_and_no_others(excuses: str, what: Seen, failed: int) -> None:
    verdict = judge(
        step(excuses, 1), SCENARIO, [what, seen(Kind.ANSWERED)], Moments(10.0, 11.0, 12.0, 13.0), Afterwards(0, 0, None)
    )
    assert (verdict.failed, verdict.excused + verdict.failed) == (failed, 1)


def test_performance_counts_late_and_failed_requests_with_their_peak() -> None:
    best = max(SCENARIO.tasks[0].quality.values())
    small = SCENARIO.tasks[0].quality["opt-125m"]
    found = [
        seen(Kind.ANSWERED),
        seen(Kind.ANSWERED, model="opt-125m"),
        seen(Kind.ANSWERED, ended=12.0),
        seen(Kind.LOST),
    ]
    assert performance(SCENARIO, found) == pytest.approx(100 * (best + small) / (4 * best))


def text(prompt: str, words: int = OUTPUT_TOKENS) -> str:
    return prompt + " w" * words


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"choices": [{"text": text(prompt_of(3, 1))}]}, Kind.ANSWERED),
        (200, {"choices": [{"text": text(prompt_of(4, 1))}]}, Kind.FOREIGN),
        (200, {"choices": [{"text": text(prompt_of(3, 1), 2)}]}, Kind.TORN),
        (200, {"choices": []}, Kind.TORN),
        (503, {"error": {"message": "no"}}, Kind.REFUSED),
        (503, {"oops": 1}, Kind.TORN),
    ],
)
def test_an_answer_is_judged_by_what_it_repeats(status: int, body: object, kind: Kind) -> None:
    assert kind_of(status, False, json.dumps(body).encode(), prompt_of(3, 1)) is kind


def test_a_stream_is_whole_only_with_every_token_and_its_end() -> None:
    prompt = prompt_of(3, 1)
    first = [b"data: " + json.dumps({"choices": [{"text": prompt + " w"}]}).encode()]
    more = [b"data: " + json.dumps({"choices": [{"text": " w"}]}).encode()] * (OUTPUT_TOKENS - 1)

    def judged(*events: bytes) -> Kind:
        return kind_of(200, True, b"".join(event + b"\n\n" for event in events), prompt)

    assert judged(*first, *more, b"data: [DONE]") is Kind.ANSWERED
    assert judged(*first, *more) is Kind.TORN
    assert judged(*first, *more[1:], b"data: [DONE]") is Kind.TORN
    assert judged(*first, b'data: {"error": {"message": "x"}}') is Kind.BROKEN


def test_an_unknown_fault_and_a_rate_that_is_none_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--only", "earthquake", "--out", str(tmp_path)]) == 2
    assert "--only earthquake: no such fault here" in capsys.readouterr().err
    assert main(["--rate", "0", "--out", str(tmp_path)]) == 2
    assert "--rate 0: expected 0.1 to 1000" in capsys.readouterr().err
