"""The subcommands of `bes` that this room brings."""

from bes_training.evaluation.command import EVALUATE
from bes_training.learning.command import TRAIN

__all__ = ["EVALUATE", "TRAIN"]
