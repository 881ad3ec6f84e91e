"""The lab's subcommands of `bes`; `bench` brings its own."""

from bes_lab.demo import DEMO
from bes_lab.local.command import LOCAL
from bes_lab.profile.command import PROFILE
from bes_lab.replay.command import REPLAY

__all__ = ["DEMO", "LOCAL", "PROFILE", "REPLAY"]
