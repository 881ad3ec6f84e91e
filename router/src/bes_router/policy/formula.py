"""The latency formula of one engine (constants: `bes_api.scenario.LatencyProfile`), and what it predicts for a request.

Loaded plainly by router and emulated GPUs and compiled by the simulator: scalars and catalogue only.
"""

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


def predicted_finish(catalogue: Catalogue, model: int, load: float, prompt: int, output: int) -> float:
    """Seconds until a request finishes on an engine that holds ``load`` others of its kind, neighbours left out.

    Half an iteration to get in, the own prefill, the decode steps at that batch, and the prefills of those who arrive
    meanwhile (as many as are there now, by Little's law, but not more iterations than there are decode steps). Beyond
    the batch cap a share of one more service time is waited.
    """
    cap = catalogue.max_batch[model]
    batch = load + 1.0
    over = 0.0
    if batch > cap:
        over = (batch - cap) / cap
        batch = float(cap)
    steps = output - 1
    step = decode_seconds(catalogue, model, batch, batch * (prompt + 0.5 * output))
    shared = catalogue.prefill_base[model]
    if catalogue.chunked[model]:
        shared = max(0.0, shared - catalogue.decode_base[model])
    others = batch - 1.0
    stalls = others if others < steps else float(steps)
    service = (
        catalogue.prefill_base[model]
        + catalogue.prefill_token[model] * prompt * (1.0 + others)
        + steps * step
        + stalls * shared
    )
    entry = 0.5 * step * (load if load < 1.0 else 1.0)
    return entry + service * (1.0 + over)
