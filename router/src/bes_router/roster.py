"""The engines that are listed at the moment, each at its place in the catalogue. They come and go while it serves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bes_router.backends import Backend
from bes_router.discovery.found import Listed
from bes_router.policy.layout import Catalogue


@dataclass(frozen=True)
class Change:
    """Who came and who left at once; whoever stayed stays the same object."""

    came: tuple[Backend, ...] = ()
    left: tuple[Backend, ...] = ()


class Roster:
    """``places`` holds a backend per engine of the catalogue, None where nothing is listed; ``listed`` the backends.

    Both are changed in place.
    """

    def __init__(self, models: Sequence[str], catalogue: Catalogue, set_ready: Callable[[int, bool], None]) -> None:
        self._models = models
        self._first = catalogue.model_first
        self._set_ready = set_ready
        self.places: list[Backend | None] = [None] * len(catalogue.engine_model)
        self.listed: list[Backend] = []
        for engine in range(len(self.places)):
            set_ready(engine, False)

    def take(self, found: Iterable[Listed]) -> Change:
        """List ``found`` and nobody else. Who leaves gets no more requests and finishes what it has."""
        wanted = {self._first[self._models.index(each.backend.model)] + each.backend.replica: each for each in found}
        left = []
        for backend in self.listed:
            each = wanted.get(backend.engine)
            if each is None or each.backend != backend.listed:
                backend.retire()
                self.places[backend.engine] = None
                left.append(backend)
        came = []
        for engine, each in wanted.items():
            backend_now = self.places[engine]
            if backend_now is None:
                model = self._models.index(each.backend.model)
                backend_now = self.places[engine] = Backend(each.backend, engine, model, self._set_ready)
                came.append(backend_now)
            backend_now.vouch(each.ready)
        self.listed[:] = [backend for backend in self.places if backend is not None]
        return Change(tuple(came), tuple(left))
