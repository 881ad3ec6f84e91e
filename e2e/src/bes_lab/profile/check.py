"""Measures how good fitted profiles are, and records it: `python -m bes_lab.profile.check`.

Twice: on an emulated GPU, whose constants are known, and on the real OPT engine, where only the forecast of requests
that the fit has not seen can be judged. Needs `.venv-engine` beside it (make .venv-engine).
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bes_api.handover import dump_document
from bes_api.presets import LATENCY_PRESETS
from bes_api.scenario import Batching, LatencyProfile
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes
from bes_lab.opt_engine.serving import KV_CACHE_TOKENS, MODEL, OptEngine
from bes_lab.profile.forecast import scenario_of_engine
from bes_lab.profile.measure import Held, Profiled, profile_engine
from bes_lab.profile.plan import Settings
from bes_lab.profile.wire import Address
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

COMMAND = "python -m bes_lab.profile.check"
PRESET = "opt-1.3b"
SETTINGS = Settings()
START_SECONDS = 30.0


def emulated(folder: Path) -> tuple[LatencyProfile, Profiled]:
    """A preset's constants, and what is found of them through an emulated GPU."""
    truth = LATENCY_PRESETS[PRESET].profile
    scenario, addresses = folder / "scenario.json", folder / "addresses.json"
    dump_document(scenario_of_engine(truth, Batching.PREFILL_FIRST), scenario)
    with Children() as children:
        children.start("gpu", bes("engine", str(scenario), "--addresses", str(addresses)), folder / "gpu.log")
        children.wait_until(addresses.exists, "the emulated engine listened", START_SECONDS)
        (engine,) = EngineAddresses.read(addresses).engines
        return truth.latency, _profiled(f"http://{engine.host}:{engine.port}", None, SETTINGS, None)


def real(environment: Path, folder: Path, seeds: int) -> list[Profiled]:
    """The real engine, measured and forecast once per seed."""
    with OptEngine(environment, folder) as engine:
        return [_profiled(engine.url, MODEL, replace(SETTINGS, seed=seed), KV_CACHE_TOKENS) for seed in range(seeds)]


def records_of(
    recording: Recorder, truth: LatencyProfile, known: Profiled, unknown: Sequence[Profiled]
) -> list[Record]:
    """What is claimed of both."""

    def off(name: str) -> float:
        return 100.0 * abs(float(getattr(known.profile.latency, name)) / float(getattr(truth, name)) - 1.0)

    decode = max(off(name) for name in LatencyProfile.model_fields if name.startswith("decode"))
    made = [
        recording.record(
            "profile.emulated.decode",
            f"emulated {PRESET}: worst error of a decode constant that `bes profile` finds",
            decode,
            "%",
            "<= 5",
        ),
        recording.record(
            "profile.emulated.prefill",
            f"emulated {PRESET}: worst error of a prefill constant that `bes profile` finds",
            max(off("prefill_base_ms"), off("prefill_per_token_ms")),
            "%",
            "<= 10",
        ),
        _forecast(recording, "emulated", f"emulated {PRESET}", [known], "<= 5"),
        _forecast(recording, "real", "real OPT engine on a CPU", unknown, "<= 25"),
    ]
    for name, said, values in (
        (
            "p90",
            "p90 error of the forecast of single requests, mean of the runs",
            [each.errors.p90 for each in unknown],
        ),
        (
            "mean-latency",
            "error of the forecast of the mean latency, mean of the runs",
            [abs(each.errors.mean_latency) for each in unknown],
        ),
        ("unrest", "what equal requests differ by when repeated, mean of the runs", [each.unrest for each in unknown]),
    ):
        made.append(
            recording.record(f"profile.real.{name}", f"real OPT engine on a CPU: {said}", _percent(values), "%")
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write docs/results/profile.json."""
    parser = argparse.ArgumentParser(prog="bes_lab.profile.check", description="Record how good fitted profiles are.")
    parser.add_argument("--environment", type=Path, default=Path(".venv-engine"), help="where transformers is")
    parser.add_argument("--seeds", type=int, default=3, help="runs on the real engine (default 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        truth, known = emulated(Path(folder))
        unknown = real(options.environment, Path(folder), options.seeds)
    recording = recorder(COMMAND, seed=SETTINGS.seed, packages=("numpy", "aiohttp"))
    made = records_of(recording, truth, known, unknown)
    for record in made:
        sys.stderr.write(f"{record.claim}: {record.measured:.3g} {record.unit} (bar {record.bar}, met {record.met})\n")
    for each in unknown:
        sys.stderr.write(f"{each.profile.latency}, {each.errors}\n")
    write("profile", made, options.results)
    return 0


def _forecast(recording: Recorder, name: str, what: str, found: Sequence[Profiled], bar: str) -> Record:
    claim = f"{what}: median error of the forecast of an open loop of other lengths, mean of {len(found)} runs"
    return recording.record(f"profile.{name}.forecast", claim, _percent([x.errors.median for x in found]), "%", bar)


def _percent(values: Sequence[float]) -> float:
    return float(np.mean(values)) * 100.0


def _profiled(url: str, model: str | None, settings: Settings, kv_cache_tokens: int | None) -> Profiled:
    return asyncio.run(profile_engine(Address(url), model, settings, Held(kv_cache_tokens), lambda _: None))


if __name__ == "__main__":
    sys.exit(main())
