"""Engine files against what their projects documented (data/engines), and the chat template in both its forms."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from service_samples import sample

from bes_api.engines import ENGINES, engine_types
from bes_api.engines.chat_template import BEGIN_OF_TEXT, JINJA, rendered
from bes_api.engines.facts import Case, EngineFacts, Launch
from bes_api.service import BestEffortService, EngineType

RECORDED = {
    EngineType.VLLM: "vllm.yaml",
    EngineType.TEXT_GENERATION_INFERENCE: "text-generation-inference.yaml",
}


def recorded(engine: EngineType) -> dict[str, Any]:
    path = Path(__file__).parent / "data" / "engines" / RECORDED[engine]
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.fixture(params=list(RECORDED))
def facts(request: pytest.FixtureRequest) -> EngineFacts:
    return ENGINES[request.param]


LAUNCH = Launch("facebook/opt-6.7b", "opt-6.7b", context_tokens=2048, max_batch_size=64, revision="main")


def option(arguments: tuple[str, ...], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_image_is_the_one_that_the_recorded_documentation_names(facts: EngineFacts) -> None:
    document = recorded(facts.type)
    assert facts.program is not None
    assert facts.program.image.reference == document["image"]
    tag = facts.program.image.reference.rpartition(":")[2].lstrip("v")
    assert [part.isdigit() for part in tag.split(".")] == [True, True, True]


def test_metric_names_stand_in_the_recorded_documentation(facts: EngineFacts) -> None:
    metrics = recorded(facts.type)["metrics"]
    assert set(facts.metrics.in_flight) <= set(metrics["gauges"])
    assert facts.metrics.finished in metrics["counters"]


def test_every_recorded_error_has_the_status_and_type_of_the_facts(facts: EngineFacts) -> None:
    answers = [answer for answer in recorded(facts.type)["answers"] if "case" in answer]
    assert {Case(answer["case"]) for answer in answers} >= {Case.INVALID, Case.TOO_LONG, Case.UNHEALTHY}
    for answer in answers:
        stated = facts.errors.answers[Case(answer["case"])]
        assert stated.status == answer["status"], answer["name"]
        if stated.kind is None:
            assert answer["body"] == ""
        else:
            written = facts.errors.body(stated.status, stated.kind, stated.message or "why")
            recorded_kind = answer["body"].get("error_type") or answer["body"]["error"]["type"]
            assert json.dumps(recorded_kind) in json.dumps(written)


def test_every_fact_says_where_it_comes_from(facts: EngineFacts) -> None:
    program = facts.program
    assert program is not None
    sources = (facts.source, facts.metrics.source, facts.errors.source, program.image.source, program.arguments_source)
    assert all(len(source) > 10 for source in (*sources, program.probes.source, program.weights.source))


def test_arguments_state_context_batch_and_the_budget_that_the_simulator_assumes() -> None:
    vllm = ENGINES[EngineType.VLLM]
    assert vllm.program is not None
    given = vllm.program.arguments(LAUNCH)
    assert given[:2] == ("--model", "facebook/opt-6.7b")
    assert option(given, "--served-model-name") == "opt-6.7b"
    assert (option(given, "--max-model-len"), option(given, "--max-num-seqs")) == ("2048", "64")
    assert option(given, "--max-num-batched-tokens") == str(vllm.prefill_token_budget)
    tgi = ENGINES[EngineType.TEXT_GENERATION_INFERENCE]
    assert tgi.program is not None
    given = tgi.program.arguments(LAUNCH)
    assert (option(given, "--model-id"), option(given, "--revision")) == ("facebook/opt-6.7b", "main")
    assert (option(given, "--max-input-tokens"), option(given, "--max-total-tokens")) == ("2047", "2048")
    assert option(given, "--max-batch-prefill-tokens") == str(tgi.prefill_token_budget)
    assert int(option(given, "--max-concurrent-requests")) > 512  # behind the router's own admission


def test_the_resources_own_arguments_come_last_and_the_template_only_where_one_is_mounted(facts: EngineFacts) -> None:
    program = facts.program
    assert program is not None
    mounted = f"/templates/{program.chat_template.name}"
    given = program.arguments(Launch("a/b", "b", 2048, 64, chat_template=mounted, more=("--tensor-parallel-size", "2")))
    assert given[-4:] == (given[-4], mounted, "--tensor-parallel-size", "2")
    assert mounted not in program.arguments(LAUNCH)
    assert option(given, "--port") == str(program.port)


def test_slow_loading_has_minutes_and_the_other_probes_have_seconds(facts: EngineFacts) -> None:
    assert facts.program is not None
    probes = facts.program.probes
    assert probes.startup.period_seconds * probes.startup.failures >= 600
    assert probes.liveness.period_seconds * probes.liveness.failures <= 60
    assert {probe.path for probe in (probes.startup, probes.readiness, probes.liveness)} == {facts.health_path}


MESSAGES = [("system", " Be brief. "), ("user", "What is 2 + 2?\n"), ("assistant", "4"), ("user", "And 3 + 3?")]


def test_the_chat_template_says_the_same_as_jinja_and_as_a_function() -> None:
    jinja2 = pytest.importorskip("jinja2", reason="the training environment has it")
    template = jinja2.Template(JINJA, keep_trailing_newline=True)
    messages = [{"role": role, "content": content} for role, content in MESSAGES]
    written = template.render(messages=messages, bos_token=BEGIN_OF_TEXT, add_generation_prompt=True)
    assert written == rendered(MESSAGES)
    assert written.endswith("User: And 3 + 3?\nAssistant:")


def test_text_generation_inference_finds_the_template_in_a_tokenizer_configuration() -> None:
    program = ENGINES[EngineType.TEXT_GENERATION_INFERENCE].program
    assert program is not None
    assert json.loads(program.chat_template.content())["chat_template"] == JINJA


def test_a_models_own_engine_counts_more_than_the_services() -> None:
    document = sample()
    document["spec"]["engine"] = {"type": "VLLM"}
    document["spec"]["models"][0]["engine"] = {"type": "Emulated"}
    service = BestEffortService.model_validate(document)
    first, *others = engine_types(service.spec).values()
    assert first is EngineType.EMULATED
    assert all(other is EngineType.VLLM for other in others)
