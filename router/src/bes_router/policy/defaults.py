"""Published starting points of the rules' parameters, where nobody has tuned them."""

from bes_router.policy.layout import Catalogue
from bes_router.policy.rules import DEADLINE_AWARE, NO_GATE, PRICED, THRESHOLD


def default_parameters(catalogue: Catalogue, kind: int) -> list[float]:
    """Published starting points of a rule: sensible for any catalogue, tuned for none."""
    models = len(catalogue.context)
    if kind == DEADLINE_AWARE:
        return [NO_GATE, 0.2]
    if kind == PRICED:
        return [NO_GATE, 0.2, 0.1, 1.0, 1.0, 0.0] + [NO_GATE] * models
    if kind == THRESHOLD:
        ranks = [sum(other > work for other in catalogue.work) for work in catalogue.work]
        thresholds = [4.0 * 4.0**rank for rank in ranks]
        return [NO_GATE, *(thresholds * len(catalogue.full_until))]
    return [NO_GATE, 0.0]
