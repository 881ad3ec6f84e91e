"""The admin port over real HTTP: health and metrics for everybody, views for whoever holds the token, clear errors."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_rig import NO_DIGEST, Answer, Client, Rig, live, rig

from bes_api.router_config import RouterConfig
from bes_api.router_status import RouterStatus
from bes_router import admin
from bes_router.admin import TokenFile

VIEWS = ("/status", "/load", "/policy", "/backends", "/config", "/decisions/x")
CLOCKS = 0.5
"""Seconds by which the wall clock and the monotonic one may have been moved apart meanwhile."""
TOKEN = "a-long-secret"  # noqa: S105 - of the tests


@contextlib.asynccontextmanager
async def guarded(folder: Path, **more: Any) -> AsyncIterator[Rig]:
    file = folder / "token"
    file.write_text(f"{TOKEN}\n")
    async with rig(token=TokenFile(file), **more) as it:
        yield it


async def ask(it: Rig, path: str, token: str | None = TOKEN, method: str = "GET") -> Answer:
    client = Client(*await asyncio.open_connection("127.0.0.1", it.admin_port))
    field = "" if token is None else f"Authorization: Bearer {token}\r\n"
    client.raw(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{field}\r\n".encode())
    answer = await client.answer()
    client.close()
    return answer


async def status_with_figures(it: Rig) -> RouterStatus:
    """The status document once load figures have come."""
    while True:
        state = RouterStatus.model_validate_json((await ask(it, "/status")).body)
        if state.load.known:
            return state


def test_without_a_token_file_the_views_say_which_option_opens_them() -> None:
    @live
    async def check() -> None:
        async with rig() as it:
            for path in VIEWS:
                answer = await ask(it, path)
                assert answer.status == 403
                assert "--admin-token FILE" in answer.json["error"]["message"]
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await ask(it, path, None)).status == 200

    check()


def test_the_token_opens_the_views_and_nothing_else_does(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            for path in VIEWS:
                for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
                    answer = await ask(it, path, token)
                    assert answer.status == 401
                    assert answer.fields["www-authenticate"] == "Bearer"
                    assert TOKEN not in answer.body.decode()
                assert (await ask(it, path)).status == (404 if "decisions" in path else 200)

    check()


def test_a_token_can_be_exchanged_emptied_and_lost_while_the_router_runs(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            (tmp_path / "token").write_text("another")
            assert (await ask(it, "/status")).status == 401
            assert (await ask(it, "/status", "another")).status == 200
            (tmp_path / "token").write_text(" \n")
            empty = await ask(it, "/status", "")
            assert (empty.status, "empty" in empty.body.decode()) == (403, True)
            (tmp_path / "token").unlink()
            assert (await ask(it, "/status", "another")).status == 403

    check()


@given(st.text())
def test_only_the_very_token_is_let_in(sent: str) -> None:
    token = TokenFile(Path(__file__))  # any file that nobody would send
    refusal = token.refusal(sent)
    assert refusal is not None
    assert refusal[0] == 401
    assert token.refusal(f"Bearer {sent}") is not None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_as_one_likes(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "token").write_text(TOKEN)
    assert TokenFile(tmp_path / "token").refusal(f"{scheme} {TOKEN}") is None
    assert TokenFile(tmp_path / "token").refusal(f"Basic {TOKEN}") is not None


def test_the_status_document_says_what_was_served(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            for _ in range(3):
                assert (await it.ask({"prompt": "x", "model": "trivia"})).status == 200
            await it.ask({"prompt": "x", "model": "nonsense"})
            state = await status_with_figures(it)
            then = time.time()
            again = RouterStatus.model_validate_json((await ask(it, "/status")).body)
            now = time.time()
        assert (state.service, state.ready, state.draining, state.in_flight) == ("demo", True, False, 0)
        assert (state.boot_id, state.started_at) == (again.boot_id, again.started_at)
        assert 0 < state.uptime_seconds < again.uptime_seconds
        assert then - CLOCKS <= again.started_at + again.uptime_seconds <= now + CLOCKS
        assert (state.configuration.digest, state.configuration.problem) == (NO_DIGEST, None)
        assert (state.policy.asked, state.policy.name, state.policy.fallback) == ("Static", "Always", False)
        trivia = next(task for task in state.tasks if task.name == "trivia")
        assert (trivia.in_time, trivia.requests, trivia.decisions) == (3, 3, {"small": 0, "large": 3})
        assert trivia.reward == pytest.approx(2.4)
        assert state.errors == {"unknown_model": 1}
        assert (state.load.source, state.load.known, state.load.listed) == ("direct", 1, 1)
        assert 0 <= (state.load.age_seconds or 0) < state.uptime_seconds
        assert (state.backends_ready, state.backends_listed) == (1, 1)
        assert state.versions["best-effort-serving"]

    check()


def test_the_views_show_load_policy_backends_and_configuration(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            it.engines[0].running = 4.0
            await it.ask()
            await status_with_figures(it)
            (engine,) = (await ask(it, "/load")).json["engines"]
            while engine["estimated_in_flight"] <= 1:
                (engine,) = (await ask(it, "/load")).json["engines"]
            assert engine["backend"] == "large/0"
            assert engine["figure_known"]
            (backend,) = (await ask(it, "/backends")).json
            assert (backend["port"], backend["ready"]) == (it.engines[0].port, True)
            policy = (await ask(it, "/policy")).json
            assert (policy["configured"]["type"], policy["passport"]) == ("Static", None)
            shown = RouterConfig.model_validate_json((await ask(it, "/config")).body)
            assert shown == it.running.delivered.config

    check()


def test_a_decision_is_explained_by_the_name_that_its_answer_gave(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            said = (await it.ask({"prompt": "secret words", "model": "trivia"})).fields["x-bes-decision"]
            name = said.split(";")[0]
            answer = await ask(it, f"/decisions/{name}")
            assert (answer.json["id"], answer.json["task"], answer.json["model"]) == (name, "trivia", "large")
            assert "secret" not in answer.body.decode()
            for other in ("x", name + "0", name.replace("-", "--"), "%00", "%2e%2e", "9" * 500):
                unknown = await ask(it, f"/decisions/{other}")
                assert unknown.status == 404
                assert "decision" in unknown.json["error"]["message"]

    check()


def test_another_path_or_method_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            answer = await ask(it, "/nowhere")
            assert answer.status == 404
            for path in ("/healthz", "/metrics", "/status", "/decisions/{id}"):
                assert path in answer.json["error"]["message"]
            answer = await ask(it, "/status", method="DELETE")
            assert (answer.status, answer.fields["allow"]) == (405, "GET,HEAD")
            assert answer.json["error"]["message"]

    check()


def test_a_view_that_fails_is_one_json_line_and_a_log_entry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @live
    async def check() -> None:
        async with guarded(tmp_path) as it:
            it.running.generation.load = None  # type: ignore[assignment]  # what breaks the view
            answer = await ask(it, "/load")
            assert answer.status == 500
            assert answer.json["error"]["message"]
            assert (await ask(it, "/healthz")).status == 200

    check()
    assert "/load" in caplog.text


def test_connections_that_ask_nothing_for_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MAX_CONNECTION_SECONDS", 0.0)

    @live
    async def check() -> None:
        async with rig() as it:
            idle = Client(*await asyncio.open_connection("127.0.0.1", it.admin_port))
            idle.raw(b"GET /healthz HTTP/1.1\r\n")
            await asyncio.sleep(0.01)
            it.running._admin.sweep(time.monotonic())
            it.running._admin.sweep(time.monotonic() + 1)
            assert await idle.closed()
            idle.close()

    check()
