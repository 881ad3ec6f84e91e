"""The lab's subcommands of `bes`; `bench` brings its own."""

from bes_lab.engine.command import ENGINE
from bes_lab.local.command import LOCAL

__all__ = ["ENGINE", "LOCAL"]
