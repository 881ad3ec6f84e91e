"""What a deadline looks at and what becomes of a miss, through `bes local up` with an engine that takes its time."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_http import ask, complete

from bes_lab.local.children import bes

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"
WITHIN = "deadline: {hard: {within: 600ms}"
LONG = 100  # tokens: over a second at the largest model, the first one long before the deadline


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Ports of clients and admins. lambada's deadline looks at the first token, piqa aborts what misses its own."""
    text = re.sub(r"(gpus|replicas): 4", r"\1: 1", PAPER.read_text(encoding="utf-8"))
    text = text.replace("\n  router:\n", "\n  router:\n    clients: {pinModel: true}\n")
    text = text.replace(f"lambada\n    {WITHIN}", f"lambada\n    {WITHIN}, measure: FirstToken")
    text = text.replace(f"piqa\n    {WITHIN}", f"piqa\n    {WITHIN}, onMiss: Abort")
    assert {"measure: FirstToken", "onMiss: Abort"} <= set(re.findall(r"measure: FirstToken|onMiss: Abort", text))
    file = tmp_path / "service.yaml"
    file.write_text(text, encoding="utf-8")
    command = bes("local", "up", str(file), "--port", "0", "--logs", str(tmp_path / "logs"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("curl -i"):
                break
        client, admin = (re.search(rf"{word} +(?:at )?http://127.0.0.1:([0-9]+)", said) for word in ("ready", "admin"))
        assert client is not None, said
        assert admin is not None, said
        yield int(client[1]), int(admin[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)


def metric(admin: int, line: str) -> float:
    page = ask(admin, "GET", "/metrics").body.decode()
    found = re.search(rf"^{re.escape(line)} (.*)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def long_answer(port: int, task: str, *, stream: bool) -> tuple[int, bytes, float]:
    """Status, body and seconds of an answer of `LONG` tokens by the largest model."""
    document = {"model": "opt-6.7b", "prompt": "one " * 100, "max_tokens": LONG, "stream": stream}
    reply = ask(port, "POST", "/v1/completions", document, fields={"x-bes-task": task})
    return reply.status, reply.body, reply.seconds


@pytest.mark.slow
def test_a_first_token_in_time_is_all_that_one_task_asks_for_and_another_is_aborted(ports: tuple[int, int]) -> None:
    port, admin = ports
    status, body, seconds = long_answer(port, "lambada", stream=True)
    assert (status, body.count(b"[DONE]")) == (200, 1)
    assert seconds > 0.7  # far beyond the deadline, and yet:
    assert metric(admin, 'bes_router_requests_total{outcome="in_time",task="lambada"}') == 1.0
    first = metric(admin, 'bes_router_time_to_first_token_seconds_sum{task="lambada"}')
    assert 0.015 < first < 0.2  # one prefill of the largest model

    status, body, seconds = long_answer(port, "piqa", stream=False)
    assert (status, json.loads(body)["error"]["code"]) == (504, "deadline_missed")
    assert 0.6 <= seconds < 0.75
    status, body, seconds = long_answer(port, "piqa", stream=True)
    assert status == 200
    assert b"[DONE]" not in body
    assert json.loads(body.strip().rpartition(b"data: ")[2])["error"]["code"] == "deadline_missed"
    assert 0.6 <= seconds < 0.75
    assert metric(admin, 'bes_router_requests_total{outcome="late",task="piqa"}') == 2.0

    began = time.monotonic()  # the engine has nothing left to do: nobody shares its steps or its prefill
    assert complete(port, "opt-6.7b", 100, 2).status == 200
    assert time.monotonic() - began < 0.2
    assert metric(admin, 'bes_router_in_flight{model="opt-6.7b",replica="0"}') == 0.0
