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

from bes_api.command import exit_code_of
from bes_api.handover import dump_document
from bes_api.presets import LATENCY_PRESETS
from bes_api.scenario import Batching, LatencyProfile
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes
from bes_lab.opt_engine.serving import KV_CACHE_TOKENS, MODEL, OptEngine
from bes_lab.profile.forecast import scenario_of_engine
from bes_lab.profile.measure import RESTLESS, Held, Profiled, profile_engine
from bes_lab.profile.plan import Settings
from bes_lab.profile.wire import Address
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

COMMAND = "python -m bes_lab.profile.check"
PRESET = "opt-6.7b"
SETTINGS = Settings()
START_SECONDS = 30.0
INVALID = 5


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


def records_of_emulated(recording: Recorder, truth: LatencyProfile, found: Profiled) -> list[Record]:
    """How near the constants are, which only an emulation can say, and the forecast."""

    def prefill(latency: LatencyProfile, tokens: int) -> float:
        return latency.prefill_base_ms + latency.prefill_per_token_ms * tokens

    def step(latency: LatencyProfile, batch: int, context: int) -> float:
        per_sequence = latency.decode_per_sequence_ms + latency.decode_per_context_token_ms * context
        return latency.decode_base_ms + per_sequence * batch

    got = found.profile.latency
    prefills = [prefill(got, tokens) / prefill(truth, tokens) for tokens in (32, 128, 512, 2048)]
    steps = [step(got, *at) / step(truth, *at) for at in ((1, 32), (1, 512), (8, 32), (8, 512), (64, 32), (64, 512))]
    what = f"emulated {PRESET}, `bes profile`"
    return [
        recording.record(
            "profile.emulated.decode",
            f"{what}: worst error of a decode step, batch 1 to 64",
            _worst(steps),
            "%",
            "<= 5",
        ),
        recording.record(
            "profile.emulated.prefill",
            f"{what}: worst error of a prefill, 32 to 2048 tokens",
            _worst(prefills),
            "%",
            "<= 10",
        ),
        *_forecast(recording, "emulated", what, [found], "<= 5"),
    ]


def records_of_real(recording: Recorder, found: Sequence[Profiled]) -> list[Record]:
    """The forecast, which is all that can be judged where nobody knows the constants."""
    return _forecast(recording, "real", "real OPT engine on a CPU, `bes profile`", found, "<= 25")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write docs/results/profile.json; 5 if the machine was too restless to record all."""
    parser = argparse.ArgumentParser(prog="bes_lab.profile.check", description="Record how good fitted profiles are.")
    parser.add_argument("--environment", type=Path, default=Path(".venv-engine"), help="where transformers is")
    parser.add_argument("--seeds", type=int, default=3, help="runs on the real engine (0: none; default 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    options = parser.parse_args(arguments)
    return exit_code_of("bes_lab.profile.check", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    recording = recorder(COMMAND, seed=SETTINGS.seed, packages=("numpy", "aiohttp"))
    with tempfile.TemporaryDirectory() as folder:
        truth, known = emulated(Path(folder))
        quiet = _record(options.results, "emulated", records_of_emulated(recording, truth, known), [known])
        if options.seeds > 0:
            unknown = real(options.environment, Path(folder), options.seeds)
            quiet &= _record(options.results, "real", records_of_real(recording, unknown), unknown)
    return 0 if quiet else INVALID


def _record(results: Path, name: str, made: Sequence[Record], found: Sequence[Profiled]) -> bool:
    """Write records of a quiet machine only: of a restless one they would say nothing about the fit."""
    for record in made:
        sys.stderr.write(f"{record.claim}: {record.measured:.3g} {record.unit} (bar {record.bar}, met {record.met})\n")
    unrest = max(each.unrest for each in found)
    if unrest > RESTLESS:
        sys.stderr.write(
            f"{name}: nothing recorded: equal requests differed by {unrest:.0%} (at most {RESTLESS:.0%}); run it when "
            "nothing else uses this machine\n"
        )
        return False
    write("profile", made, results)
    return True


def _forecast(recording: Recorder, name: str, what: str, found: Sequence[Profiled], bar: str) -> list[Record]:
    runs = f"open loop of other lengths, mean of {len(found)} runs" if len(found) > 1 else "open loop of other lengths"
    figures = {
        "forecast": ("median error of the forecast of single requests", [each.errors.median for each in found], bar),
        "p90": ("p90 error of it", [each.errors.p90 for each in found], None),
        "mean-latency": ("error of the forecast mean latency", [abs(each.errors.mean_latency) for each in found], None),
        "unrest": ("how far equal requests differ when repeated", [each.unrest for each in found], None),
    }
    return [
        recording.record(f"profile.{name}.{key}", f"{what}: {said}, {runs}", float(np.mean(values)) * 100.0, "%", limit)
        for key, (said, values, limit) in figures.items()
    ]


def _worst(ratios: Sequence[float]) -> float:
    return max(abs(ratio - 1.0) for ratio in ratios) * 100.0


def _profiled(url: str, model: str | None, settings: Settings, kv_cache_tokens: int | None) -> Profiled:
    return asyncio.run(profile_engine(Address(url), model, settings, Held(kv_cache_tokens), lambda _: None))


if __name__ == "__main__":
    sys.exit(main())
