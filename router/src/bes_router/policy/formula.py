"""The latency formula of one engine (constants: `bes_api.scenario.LatencyProfile`), and what it predicts for a request.

Loaded plainly by router and emulated GPUs and compiled by the simulator: scalars and catalogue only.
"""

from typing import NamedTuple

from bes_router.policy.layout import Catalogue


def prefill_seconds(catalogue: Catalogue, model: int, tokens: int) -> float:
    """Duration of a prefill-first iteration over ``tokens`` prompt tokens, alone on its GPU."""
    return catalogue.prefill_base[model] + catalogue.prefill_token[model] * tokens


def decode_seconds(catalogue: Catalogue, model: int, batch: float, context: float) -> float:
    """Duration of a decode iteration of ``batch`` sequences that hold ``context`` tokens together."""
    return (
        catalogue.decode_base[model]
        + catalogue.decode_sequence[model] * batch
        + catalogue.decode_context[model] * context
    )


def mixed_seconds(catalogue: Catalogue, model: int, tokens: int, batch: int, context: int) -> float:
    """Duration of a chunked-prefill iteration: ``tokens`` prompt tokens beside ``batch`` decoding sequences."""
    base = catalogue.decode_base[model]
    if tokens > 0 and catalogue.prefill_base[model] > base:
        base = catalogue.prefill_base[model]
    return (
        base
        + catalogue.prefill_token[model] * tokens
        + catalogue.decode_sequence[model] * batch
        + catalogue.decode_context[model] * context
    )


def idle_latency(catalogue: Catalogue, model: int, prompt: int, output: int) -> float:
    """Latency of one request on an idle engine whose prompt fits one iteration: one prefill, output - 1 decode steps.

    The k-th decode step reads ``prompt + k`` tokens of context.
    """
    steps = output - 1
    context = steps * prompt + steps * (steps + 1) / 2
    base = catalogue.prefill_base[model]
    if catalogue.chunked[model] and catalogue.decode_base[model] > base:
        base = catalogue.decode_base[model]
    return (
        base
        + catalogue.prefill_token[model] * prompt
        + steps * (catalogue.decode_base[model] + catalogue.decode_sequence[model])
        + catalogue.decode_context[model] * context
    )


class FinishTerms(NamedTuple):
    """What `finish_at` needs of one model and one request: everything but the load."""

    alone: float  # seconds of prefill and decode steps without anybody else
    per_other: float  # more for each other request in the batch
    shared: float  # for each prefill of somebody else between two decode steps
    steps: int  # decode steps
    step_base: float  # of one decode iteration
    step_slope: float  # more for each sequence in it
    cap: int  # largest batch


def finish_terms(catalogue: Catalogue, model: int, prompt: int, output: int) -> FinishTerms:
    """The terms for a request whose batch consists of requests like itself."""
    steps = output - 1
    step_base = decode_seconds(catalogue, model, 0.0, 0.0)
    step_slope = decode_seconds(catalogue, model, 1.0, prompt + 0.5 * output) - step_base
    own_prefill = catalogue.prefill_token[model] * prompt
    shared = catalogue.prefill_base[model]
    if catalogue.chunked[model]:
        shared = max(0.0, shared - step_base)
    return FinishTerms(
        catalogue.prefill_base[model] + own_prefill + steps * (step_base + step_slope),
        own_prefill + steps * step_slope,
        shared,
        steps,
        step_base,
        step_slope,
        catalogue.max_batch[model],
    )


def finish_at(terms: FinishTerms, load: float) -> float:
    """Seconds until a request finishes on an engine that holds ``load`` others of its kind, neighbours left out.

    Half an iteration to get in, the own prefill, the decode steps at that batch, and the prefills of those who arrive
    meanwhile (as many as are there now, by Little's law, but not more iterations than there are decode steps). Beyond
    the batch cap a share of one more service time is waited.
    """
    others = load
    over = 1.0
    if load + 1.0 > terms.cap:
        over = (load + 1.0) / terms.cap
        others = terms.cap - 1.0
    stalls = others if others < terms.steps else terms.steps
    service = (terms.alone + terms.per_other * others + terms.shared * stalls) * over
    entry = 0.5 * (terms.step_base + terms.step_slope * (others + 1.0))
    return service + (entry * load if load < 1.0 else entry)


def predicted_finish(catalogue: Catalogue, model: int, load: float, prompt: int, output: int) -> float:
    """`finish_at` for one engine alone: seconds until a request finishes on ``model`` beside ``load`` others."""
    return finish_at(finish_terms(catalogue, model, prompt, output), load)
