"""Figures from a Prometheus: set against own counts of their instant, unknown where an answer cannot be used."""

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from math import inf
from pathlib import Path

import pytest
from load_rig import FakePrometheus, Seen, answered, fake_prometheus, scraped, target
from router_rig import live, until

from bes_api.router_config import PrometheusLoad
from bes_router.errors import FiguresError
from bes_router.load.client import PrometheusClient, authorization_of
from bes_router.load.prometheus import PrometheusSource

SKEW = 30.0
A = "127.0.0.1:1"


def settings_of(url: str, **more: object) -> PrometheusLoad:
    given = {"scrape_interval_seconds": 1.0, "poll_interval_seconds": 0.05, "timeout_seconds": 60.0, **more}
    return PrometheusLoad.model_validate({"url": url, **given})


@contextlib.asynccontextmanager
async def source_at(fake: FakePrometheus, seen: Seen, **more: object) -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource([target(0, 1), target(1, 2)], 2, settings_of(fake.url, **more), seen)
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def clock_is_known(source: PrometheusSource) -> None:
    """Wait until an exchange was quick enough to tell the other clock to 50 ms; a slow machine needs a few."""

    def error() -> float:
        bounds = source._clock._bounds
        return inf if bounds is None else (bounds.high - bounds.low) / 2.0

    await until(lambda: error() < 0.05)


@live
async def test_a_figure_meets_own_counts_of_its_own_instant_though_clocks_are_half_a_minute_apart() -> None:
    with fake_prometheus() as fake:
        seen = Seen(2)
        scrape, figures = time.time() + SKEW - 1000.0, (1, 0, 0)

        def answer() -> bytes:
            return answered(scraped(A, scrape, *figures, at=round(time.time() + SKEW, 3)))

        fake.answer = answer
        async with source_at(fake, seen, stale_after_seconds=600.0) as source:
            await clock_is_known(source)
            seen.own[0], seen.finished_own[0] = 3.0, 10.0
            await asyncio.sleep(0.3)
            before = time.monotonic()
            then = time.time() + SKEW
            after = time.monotonic()
            await asyncio.sleep(0.3)
            seen.own[0], seen.finished_own[0] = 8.0, 20.0
            figures = (5, 2, 70)
            scrape = then  # last: figures count with a new instant
            await until(lambda: any(taken.counts[0] == 7.0 for taken in seen.taken))
            found = next(taken for taken in seen.taken if taken.counts[0] == 7.0)
            assert found.counts == [7.0, None]
            assert found.own[0] == 3.0, "not the 8 of now"
            assert before - 0.05 <= found.at[0] <= after + 0.05
            await until(lambda: sum(taken.counts[0] == 7.0 for taken in seen.taken) > 3)
            again = [taken for taken in seen.taken if taken.counts[0] == 7.0]
            assert {taken.at[0] for taken in again} == {found.at[0]}, "the same scrape is no new figure"
            assert source.board.coverage(time.monotonic()) == 0.5
            assert "no usable figure of 1 of 2 backends, such as m/1 (instance='127.0.0.1:2'" in source.tally.problem


@live
async def test_what_everybody_finished_between_two_scrapes_is_handed_on_with_ones_own() -> None:
    with fake_prometheus() as fake:
        seen = Seen(2)
        finished, scrape = 70.0, time.time()
        fake.answer = lambda: answered(scraped(A, scrape, 0, 0, finished, at=round(time.time(), 3)))
        async with source_at(fake, seen) as source:
            await until(lambda: any(taken.counts[0] is not None for taken in seen.taken))
            await clock_is_known(source)
            seen.finished_own[0] = 4.0
            noted = source.tally.seconds.count + 2  # own counts are noted with every answer, too
            await until(lambda: source.tally.seconds.count > noted)
            finished = 80.0
            scrape = time.time()  # last: figures count with a new instant
            await until(lambda: any(taken.served == (4.0, 10.0) for taken in seen.taken))
            polls = source.tally.seconds.count
            await until(lambda: source.tally.seconds.count > polls + 3)
            assert sum(taken.served == (4.0, 10.0) for taken in seen.taken) == 1


@live
async def test_a_prometheus_that_is_gone_leaves_figures_until_they_are_stale_and_is_missed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen(2)
    with fake_prometheus() as fake:
        fake.answer = lambda: answered(_both(time.time()))
        async with source_at(fake, seen, stale_after_seconds=0.6) as source:
            await until(lambda: source.board.coverage(time.monotonic()) == 1.0)
            fake.answer = lambda: (503, {}, b"gone")
            await until(lambda: source.tally.errors >= 1)
            newest = source.board.newest_at
            assert newest is not None
            assert source.board.coverage(newest + 0.5) == 1.0, "still fresh"
            await until(lambda: seen.taken[-1].counts == [None, None])
            assert source.tally.errors >= 2
            assert [record.levelname for record in caplog.records].count("WARNING") == 1
            assert "refused the query" in source.tally.problem
            fake.answer = lambda: answered(_both(time.time()))
            await until(lambda: source.board.coverage(time.monotonic()) == 1.0)
            assert source.tally.problem == ""


def _both(scrape: float) -> list[dict[str, object]]:
    now = round(time.time(), 3)
    return [*scraped(A, scrape, 1, 1, 1, at=now), *scraped("127.0.0.1:2", scrape, 1, 1, 1, at=now)]


LONG = b'{"data":{"result":["' + b"x" * 300_000 + b'"]}}'


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "did not answer as Prometheus does"),
        (b"<html>", "did not answer as Prometheus does"),
        (b"[" * 100_000, "did not answer as Prometheus does"),
        (b"[]", "did not answer as Prometheus does"),
        (b'{"data":null}', "did not answer as Prometheus does"),
        (b'{"data":{"result":{}}}', "dict where a list"),
        (b'{"data":{"result":[{"metric":{},"value":[1,"1"]},1]}}', "no series"),
        (b'{"data":{"result":[{"metric":{},"value":[1e999,"1"]}]}}', "instant inf"),
        (LONG, "longer than"),
        ((401, {}, b"who are you"), "refused the query: HTTP Status Code 401"),
        ((500, {}, b"x" * 100_000), "refused the query: HTTP Status Code 500"),
        ((302, {"location": "http://169.254.0.1/"}, b""), "redirect, which is not followed"),
        ((200, {"content-encoding": "gzip"}, b"\x1f\x8b" + b"0" * 100), "compressed"),
    ],
    ids=lambda value: str(value)[:30],
)
@live
async def test_an_answer_that_cannot_be_used_is_unknown_with_one_warning(
    answer: bytes | tuple[int, Mapping[str, str], bytes], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_prometheus() as fake:
        seen = Seen(2)
        fake.answer = lambda: answer
        async with source_at(fake, seen) as source:
            await until(lambda: source.tally.errors >= 2)
        assert {count for taken in seen.taken for count in taken.counts} == {None}
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert problem in warning
        assert fake.url in warning or "Prometheus answered" in warning
        assert len(warning) < 600


async def head_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)


@live
async def test_a_server_that_drips_or_is_silent_is_given_up_in_time_and_harms_nothing_else() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                pass
        writer.close()

    cases = (
        (drip, "was not complete within 0.2 s"),
        (never, "did not answer within 0.2 s"),
        (head_without_end, "did not answer within 0.2 s"),
    )
    for behaviour, problem in cases:
        server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
        fake = FakePrometheus()
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        seen = Seen(2)
        async with source_at(fake, seen, timeout_seconds=0.2) as source:
            # The first one may be late for another reason: a slow machine.
            await until(lambda source=source, problem=problem: problem in source.tally.problem)  # type: ignore[misc]  # mypy: bound defaults
        server.close()
        await asyncio.sleep(0.3)


@live
async def test_figures_grow_stale_even_while_a_server_keeps_the_thread_waiting() -> None:
    over = asyncio.Event()

    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = answered(_both(time.time()))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nx: ")
            while not over.is_set():
                writer.write(b"x")
                await asyncio.sleep(0.02)
        writer.transport.abort()

    server = await asyncio.start_server(one_answer, "127.0.0.1", 0)
    fake = FakePrometheus()
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    seen = Seen(2)
    async with source_at(fake, seen, stale_after_seconds=1.5) as source:
        await until(lambda: any(taken.counts == [2.0, 2.0] for taken in seen.taken))
        await until(lambda: seen.taken[-1].counts == [None, None])
        assert source.tally.errors == 0, "the thread still waits"
        over.set()
        await until(lambda: source.tally.errors > 0)
    server.close()
    await asyncio.sleep(0.1)


def test_nobody_there_is_one_clear_line() -> None:
    client = PrometheusClient(settings_of("http://127.0.0.1:1/some/path"), 1000)
    with pytest.raises(FiguresError, match=r"^http://127.0.0.1:1 cannot be reached: .*refused$"):
        client.ask("up")
    client.close()


def test_the_environment_sends_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with fake_prometheus() as fake:
        client = PrometheusClient(settings_of(f"{fake.url}/prefix/"), 10_000)
        assert client.ask("up").result == []
        client.close()
    (asked,) = fake.asked
    assert asked.path.startswith("/prefix/api/v1/query?query=up&")
    assert "authorization" not in asked.headers


def test_authorization_is_sent_as_the_file_says_and_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with fake_prometheus() as fake:
        client = PrometheusClient(settings_of(fake.url, authorization_file=token), 10_000)
        client.ask("up")
        client.ask("up")
        token.unlink()
        with pytest.raises(FiguresError, match="token"):
            client.ask("up")
        token.write_text("Basic c29tZW9uZTpzZWNyZXQ=")
        client.ask("up")
        token.write_text("two\nlines, which could smuggle a field\n")
        with pytest.raises(FiguresError, match="expected one line") as error:
            client.ask("up")
        client.close()
    assert "smuggle" not in str(error.value)
    assert [asked.headers["authorization"] for asked in fake.asked] == [
        "Bearer first",
        "Bearer first",
        "Basic c29tZW9uZTpzZWNyZXQ=",
    ], "without its token nothing is sent"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\x00b", b"t\xc3\xa9", b"x" * 20_000])
def test_a_token_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_bytes(content)
    with pytest.raises(FiguresError, match="expected one line"):
        authorization_of(token)


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_prometheus() as fake:
        port = int(fake.url.rpartition(":")[2])
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        found = [(*stream, ("127.0.0.1", 1)), (*stream, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        client = PrometheusClient(settings_of("http://prometheus.monitoring:9090"), 10_000)
        assert client.ask("up").result == []
        assert client.ask("up").result == []
        client.close()
        found.pop()
        with pytest.raises(FiguresError, match=r"^http://prometheus.monitoring:9090 cannot be reached: .*refused$"):
            client.ask("up")
        client.close()


def test_a_name_that_nobody_knows_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = PrometheusClient(settings_of("http://prometheus.monitoring:9090"), 10_000)
    with pytest.raises(FiguresError, match=r"cannot be reached: .*Name or service not known$"):
        client.ask("up")
    client.close()


def test_a_connect_that_nobody_answers_is_given_up_in_time() -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # whoever comes now waits: the kernel drops what the queue cannot hold
        port = full.getsockname()[1]
        client = PrometheusClient(settings_of(f"http://127.0.0.1:{port}", timeout_seconds=0.2), 10_000)
        with pytest.raises(FiguresError, match=r"did not answer within 0\.2 s$"):
            client.ask("up")
        client.close()


def authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate that signs itself, and a server's side of TLS with it."""
    key, certificate = folder / "key.pem", folder / "ca.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")


@needs_openssl
def test_over_tls_a_head_that_drips_is_given_up_in_time_too(tmp_path: Path) -> None:
    certificate, context = authority(tmp_path)

    @live
    async def check() -> None:
        server = await asyncio.start_server(head_without_end, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = PrometheusClient(settings_of(url, ca_file=certificate, timeout_seconds=1.0), 10_000)
        with pytest.raises(FiguresError, match="did not answer within 1 s"):
            await asyncio.to_thread(client.ask, "up")
        client.close()
        server.close()
        await asyncio.sleep(0.1)

    check()


@needs_openssl
def test_only_the_named_authority_is_trusted(tmp_path: Path) -> None:
    certificate, context = authority(tmp_path)
    with fake_prometheus(context) as fake:
        trusting = PrometheusClient(settings_of(fake.url, ca_file=certificate), 10_000)
        assert trusting.ask("up").result == []
        trusting.close()
        strict = PrometheusClient(settings_of(fake.url), 10_000)
        with pytest.raises(FiguresError, match=r"is not trusted: .*name its authority's certificates"):
            strict.ask("up")
        strict.close()
        missing = PrometheusClient(settings_of(fake.url, ca_file=tmp_path / "none"), 10_000)
        with pytest.raises(FiguresError, match="none"):
            missing.ask("up")
    assert len(fake.asked) == 1
