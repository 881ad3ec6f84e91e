"""A real Prometheus beside the emulated GPUs: its own configuration, loopback, storage that ends with it."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bes_lab.engine.process import EngineAddress, EngineAddresses
from bes_lab.errors import TargetError

NAME = "prometheus"
RETENTION = "30m"
MAX_SCRAPE_TIMEOUT_SECONDS = 1.0
_LISTENS = re.compile(r'msg="Listening on".* address=\S+:(\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class LocalPrometheus:
    """Load figures through a Prometheus that is started here. ``stale_after_seconds`` None: three scrape intervals."""

    binary: Path
    scrape_interval_seconds: float = 1.0
    stale_after_seconds: float | None = None


def find_prometheus(path: str | None = None) -> Path | None:
    """The binary on the PATH (``path``: on that one instead), else the one that `make` fetched, else None."""
    found = shutil.which(NAME, path=path)
    if found is not None:
        return Path(found)
    cached = fetched_prometheus()
    return cached if os.access(cached, os.X_OK) else None


def fetched_prometheus() -> Path:
    """Where `requirements/prometheus.py` puts what it fetches."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return folder / "best-effort-serving" / "tools" / NAME


def the_prometheus() -> Path:
    """The binary. Raises TargetError with the mend where there is none."""
    found = find_prometheus()
    if found is None:
        raise TargetError(
            "there is no prometheus on the PATH: install it, or run `make prometheus`, which fetches Debian's into the "
            "user's cache without root"
        )
    return found


def configuration(gpus: Iterable[EngineAddresses], scrape_interval_seconds: float) -> str:
    """Every engine as a static target with its labels. JSON, which is YAML."""
    seconds = f"{round(scrape_interval_seconds * 1e3)}ms"
    timeout = f"{round(min(scrape_interval_seconds, MAX_SCRAPE_TIMEOUT_SECONDS) * 1e3)}ms"
    targets = [
        {
            "targets": [target_of(engine)],
            "labels": {"model": engine.model, "replica": str(engine.replica), "gpu": str(gpu.gpu)},
        }
        for gpu in gpus
        for engine in gpu.engines
    ]
    return json.dumps(
        {
            "global": {"scrape_interval": seconds, "scrape_timeout": timeout},
            "scrape_configs": [{"job_name": "engines", "static_configs": targets}],
        },
        indent=1,
    )


def target_of(engine: EngineAddress) -> str:
    """An engine as its label `instance` names it."""
    return f"[{engine.host}]:{engine.port}" if ":" in engine.host else f"{engine.host}:{engine.port}"


def command_line(binary: Path, config: Path, storage: Path, port: int) -> Sequence[str]:
    """A Prometheus that listens at loopback; ``port`` 0: any free one, which its log names."""
    return (
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={storage}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address=127.0.0.1:{port}",
    )


def port_in(log: str) -> int | None:
    """The port that it says it listens at; None while it has not."""
    found = _LISTENS.findall(log)
    return int(found[-1]) if found else None
