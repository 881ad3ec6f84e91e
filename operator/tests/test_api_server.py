"""The client against a small real HTTP server: what it asks, and which error each answer becomes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from bes_operator.cluster import ApiServer, connect
from bes_operator.errors import Absent, Busy, ClusterError, Conflict, Denied, Refused, TimedOut, Unavailable
from bes_operator.kinds import KINDS
from bes_operator.manifest import Apply, Key

KEY = Key("Deployment", "n", "a")
MANIFEST = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "n", "name": "a"}, "spec": {}}
KNOWN = {"namespace": "n", "name": "a"}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def scene(answer: Answer, test: Callable[[ApiServer], Awaitable[Any]], timeout_seconds: float = 20.0) -> list[Any]:
    """Run ``test`` against a server that answers so; what it was asked: method, path with query, content type, body."""
    asked: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        text = await request.text()
        asked.append((request.method, request.path_qs, request.headers.get("Content-Type"), text))
        return await answer(request)

    async def whole() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        api = ApiServer(ApiClient(configuration), timeout_seconds, 2, lambda *_: None)
        try:
            await test(api)
        finally:
            await api.close()
            await runner.cleanup()

    asyncio.run(whole())
    return asked


def said(status: int, body: Any = None, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(body or {"kind": "Status", "message": "so"}, status=status, headers=headers)

    return answer


NO_RIGHTS = 'deployments.apps "a" is forbidden: User "o" cannot patch resource "deployments" in API group "apps"'
NOT_HELD = 'rolebindings "a" is forbidden: user "o" (groups=["g"]) is attempting to grant RBAC permissions not held'
QUOTA = 'configmaps "a" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=3'
ENDING = {
    "message": 'configmaps "a" is forbidden: unable to create new content in namespace n: it is being terminated',
    "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
}
ANOTHER_UID = {"message": "invalid", "details": {"causes": [{"field": "metadata.uid"}]}}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said(400), Refused),
        (said(401), Denied),
        (said(403), Denied),
        (said(403, {"message": NO_RIGHTS}), Denied),
        (said(403, {"message": NOT_HELD}), Denied),
        (said(403, ENDING), Denied),
        (said(403, {"message": QUOTA}), Refused),
        (said(404), Absent),
        (said(409), Conflict),
        (said(410), Unavailable),
        (said(422), Refused),
        (said(422, ANOTHER_UID), Conflict),
        (said(429), Busy),
        (said(500), Unavailable),
        (said(503), Unavailable),
        (said(504), TimedOut),
        (said(200, ["no object"]), Unavailable),
    ],
)
def test_every_answer_becomes_the_error_that_it_means(answer: Answer, error: type[ClusterError]) -> None:
    async def test(api: ApiServer) -> None:
        with pytest.raises(ClusterError) as caught:
            await api.apply(Apply(MANIFEST))
        assert type(caught.value) is error
        assert str(caught.value).startswith("apply Deployment n/a: ")

    scene(answer, test)


def test_how_long_to_wait_is_taken_from_the_answer() -> None:
    async def test(api: ApiServer) -> None:
        with pytest.raises(Busy) as caught:
            await api.read(KEY)
        assert caught.value.retry_after_seconds == 7

    scene(said(429, **{"Retry-After": "7"}), test)


def test_no_answer_and_no_connection_are_told_apart() -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def raises(api: ApiServer, error: type[ClusterError]) -> None:
        with pytest.raises(error):
            await api.read(KEY)

    scene(never, lambda api: raises(api, TimedOut), timeout_seconds=0.2)
    scene(cut, lambda api: raises(api, Unavailable))


def test_what_is_not_there_is_none_to_a_reader_and_done_to_who_deletes() -> None:
    async def test(api: ApiServer) -> None:
        assert await api.read(KEY) is None
        await api.delete(KEY, "uid")

    scene(said(404), test)


def test_calls_are_what_the_api_server_takes() -> None:
    async def test(api: ApiServer) -> None:
        await api.apply(Apply(MANIFEST, "somebody", force=False))
        await api.write_status({**MANIFEST, "metadata": {**KNOWN, "uid": "u"}, "status": {"a": 1}})
        await api.delete(KEY, "u")
        await api.create(MANIFEST)
        await api.replace(MANIFEST)

    asked = scene(said(200, {"kind": "Deployment"}), test)
    path = "/apis/apps/v1/namespaces/n/deployments"
    assert [(method, query) for method, query, _, _ in asked] == [
        ("PATCH", f"{path}/a?fieldManager=somebody&force=false"),
        ("PATCH", f"{path}/a/status?fieldManager=best-effort-serving"),
        ("DELETE", f"{path}/a"),
        ("POST", f"{path}?fieldManager=best-effort-serving"),
        ("PUT", f"{path}/a?fieldManager=best-effort-serving"),
    ]
    kinds = [kind for _, _, kind, _ in asked[:2]]
    assert kinds == ["application/apply-patch+yaml", "application/json-patch+json"]
    assert json.loads(asked[1][3])[0] == {"op": "test", "path": "/metadata/uid", "value": "u"}
    assert '"uid": "u"' in asked[2][3]
    assert '"propagationPolicy": "Background"' in asked[2][3]


@pytest.mark.parametrize(("uid", "error"), [("u", Refused), ("another", Conflict)])
def test_a_status_that_is_refused_is_told_apart_from_one_of_a_service_that_is_gone(
    uid: str, error: type[ClusterError]
) -> None:
    async def refuses(request: web.Request) -> web.StreamResponse:
        if request.method == "PATCH":
            return web.json_response({"message": "the server rejected our request"}, status=422)
        return web.json_response({"metadata": {**KNOWN, "uid": uid}})

    async def test(api: ApiServer) -> None:
        with pytest.raises(error) as caught:
            await api.write_status({**MANIFEST, "metadata": {**KNOWN, "uid": "u"}, "status": {}})
        assert type(caught.value) is error

    scene(refuses, test)


def test_lists_are_read_page_by_page_and_items_say_what_they_are() -> None:
    async def pages(request: web.Request) -> web.StreamResponse:
        last = request.query.get("continue") == "more"
        items = [{"metadata": {"name": "c"}}] if last else [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
        return web.json_response({"metadata": {"continue": "" if last else "more"}, "items": items})

    async def test(api: ApiServer) -> None:
        found = await api.list("ConfigMap", None, "x=y,z")
        assert [(one["kind"], one["apiVersion"], one["metadata"]["name"]) for one in found] == [
            ("ConfigMap", "v1", name) for name in "abc"
        ]

    asked = scene(pages, test)
    assert [query for _, query, _, _ in asked] == [
        "/api/v1/configmaps?limit=2&labelSelector=x%3Dy,z",
        "/api/v1/configmaps?limit=2&labelSelector=x%3Dy,z&continue=more",
    ]


def test_every_kind_has_a_path() -> None:
    assert KINDS["Secret"].path("n", "a") == "/api/v1/namespaces/n/secrets/a"
    assert KINDS["Job"].path(None) == "/apis/batch/v1/jobs"
    assert KINDS["Lease"].path("n", "a/b") == "/apis/coordination.k8s.io/v1/namespaces/n/leases/a%2Fb"


def test_without_credentials_it_says_how_to_give_some(tmp_path: Any) -> None:
    with pytest.raises(Exception, match="--kubeconfig") as caught:
        asyncio.run(connect(tmp_path / "nowhere", 1.0, 1, lambda *_: None))
    assert type(caught.value).__name__ == "ConfigurationError"
