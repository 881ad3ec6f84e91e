"""Loads plain modules a second time with numba's ``njit`` on each function: parity by construction.

``compiled("bes_router.policy.rules")`` is that module's source executed in a module of its own; what it imports from
other plain modules comes from their compiled twins, its types (`TYPES`) from the ordinary import. numba's on-disk cache
does not notice edits in called files, so its folder is named by the hash of all compiled sources and numba's version.
"""

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

import numba

PLAIN = (
    "bes_router.policy.formula",
    "bes_router.policy.reward",
    "bes_router.policy.blend",
    "bes_router.policy.placement",
    "bes_router.policy.rules",
    "bes_router.policy.candidates",
    "bes_router.policy.scorer",
    "bes_router.policy.paper",
    "bes_training.simulation.engines",
    "bes_training.simulation.scrapes",
    "bes_training.simulation.brain",
    "bes_training.simulation.kernel",
    "bes_training.dqn.environment",
    "bes_training.dqn.replay",
)
"""Modules whose functions are compiled. A module outside this list is imported as it is (types, constants)."""

CACHE_VARIABLE = "BES_CACHE_DIR"


def source_of(name: str) -> Path:
    """The file of a plain module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for {name}", name=name)
    return Path(spec.origin)


def cache_folder(modules: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Folder of numba's cache for exactly these sources and this numba, outside the tree.

    ``BES_CACHE_DIR`` names its parent; else ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for name in modules:
        digest.update(name.encode() + b"\0" + source_of(name).read_bytes())
    digest.update(Path(__file__).read_bytes())  # how they are compiled
    digest.update(source_of("bes_router.policy.layout").read_bytes())
    digest.update(source_of("bes_training.simulation.state").read_bytes())
    root = environment.get(CACHE_VARIABLE) or environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "best-effort-serving" / "numba" / digest.hexdigest()[:16]


# Without numba's reference counts (`_nrt`, measured: 20 times as quick): tuples of a hundred arrays are passed around,
# nothing is allocated inside, and the caller holds every array. Inlined throughout (`forceinline`, measured: 3 times as
# quick, and quicker to compile): a call would push every word of those tuples.
_njit: Any = partial(numba.njit, cache=True, nogil=True, error_model="numpy", _nrt=False, forceinline=True)


class Compiler:
    """Compiled twins of a set of plain modules, made on first use."""

    def __init__(self, modules: Sequence[str], folder: Path) -> None:
        self._modules = frozenset(modules)
        self._twins: dict[str, ModuleType] = {}
        self._folder = folder
        self._loading = RLock()  # searches ask from several threads: none may see half a twin

    def load(self, name: str) -> ModuleType:
        """The compiled twin of a plain module; every public function in it is a numba dispatcher."""
        with self._loading:
            return self._twins[name] if name in self._twins else self._load(name)

    def _load(self, name: str) -> ModuleType:
        plain = importlib.import_module(name)
        twin = ModuleType(name)  # the same name, so that pickled types and cache entries mean the same thing
        twin.__file__ = plain.__file__
        twin.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._twins[name] = twin
        path = source_of(name)
        code = compile(path.read_text(), str(path), "exec")
        exec(code, twin.__dict__)  # noqa: S102 - our own source, read from the installed package
        self._share_types(plain, twin)
        os.environ["NUMBA_CACHE_DIR"] = str(self._folder)  # numba reads it when a cache is opened
        numba.config.reload_config()  # type: ignore[no-untyped-call]
        for key, value in list(vars(twin).items()):
            if isinstance(value, FunctionType) and value.__module__ == name:
                vars(twin)[key] = _njit(value)
        return twin

    @staticmethod
    def _share_types(plain: ModuleType, twin: ModuleType) -> None:
        """Classes must be one and the same in both loads."""
        for key, value in vars(plain).items():
            if inspect.isclass(value) and value.__module__ == plain.__name__:
                vars(twin)[key] = value

    def _import(
        self,
        name: str,
        globals_: Mapping[str, Any] | None = None,
        locals_: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if name in self._modules:
            return self.load(name)
        if any(f"{name}.{each}" in self._modules for each in fromlist or ()):
            package = ModuleType(name)
            for each in fromlist or ():
                vars(package)[each] = self.load(f"{name}.{each}")
            return package
        return builtins.__import__(name, globals_, locals_, fromlist or (), level)


@cache
def _compiler() -> Compiler:
    folder = cache_folder(PLAIN, os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    return Compiler(PLAIN, folder)


def compiled(name: str) -> Any:
    """The compiled twin of the plain module ``name``, from this process's one compiler; safe from any thread."""
    return _compiler().load(name)
