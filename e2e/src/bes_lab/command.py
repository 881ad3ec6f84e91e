"""The lab's subcommands of `bes`; `bench` brings its own."""

from bes_lab.engine.command import ENGINE

__all__ = ["ENGINE"]
