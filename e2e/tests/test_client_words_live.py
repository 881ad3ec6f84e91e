"""What a resource lets clients ask for, through `bes local up`: pinned models, chats, deadlines, explained headers."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_http import WAIT_SECONDS
from lab_local import pinnable_sample, port_of, run_locally


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with run_locally(pinnable_sample(), tmp_path) as running:
        yield port_of(running["urls"][0])


def ask(port: int, path: str, body: dict[str, Any] | None = None, **fields: str) -> tuple[Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return json.load(answer), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.slow
def test_a_pinned_model_answers_a_chat_of_the_task_in_the_head(port: int) -> None:
    listed, _ = ask(port, "/v1/models")
    names = [each["id"] for each in listed["data"]]
    assert {"opt-125m", "opt-1.3b", "opt-6.7b"} < set(names)
    chat = {"model": "opt-125m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    task = names[-4]
    answer, fields = ask(port, "/v1/chat/completions", chat, x_bes_task=task, x_bes_deadline_ms="500")
    assert answer["object"] == "chat.completion"
    assert (fields["x-bes-model"], fields["x-bes-task"]) == ("opt-125m", task)
    assert re.fullmatch(r"[0-9a-f]{8}-1", fields["x-bes-decision"])
