"""The operator's own HTTP port: /metrics, /healthz and /readyz. It tells no secrets, so it asks nobody for one."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from bes_operator.metrics import Metrics


class HealthServer:
    """Serves from `start` to `close`, in the event loop that does the work: a loop that hangs is not healthy."""

    def __init__(self, metrics: Metrics, checks: Mapping[str, Callable[[], bool]]) -> None:
        """``checks``: what must hold for /readyz, by name."""
        self._metrics = metrics
        self._checks = checks
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which was found if ``port`` is 0. OSError: it is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._said(self._text))
        app.router.add_get("/healthz", self._said(self._alive))
        app.router.add_get("/readyz", self._said(self._ready))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        found: int = self._runner.addresses[0][1]
        return found

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @staticmethod
    def _said(answer: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_request: web.Request) -> web.Response:
            return answer()

        return handle

    def _text(self) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": Metrics.CONTENT_TYPE})

    @staticmethod
    def _alive() -> web.Response:
        return web.Response(text="ok\n")

    def _ready(self) -> web.Response:
        failing = sorted(name for name, holds in self._checks.items() if not holds())
        return web.Response(text="\n".join(failing or ["ok"]) + "\n", status=503 if failing else 200)
