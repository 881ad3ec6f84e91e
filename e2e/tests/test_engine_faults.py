"""Every way in which an emulated engine misbehaves on command, over real sockets."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_http import WAIT_SECONDS, Reply, ask, at_least, begin, complete, soon
from lab_scenarios import scenario

from bes_api.command import main
from bes_api.handover import dump_document
from bes_lab.engine.faults import KINDS, FaultError, Faults, Hitting, Target, names, read_fault
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import idle_latency

COMMAND = "/emulated/fault"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    folder = tmp_path_factory.mktemp("faults")
    dump_document(scenario(), folder / "scenario.json")
    addresses = folder / "addresses.json"
    start = ("--fault", 'large={"kind": "busy", "status": 502, "count": 1}', "--engine", "VLLM")
    with Children() as children:
        command = bes("engine", str(folder / "scenario.json"), "--addresses", str(addresses), *start)
        children.start("gpu-0", command, folder / "gpu-0.log")
        children.wait_until(addresses.exists, "ready", WAIT_SECONDS)
        yield {engine.model: engine.port for engine in EngineAddresses.read(addresses).engines}


@pytest.fixture
def port(ports: dict[str, int]) -> Iterator[int]:
    """The small engine, cleared afterwards: a test whose command stays behind would fail the next one."""
    yield ports["small"]
    assert ask(ports["small"], "DELETE", COMMAND).json == {"faults": []}


def command(port: int, **fault: object) -> Reply:
    reply = ask(port, "POST", COMMAND, fault)
    assert reply.status == 200, reply.body
    return reply


def raw(port: int, **more: object) -> bytes:
    """Everything that comes back for one request until the connection ends."""
    body = json.dumps({"prompt": "one two", "max_tokens": 4, **more}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(head + body)
        while data := connection.recv(65536):
            received += data
    return received


def test_a_fault_given_at_the_start_is_in_force_at_once(ports: dict[str, int]) -> None:
    assert complete(ports["large"], "large", 5, 2).status == 502
    assert complete(ports["large"], "large", 5, 2).status == 200


def test_a_refusing_engine_closes_its_port_and_comes_back(port: int) -> None:
    for seconds in (0.6, 2.0, 6.0, 20.0):  # a slow machine looks too late
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        kept.request("GET", "/health")
        kept.getresponse().read()
        busy = begin(port, "small", 10, 300)
        command(port, kind="refuse", for_seconds=seconds)
        refused = not listens(port)
        assert kept.sock is None or kept.sock.recv(10) == b""  # an idle connection ends too
        kept.close()
        assert b'"completion_tokens":300' in busy.recv(65536)  # what was in flight still gets its answer
        busy.close()
        assert soon(lambda: listens(port))
        assert complete(port, "small", 5, 2).status == 200
        if refused:
            break
    assert refused


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_stalled_request_is_never_answered_and_others_are(port: int) -> None:
    command(port, kind="stall", count=1)
    connection = begin(port, "small", 5, 2)
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.close()
    assert complete(port, "small", 5, 2).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_dying_engine_resets_after_so_many_bytes(port: int, stream: bool) -> None:
    command(port, kind="die", after_bytes=150)
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        body = json.dumps({"prompt": "one", "max_tokens": 50, "stream": stream}).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while len(received) < 150:
            received += connection.recv(150 - len(received))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert soon(lambda: running(port) == 0)


def running(port: int) -> int:
    page = ask(port, "GET", "/metrics").body.decode()
    return int(page.partition('vllm:num_requests_running{model_name="small",engine="0"} ')[2].partition("\n")[0])


def test_an_engine_that_dies_before_its_first_byte_sends_nothing(port: int) -> None:
    command(port, kind="die")
    with pytest.raises(ConnectionResetError):
        raw(port)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_engine_refuses_in_its_own_words(port: int, status: int) -> None:
    command(port, kind="busy", status=status)
    reply = complete(port, "small", 5, 2)
    assert reply.status == status
    assert reply.json["error"]["code"] == status
    assert ask(port, "GET", "/health").status == 200


def test_a_slow_engine_takes_so_many_times_as_long_and_recovers(port: int) -> None:
    expected = idle_latency(catalogue_of(scenario()), 0, 64, 30)
    command(port, kind="slow", factor=5)
    at_least(5 * expected, 0.75 * expected, lambda: complete(port, "small", 64, 30).seconds)
    ask(port, "DELETE", COMMAND)
    at_least(expected, 0.015, lambda: complete(port, "small", 64, 30).seconds)


def test_a_slow_engine_leaves_its_neighbour_alone(ports: dict[str, int], port: int) -> None:
    expected = idle_latency(catalogue_of(scenario()), 1, 64, 4)
    command(port, kind="slow", factor=20)
    at_least(expected, 0.015, lambda: complete(ports["large"], "large", 64, 4).seconds)


def test_an_engine_in_the_middle_of_a_slow_answer_is_quick_again_once_cleared(port: int) -> None:
    command(port, kind="slow", factor=1000)
    connection = begin(port, "small", 5, 100)  # two minutes at that speed, twice as long as we wait
    assert soon(lambda: running(port) == 1)
    ask(port, "DELETE", COMMAND)
    assert b'"completion_tokens":100' in connection.recv(65536)
    connection.close()


@pytest.mark.parametrize("by", [-7, 7])
def test_a_wrong_length_says_more_or_less_than_it_sends(port: int, by: int) -> None:
    command(port, kind="wrong-length", by=by)
    head, _, body = raw(port).partition(b"\r\n\r\n")
    (stated,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    assert stated - len(body) == by
    first_chunk = raw(port, stream=True).partition(b"\r\n\r\n")[2]
    size, _, rest = first_chunk.partition(b"\r\n")
    assert int(size, 16) - rest.index(b"\n\n\r\n") - 2 == by


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_is_the_same_noise_for_the_same_seed(port: int, stream: bool) -> None:
    command(port, kind="garbage", bytes=300, seed=3)
    first, second = raw(port, stream=stream), raw(port, stream=stream)
    assert first == second
    assert len(first) == 300
    command(port, kind="garbage", bytes=300, seed=4)
    assert raw(port) != first


@pytest.mark.parametrize("stream", [False, True])
def test_ambiguous_framing_is_sent_as_commanded(port: int, stream: bool) -> None:
    command(port, kind="two-lengths")
    assert raw(port, stream=stream).lower().count(b"content-length:") == 2
    ask(port, "DELETE", COMMAND)
    command(port, kind="length-and-chunked")
    head = raw(port, stream=stream).partition(b"\r\n\r\n")[0].lower()
    assert b"content-length:" in head
    assert b"transfer-encoding: chunked" in head


def test_frozen_metrics_stay_what_they_were(port: int) -> None:
    before = ask(port, "GET", "/metrics").body
    command(port, kind="frozen-metrics")
    assert complete(port, "small", 5, 2).status == 200
    assert ask(port, "GET", "/metrics").body == before
    ask(port, "DELETE", COMMAND)
    assert ask(port, "GET", "/metrics").body != before


def test_a_loading_engine_serves_nothing(port: int) -> None:
    command(port, kind="loading")
    assert ask(port, "GET", "/health").status == 503
    reply = complete(port, "small", 5, 2)
    assert (reply.status, reply.json["error"]["code"]) == (503, 503)
    assert "still loading" in reply.json["error"]["message"]


def test_a_fault_hits_only_the_pages_that_it_names(port: int) -> None:
    command(port, kind="busy", on="health")
    assert ask(port, "GET", "/health").status == 503
    assert ask(port, "GET", "/metrics").status == 200
    assert complete(port, "small", 5, 2).status == 200
    command(port, kind="busy", on="everything")
    assert [ask(port, "GET", path).status for path in ("/health", "/metrics", "/v1/models")] == [503] * 3


def test_share_and_count_decide_how_often_it_hits(port: int) -> None:
    command(port, kind="busy", share=0.5, count=3, seed=1)
    statuses = [complete(port, "small", 2, 1).status for _ in range(20)]
    assert statuses.count(503) == 3
    assert 200 in statuses[: len(statuses) - statuses[::-1].index(503)]


def test_a_fault_ends_by_itself_and_is_listed_while_it_lasts(port: int) -> None:
    for seconds in (0.3, 2.0, 6.0, 20.0):  # a slow machine asks too late
        command(port, kind="busy", for_seconds=seconds)
        status = complete(port, "small", 2, 1).status
        listed: Any = ask(port, "GET", COMMAND).json["faults"]
        assert soon(lambda: ask(port, "GET", COMMAND).json == {"faults": []})
        assert complete(port, "small", 2, 1).status == 200
        if listed:
            break
    assert status == 503
    assert [(each["kind"], each["hits"], each["for_seconds"]) for each in listed] == [("busy", 1, seconds)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"{", "JSON"),
        ({}, "kind: expected one of refuse, stall, busy"),
        ({"kind": "explode"}, "kind: expected one of refuse, stall, busy"),
        ({"kind": "refuse"}, "for_seconds: Field required"),
        ({"kind": "busy", "status": 200}, "status: Input should be 429"),
        ({"kind": "busy", "share": 0}, "share: Input should be greater than 0"),
        ({"kind": "slow", "factor": 0}, "factor: Input should be greater than 0"),
        ({"kind": "slow", "share": 0.5, "factor": 2}, "share: Extra inputs are not permitted"),
        ({"kind": "wrong-length", "by": 0}, "by: must not be 0"),
        ({"kind": "die", "after_bytes": -1}, "after_bytes: Input should be greater than or equal to 0"),
        ({"kind": "stall", "on": "nothing"}, "on: Input should be 'requests'"),
    ],
)
def test_a_command_that_cannot_be_read_names_the_field(port: int, given: object, says: str) -> None:
    reply = ask(port, "POST", COMMAND, given)
    assert reply.status == 400
    assert says in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--engine", "Ollama"), "--engine Ollama: expected VLLM, TextGenerationInference, Emulated"),
        (("--engine", "medium=VLLM"), "--engine medium: no model of this scenario; it has small, large"),
        (("--fault", "small"), "--fault small: expected JSON"),
        (("--fault", '{"kind": "refuse"}'), "for_seconds: Field required"),
    ],
)
def test_options_that_do_not_fit_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], says: str
) -> None:
    dump_document(scenario(), tmp_path / "scenario.json")
    assert main(["engine", str(tmp_path / "scenario.json"), *more]) == 2
    assert says in capsys.readouterr().err


def test_every_kind_is_explained_in_the_help_and_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["engine", "--help"])
    text = capsys.readouterr().out
    assert all(name in text and kind.about in text for name, kind in zip(names(), KINDS, strict=True))
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "](" not in line][1:] == [
        *names()
    ]


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_no_command_is_a_crash(command: bytes) -> None:
    with contextlib.suppress(FaultError):
        assert read_fault(command).kind in names()


@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_the_share_of_hits_is_the_stated_one_and_the_seed_repeats_it(share: float, seed: int) -> None:
    def hits() -> list[bool]:
        faults = Faults()
        faults.begin(read_fault(json.dumps({"kind": "stall", "share": share, "seed": seed})), 0.0)
        return [isinstance(faults.hit(Target.REQUESTS, 1.0), Hitting) for _ in range(400)]

    first = hits()
    assert first == hits()
    assert abs(sum(first) / 400 - share) < 0.12
