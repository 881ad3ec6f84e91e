"""Placement: which engine of a model. Plain functions beside the rules, open to every policy, compiled like them."""

from bes_router.policy.formula import finish_at, finish_terms
from bes_router.policy.layout import Catalogue, LoadView

LEAST_LOADED, LEAST_FINISH, BUNCHED = range(3)
SLOT_SECONDS = 0.02
BUNCH_BONUS = 20.0


def slot_gpu(catalogue: Catalogue, now: float) -> int:
    """The GPU that bunching prefers in this 20-ms slot."""
    return int(now / SLOT_SECONDS) % len(catalogue.interference)


def neighbours_busy(catalogue: Catalogue, view: LoadView, engine: int) -> float:
    """How many other engines of the same GPU are at work, as far as the view knows."""
    load = view.load[engine]
    return max(0.0, view.gpu_busy[catalogue.engine_gpu[engine]] - (load if load < 1.0 else 1.0))


def least_loaded(catalogue: Catalogue, view: LoadView, model: int) -> int:
    """The ready engine with the fewest requests in flight, or -1; ties go to the less busy GPU."""
    loads = view.load
    ready = view.ready
    gpu_loads = view.gpu_load
    engine_gpu = catalogue.engine_gpu
    best = -1
    least = 0.0
    for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
        if ready[engine]:
            load = loads[engine] + 1e-3 * gpu_loads[engine_gpu[engine]]
            if best < 0 or load < least:
                best = engine
                least = load
    return best


def quietest_gpu(view: LoadView) -> int:
    """The GPU with the fewest engines at work; ties go to the fewer requests."""
    busy = view.gpu_busy
    loads = view.gpu_load
    best = 0
    least = busy[0] + 1e-3 * loads[0]
    for gpu in range(1, len(busy)):
        value = busy[gpu] + 1e-3 * loads[gpu]
        if value < least:
            best = gpu
            least = value
    return best


def least_finish(catalogue: Catalogue, view: LoadView, model: int, prompt: int, output: int) -> int:
    """The ready engine with the least predicted finish given its GPU's neighbours, or -1.

    The finish is taken as linear in the load here, so that one decision's cost hardly grows with the replicas.
    """
    terms = finish_terms(catalogue, model, prompt, output)
    idle = finish_at(terms, 0.0)
    slope = 0.25 * (finish_at(terms, 4.0) - idle)
    loads = view.load
    gpu_busy = view.gpu_busy
    best = -1
    least = 0.0
    for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
        if view.ready[engine]:
            gpu = catalogue.engine_gpu[engine]
            load = loads[engine]
            finish = idle + slope * load
            slow = catalogue.interference[gpu]
            if slow > 0.0:
                finish *= 1.0 + slow * max(0.0, gpu_busy[gpu] - (load if load < 1.0 else 1.0))
            if best < 0 or finish < least:
                best = engine
                least = finish
    return best


def bunched(catalogue: Catalogue, view: LoadView, model: int, now: float) -> int:
    """The least loaded ready engine, where the GPU of this 20-ms slot counts as holding 20 requests less."""
    preferred = slot_gpu(catalogue, now)
    best = -1
    least = 0.0
    for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
        if view.ready[engine]:
            gpu = catalogue.engine_gpu[engine]
            load = view.load[engine] + 1e-3 * view.gpu_load[gpu]
            if gpu == preferred:
                load -= BUNCH_BONUS
            if best < 0 or load < least:
                best = engine
                least = load
    return best
