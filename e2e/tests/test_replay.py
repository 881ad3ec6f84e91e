"""The open loop: instants are fixed beforehand, a slow server changes none of them, and outcomes are judged fairly."""

import argparse
import itertools
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from lab_http import WAIT_SECONDS
from lab_scenarios import scenario
from rich.console import Console

from bes_api.errors import OutputError
from bes_api.handover import dump_document
from bes_lab import clips
from bes_lab.clips import Arrivals
from bes_lab.errors import TargetError
from bes_lab.local.children import bes
from bes_lab.replay.bodies import bodies_of, prompt
from bes_lab.replay.client import send_all
from bes_lab.replay.command import REPLAY
from bes_lab.replay.measured import UNANSWERED, Measured, Target
from bes_lab.replay.outcomes import judge, summarize
from bes_lab.replay.report import print_summary

OK = b'HTTP/1.1 200 OK\r\nx-bes-model: small\r\ncontent-length: 18\r\n\r\n{"model": "large"}'
STALLED = 40
"""Requests that a server which stalls has to receive before it goes on."""


@contextmanager
def server(answer: Callable[[int], bytes | None]) -> Iterator[int]:
    """A threaded server; ``answer(n)`` gives the bytes for its n-th request, or None to hang up."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    served = iter(range(10**6))

    def talk(connection: socket.socket) -> None:
        with connection:
            pending = b""
            while data := connection.recv(65536):
                pending += data
                while b"\r\n\r\n" in pending:
                    head, _, rest = pending.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    if len(rest) < length:
                        break
                    pending = rest[length:]
                    reply = answer(next(served))
                    if reply is None:
                        return
                    connection.sendall(reply)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def arrivals(times: list[float]) -> Arrivals:
    count = len(times)
    return Arrivals(np.array(times), np.zeros(count, np.int64), np.full(count, 128), np.full(count, 16))


def send(port: int, times: list[float], drain: float = WAIT_SECONDS) -> Measured:
    given = arrivals(times)
    return send_all([f"http://127.0.0.1:{port}"], times, bodies_of(given, scenario().tasks), drain, warm=4)


def test_a_server_that_stalls_does_not_slow_the_schedule() -> None:
    times = [index * 0.01 for index in range(100)]
    received, goes_on = itertools.count(1), threading.Event()

    def answer(number: int) -> bytes:
        if number >= 10:
            if next(received) == STALLED:
                goes_on.set()
            assert goes_on.wait(WAIT_SECONDS), "whoever waits for an answer before the next request never sends it"
        return OK

    with server(answer) as port:
        measured = send(port, times)
    assert measured.status == [200] * 100
    sent, due, done = (np.array(each) for each in (measured.sent, measured.due, measured.done))
    assert (sent >= due).all()
    waited = np.sort(sent)[10 : 10 + STALLED]
    assert waited.max() < np.sort(done)[10], "they left all through the stall"
    latency = (done - due)[np.argsort(sent)[10 : 10 + STALLED // 4]]
    assert (latency > times[STALLED // 2]).all(), "who was due early in the stall waited, and it is counted"


def test_requests_go_to_the_router_that_each_is_meant_for() -> None:
    counts = [0, 0]

    def counting(place: int) -> Callable[[int], bytes]:
        def answer(_: int) -> bytes:
            counts[place] += 1
            return OK.replace(b"small", b"first" if place == 0 else b"other")

        return answer

    times = [index * 0.005 for index in range(60)]
    to = [int(index % 3 == 0) for index in range(60)]
    with server(counting(0)) as one, server(counting(1)) as two:
        urls = [f"http://127.0.0.1:{one}", f"http://127.0.0.1:{two}"]
        measured = send_all(urls, times, bodies_of(arrivals(times), scenario().tasks), WAIT_SECONDS, warm=4, to=to)
    assert counts == [40, 20]
    assert measured.model == ["other" if place else "first" for place in to]


def test_a_server_that_never_answers_leaves_everything_unanswered() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
        measured = send(silent.getsockname()[1], [index * 0.005 for index in range(60)], drain=0.3)
    assert measured.status == [UNANSWERED] * 60
    assert np.isnan(measured.done).all()
    assert not np.isnan(measured.sent).any()


def test_a_connection_that_is_cut_is_an_unanswered_request_and_not_an_error() -> None:
    with server(lambda number: None if number % 2 else OK) as port:
        measured = send(port, [index * 0.02 for index in range(20)])
    assert set(measured.status) == {200, UNANSWERED}


def test_the_model_comes_from_the_header_else_from_the_body() -> None:
    bare = b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"model": "large"}'
    with server(lambda number: bare if number else OK) as port:
        measured = send(port, [0.0, 0.1])
    assert measured.model == ["small", "large"]


def test_nobody_listening_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TargetError, match="nobody listens"):
        send(port, [0.0])


_STRANGE = ("http://x:0", "http://[::1", f"http://{'a' * 300}:1", "http://x:1/a b", "http://\udcff:1")


@pytest.mark.parametrize("url", ["https://x:1", "http://", "http://x:99999", "ftp://x:1", *_STRANGE])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TargetError, match="expected http://HOST:PORT"):
        Target.of(url)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--rate", "inf", "above 0"),
        ("--drain", "nan", "at least 0"),
        ("--seed", "-1", "at least 0"),
        ("--model", "\udcff", "a model's name"),
        ("--out", "/dev/null", "name another folder"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_before_anything_is_sent(flag: str, value: str, says: str) -> None:
    parser = argparse.ArgumentParser()
    REPLAY.configure(parser)
    arguments = parser.parse_args(["trace.csv", "http://127.0.0.1:1", "--service", "none.yaml", flag, value])
    with pytest.raises((TargetError, OutputError), match=says):
        REPLAY.run(arguments)


@pytest.mark.parametrize(
    ("given", "missing"), [([], "TRACE"), (["azure-conversation"], "URL"), (["c", "http://h:1"], "--service FILE")]
)
def test_what_is_missing_is_named_with_the_way_to_the_list(given: list[str], missing: str) -> None:
    parser = argparse.ArgumentParser()
    REPLAY.configure(parser)
    with pytest.raises(TargetError, match=f"{missing} is missing.*--list"):
        REPLAY.run(parser.parse_args(given))


def test_the_list_of_packaged_traces_is_printed_for_people_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    REPLAY.configure(parser)
    assert REPLAY.run(parser.parse_args(["--list", "--json"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == clips.names()
    assert REPLAY.run(parser.parse_args(["--list"])) == 0
    said = capsys.readouterr().out
    assert all(each["name"] in said for each in found)
    assert "CC-BY 4.0" in said


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    asked = subprocess.Popen(bes("replay", "--list", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert asked.stdout is not None
    asked.stdout.close()
    _, said = asked.communicate(timeout=300)
    assert (asked.returncode, said) == (141, b"")


def test_a_url_without_a_path_means_completions() -> None:
    assert Target.of("127.0.0.1:80") == Target("127.0.0.1", 80, "/v1/completions")
    assert Target.of("http://h:5/x") == Target("h", 5, "/x")


def test_prompts_have_exactly_as_many_words_and_four_characters_each() -> None:
    assert len(prompt(128).split()) == 128
    assert len(prompt(128)) == 4 * 128


def measured_of(rows: list[tuple[float, float, int, str]]) -> Measured:
    """Rows of (lateness, latency from schedule, status, model), one every 0.1 s."""
    due = [index * 0.1 for index in range(len(rows))]
    return Measured(
        due=due,
        sent=[at + row[0] for at, row in zip(due, rows, strict=True)],
        first_byte=[at + row[1] for at, row in zip(due, rows, strict=True)],
        done=[at + row[1] for at, row in zip(due, rows, strict=True)],
        status=[row[2] for row in rows],
        model=[row[3] for row in rows],
        cpu_seconds=0.1,
        machine_load=[0.5],
    )


def test_rewards_follow_the_deadline_and_refusals_keep_their_peak() -> None:
    nan = float("nan")
    rows = [
        (0.0, 0.5, 200, "large"),  # hard, in time
        (0.0, 0.7, 200, "large"),  # hard, late
        (0.0, 0.1, 429, ""),  # refused
        (0.0, nan, UNANSWERED, ""),
        (0.0, 1.3, 200, "small"),  # soft, half way
        (0.0, 0.1, 404, ""),  # our own fault
    ]
    given = Arrivals(np.arange(6) * 0.1, np.array([0, 0, 0, 0, 1, 0]), np.full(6, 128), np.full(6, 16))
    outcomes = judge(scenario(), given, measured_of(rows))
    assert outcomes.reward.tolist() == pytest.approx([0.7, 0.0, 0.0, 0.0, 0.2, 0.0])
    summary = summarize(scenario(), outcomes, measured_of(rows))
    assert summary.performance == pytest.approx(0.9 / (5 * 0.7))
    assert summary.in_time == pytest.approx(2 / 5)
    assert summary.tasks["soft"].performance == pytest.approx(0.2 / 0.7)
    assert not summary.valid
    assert "client's own fault" in summary.invalid_because[0]


def test_latency_counts_from_the_schedule_and_the_actual_send_stands_beside_it() -> None:
    measured = measured_of([(0.3, 0.8, 200, "large")])
    outcomes = judge(scenario(), arrivals([0.0]), measured)
    summary = summarize(scenario(), outcomes, measured)
    assert (summary.performance, summary.performance_from_send) == (0.0, 1.0)
    assert summary.latency.p50 == pytest.approx(0.8)
    assert summary.latency_from_send.p50 == pytest.approx(0.5)


def test_a_task_that_nobody_asked_for_is_not_said_to_be_late() -> None:
    rows = [(0.0, 0.1, 200, "large")]
    outcomes = judge(
        scenario(), Arrivals(np.zeros(1), np.zeros(1, np.int64), np.full(1, 128), np.full(1, 16)), measured_of(rows)
    )
    stream = StringIO()
    print_summary(summarize(scenario(), outcomes, measured_of(rows)), "run", Console(file=stream, width=120))
    said = {line.split()[2]: line for line in stream.getvalue().splitlines() if "task " in line}
    assert "no requests" in said["soft"]
    assert "100.0% in time, 1 requests" in said["hard"]


@pytest.mark.parametrize(("late_rows", "valid"), [(1, True), (2, False)])
def test_a_run_that_was_late_at_p99_is_invalid_and_says_so(late_rows: int, valid: bool) -> None:
    rows = [(0.02, 0.3, 200, "large")] * late_rows + [(0.001, 0.3, 200, "large")] * (102 - late_rows)
    measured = measured_of(rows)
    summary = summarize(scenario(), judge(scenario(), arrivals(measured.due), measured), measured)
    assert summary.valid is valid
    assert valid or "late by" in summary.invalid_because[0]


def test_a_reader_that_leaves_early_costs_no_file(tmp_path: Path) -> None:
    dump_document(scenario(), tmp_path / "scenario.json")
    (tmp_path / "trace.csv").write_text("time_seconds\n0\n0.01\n")
    with server(lambda _: OK) as port:
        url, place = f"http://127.0.0.1:{port}", str(tmp_path / "out")
        command = bes("replay", str(tmp_path / "trace.csv"), url, "--service", str(tmp_path / "scenario.json"))
        played = subprocess.Popen((*command, "--out", place, "--json"), stdout=subprocess.PIPE)
        assert played.stdout is not None
        played.stdout.close()
        played.wait(300)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["replay.json", "replay.png"]
