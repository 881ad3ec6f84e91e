"""`bes profile URL`: the latency profile of a running engine."""

import argparse
import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bes_api.command import Command
from bes_api.output import prepare_folder, write_whole
from bes_lab.errors import ProfileError
from bes_lab.profile.document import as_json, as_yaml, name_of
from bes_lab.profile.measure import RESTLESS, Held, Profiled, profile_engine
from bes_lab.profile.plan import Settings
from bes_lab.profile.wire import Address

_DEFAULT = Settings()


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes profile`."""
    parser.add_argument("url", help="http(s)://HOST:PORT of an engine that speaks OpenAI's API (not of a router)")
    parser.add_argument("--model", help="the model's name at the engine (default: the only one it lists)")
    parser.add_argument("--chat", action="store_true", help="measure /v1/chat/completions instead of /v1/completions")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="a file with the engine's API key")
    lengths = ",".join(map(str, _DEFAULT.prompt_tokens))
    parser.add_argument(
        "--prompt-tokens", type=_numbers, default=_DEFAULT.prompt_tokens, metavar="N,N", help=f"(default {lengths})"
    )
    parser.add_argument(
        "--output-tokens", type=int, default=_DEFAULT.output_tokens, help=f"(default {_DEFAULT.output_tokens})"
    )
    levels = ",".join(map(str, _DEFAULT.concurrency))
    parser.add_argument(
        "--concurrency",
        type=_numbers,
        default=_DEFAULT.concurrency,
        metavar="N,N",
        help=f"requests at once; the largest should be what the engine will really see (default {levels})",
    )
    parser.add_argument(
        "--repeats", type=int, default=_DEFAULT.repeats, help=f"of each combination (default {_DEFAULT.repeats})"
    )
    parser.add_argument(
        "--check-requests",
        type=int,
        default=_DEFAULT.check_requests,
        help=f"requests of other lengths on which the fit is judged (default {_DEFAULT.check_requests})",
    )
    parser.add_argument("--seed", type=int, default=_DEFAULT.seed, help="of prompts, order and arrivals (default 0)")
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=_DEFAULT.max_seconds,
        help=f"give up after that long (default {_DEFAULT.max_seconds:g})",
    )
    parser.add_argument("--kv-cache-tokens", type=_count, help="what the engine can hold (default: what was seen)")
    parser.add_argument("--max-batch-size", type=_count, help="the engine's batch (default: what was seen)")
    parser.add_argument("--name", help="the ConfigMap's name (default: made from the model's)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the ConfigMap there (YAML)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of the ConfigMap")


def run(arguments: argparse.Namespace) -> int:
    """0; the ConfigMap (or JSON) on stdout, figures and progress on stderr."""
    settings = Settings(
        tuple(arguments.prompt_tokens),
        arguments.output_tokens,
        tuple(arguments.concurrency),
        arguments.repeats,
        arguments.check_requests,
        arguments.seed,
        arguments.max_seconds,
    )
    settings.check()
    if arguments.out is not None:
        prepare_folder("--out", arguments.out.parent)
    address = Address(arguments.url, arguments.chat, _key(arguments.api_key_file))
    held = Held(arguments.kv_cache_tokens, arguments.max_batch_size)
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"requests to {arguments.url}", total=settings.requests)
        measuring = profile_engine(
            address, arguments.model, settings, held, lambda answered: bar.advance(task, answered)
        )
        profiled = asyncio.run(measuring)
    name = arguments.name or name_of(profiled.model)
    _explain(profiled, console)
    document = as_yaml(profiled.profile, name)
    if arguments.out is not None:
        write_whole(arguments.out, document)
        console.print(
            f"written to {arguments.out}; a model takes it by [bold]profile: {{configMapRef: {{name: {name}}}}}[/]"
        )
    said = json.dumps(as_json(profiled, name), indent=2) + "\n" if arguments.json else document
    print(said, end="")  # noqa: T201 - what was asked for
    return 0


def _explain(profiled: Profiled, console: Console) -> None:
    latency = profiled.profile.latency
    table = Table("constant", "ms", title=f"{profiled.model}: {profiled.requests} requests", highlight=False)
    table.add_row("prefill, base", f"{latency.prefill_base_ms:.3f}")
    table.add_row("prefill, per prompt token", f"{latency.prefill_per_token_ms:.5f}")
    table.add_row("decode step, base", f"{latency.decode_base_ms:.3f}")
    table.add_row("decode step, per sequence", f"{latency.decode_per_sequence_ms:.5f}")
    table.add_row("decode step, per token of context", f"{latency.decode_per_context_token_ms:.6f}")
    console.print(table)
    errors = profiled.errors
    console.print(
        f"forecast of {sum(map(len, profiled.check))} requests of other lengths, open loop: error {errors.median:.1%} "
        f"(median), {errors.p90:.1%} (p90); mean latency {errors.mean_latency:+.1%}; like {errors.batching.value}"
    )
    console.print(f"HTTP takes {profiled.round_trip * 1e3:.2f} ms of each answer; the constants are the engine's alone")
    if profiled.unrest > RESTLESS:
        console.print(
            f"[bold]equal requests differed by {profiled.unrest:.0%} when repeated[/]: something else uses this "
            "machine or the engine's; measure again when it is quiet"
        )
    if profiled.batch_is_capped:
        console.print(
            f"the engine decoded at most {profiled.profile.max_batch_size} requests together, fewer than it was sent"
        )
    console.print(f"[dim]{profiled.profile.source}[/]")


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"--api-key-file {file}: cannot be read ({error}); name a file that holds the key") from None
    if not key or not key.isprintable():
        raise ProfileError(f"--api-key-file {file}: holds no key; it must be one line of text")
    return key


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers with commas, such as 1,2,4") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**10:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


PROFILE = Command("profile", "measure a running engine and fit its latency profile", "lab", configure, run)
