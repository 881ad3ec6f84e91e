"""A real `bes engine` process: vLLM's API over a real socket, latencies as the formula says."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_http import WAIT_SECONDS, ask, at_least, begin, complete, soon, unpunctual
from lab_scenarios import scenario

from bes_api.handover import dump_document
from bes_api.scenario import Scenario
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import idle_latency

TOLERANCE = 0.006
"""Seconds: one tick of the loop's timer, a socket, and a busy test machine."""


def started(children: Children, given: Scenario, folder: Path) -> dict[str, int]:
    dump_document(given, folder / "scenario.json")
    addresses = folder / "addresses.json"
    command = bes("engine", str(folder / "scenario.json"), "--addresses", str(addresses))
    children.start("gpu-0", command, folder / "gpu-0.log")
    children.wait_until(addresses.exists, "ready", WAIT_SECONDS)
    return {engine.model: engine.port for engine in EngineAddresses.read(addresses).engines}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with Children() as children:
        yield started(children, scenario(), tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def sliced_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with Children() as children:
        yield started(children, scenario(interference=1.0), tmp_path_factory.mktemp("sliced"))


@pytest.mark.parametrize(("engine", "model"), [(0, "small"), (1, "large")])
def test_an_idle_engine_answers_after_what_the_formula_says(ports: dict[str, int], engine: int, model: str) -> None:
    expected = idle_latency(catalogue_of(scenario()), engine, 128, 16)
    at_least(expected, TOLERANCE, lambda: complete(ports[model], model, 128, 16).seconds)


def test_two_engines_of_a_time_sliced_gpu_slow_each_other(sliced_ports: dict[str, int]) -> None:
    catalogue = catalogue_of(scenario(interference=1.0))
    small, large = idle_latency(catalogue, 0, 128, 64), idle_latency(catalogue, 1, 128, 16)
    assert small < large

    def both() -> dict[str, float]:
        found = {}
        began = time.monotonic()
        connections = {"large": begin(sliced_ports["large"], "large", 128, 16)}
        connections["small"] = begin(sliced_ports["small"], "small", 128, 64)
        for name in ("small", "large"):
            connections[name].recv(65536)
            found[name] = time.monotonic() - began
            connections[name].close()
        return found

    expected = {"small": pytest.approx(2 * small, abs=TOLERANCE), "large": pytest.approx(small + large, abs=TOLERANCE)}
    if not any((found := both()) == expected for _ in range(30)):
        if why := unpunctual(TOLERANCE):
            pytest.skip(why)
        assert found == expected


def test_an_answer_counts_tokens_exactly(ports: dict[str, int]) -> None:
    answer = complete(ports["small"], "small", 37, 11).json
    assert answer["usage"] == {
        "prompt_tokens": 37,
        "total_tokens": 48,
        "completion_tokens": 11,
        "prompt_tokens_details": None,
    }
    (choice,) = answer["choices"]
    assert len(choice["text"].split()) == 11
    assert choice["finish_reason"] == "length"


def test_a_list_of_token_ids_is_counted(ports: dict[str, int]) -> None:
    answer = ask(
        ports["small"], "POST", "/v1/completions", {"prompt": [[5, 6, 7], [8]], "max_tokens": 2, "model": "small"}
    ).json
    assert answer["usage"] == {
        "prompt_tokens": 4,
        "total_tokens": 8,
        "completion_tokens": 4,
        "prompt_tokens_details": None,
    }
    assert len(answer["choices"]) == 2


def test_a_stream_has_one_event_per_token_and_the_usage_at_the_end(ports: dict[str, int]) -> None:
    reply = complete(ports["small"], "small", 20, 12, stream=True, stream_options={"include_usage": True})
    *events, done, rest = reply.body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    tokens = [chunk["choices"][0] for chunk in chunks[:-1]]
    assert len(tokens) == 12
    assert all(len(token["text"].split()) == 1 for token in tokens)
    assert [token["finish_reason"] for token in tokens] == [None] * 11 + ["length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 20, "total_tokens": 32, "completion_tokens": 12}


def metric(port: int, name: str) -> float:
    page = ask(port, "GET", "/metrics").body.decode()
    (line,) = [line for line in page.splitlines() if line.startswith(name)]
    return float(line.rpartition(" ")[2])


def slow(port: int, factor: float | None) -> None:
    """So slow that nothing ends by itself while a test looks on; None: as usual again."""
    if factor is None:
        assert ask(port, "DELETE", "/emulated/fault").status == 200
    else:
        assert ask(port, "POST", "/emulated/fault", {"kind": "slow", "factor": factor}).status == 200


def test_metrics_carry_vllms_names_and_what_is_in_flight(ports: dict[str, int]) -> None:
    port = ports["large"]
    generated = metric(port, "vllm:generation_tokens_total")
    slow(port, 50.0)
    connections = [begin(port, "large", 100, 30) for _ in range(3)]
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    assert soon(lambda: sum(metric(port, f'{name}{{model_name="large"') for name in names) == 3)
    assert soon(lambda: metric(port, "vllm:kv_cache_usage_perc") > 0)
    slow(port, None)
    for connection in connections:
        connection.recv(65536)
        connection.close()
    assert metric(port, "vllm:num_requests_running") == 0
    assert metric(port, "vllm:generation_tokens_total") == generated + 90


def test_a_client_that_leaves_frees_the_engine(ports: dict[str, int]) -> None:
    port = ports["large"]
    aborted = metric(port, 'vllm:request_success_total{model_name="large",engine="0",finished_reason="abort"')
    slow(port, 50.0)
    begin(port, "large", 100, 1000).close()
    by_abort = 'vllm:request_success_total{model_name="large",engine="0",finished_reason="abort"'
    assert soon(lambda: metric(port, by_abort) == aborted + 1)
    assert soon(lambda: metric(port, "vllm:num_requests_running") == 0)
    slow(port, None)


@pytest.mark.parametrize(
    ("document", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "expected a JSON object"),
        ({"model": "other", "prompt": "a"}, 404, "`other` does not exist"),
        ({"model": "small"}, 400, "prompt: expected"),
        ({"model": "small", "prompt": []}, 400, "prompt: expected"),
        ({"model": "small", "prompt": "a", "max_tokens": 0}, 400, "max_tokens: expected"),
        ({"model": "small", "prompt": "a", "max_tokens": True}, 400, "max_tokens: expected"),
        ({"model": "small", "prompt": "a", "max_tokens": 4000}, 400, "maximum context length is 2048"),
        ({"model": "small", "prompt": "a", "best_of": 2}, 400, "best_of: an emulated engine"),
        ({"model": "small", "prompt": "a", "n": 0}, 400, "n: expected a whole number from 1 to 128"),
        ({"model": "small", "prompt": "a", "seed": "x"}, 400, "seed: expected"),
        ({"model": "small", "prompt": "a", "stop": [""]}, 400, "stop: expected"),
        ({"model": "small", "prompt": "a", "logprobs": 21}, 400, "logprobs: expected a whole number from 0 to 20"),
        ({"model": "small", "prompt": "a", "suffix": "b"}, 400, "suffix: an emulated engine"),
        ({"model": "small", "prompt": [1, 2], "echo": True}, 400, "echo: an emulated engine"),
    ],
)
def test_a_bad_request_is_refused_in_openais_shape(
    ports: dict[str, int], document: object, status: int, says: str
) -> None:
    reply = ask(ports["small"], "POST", "/v1/completions", document)
    assert reply.status == status
    error = reply.json["error"]
    assert isinstance(error, dict)
    assert says in error["message"]
    assert error["code"] == status


def test_models_health_and_unknown_paths(ports: dict[str, int]) -> None:
    (card,) = ask(ports["large"], "GET", "/v1/models").json["data"]
    assert (card["id"], card["max_model_len"]) == ("large", 2048)
    assert ask(ports["large"], "GET", "/health").status == 200
    assert ask(ports["large"], "GET", "/nowhere").status == 404
    assert ask(ports["large"], "GET", "/v1/completions").status == 405


def test_pipelined_requests_are_answered_in_order(ports: dict[str, int]) -> None:
    first = begin(ports["small"], "small", 5, 40)
    body = b'{"prompt": "a b c", "max_tokens": 1}'
    first.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    received = b""
    while received.count(b'"usage"') < 2:
        received += first.recv(65536)
    first.close()
    assert received.index(b'"prompt_tokens":5') < received.index(b'"prompt_tokens":3')
