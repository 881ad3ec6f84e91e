"""`python -m bes_lab.engine`: what the emulated engine's image runs; the same as `bes engine`."""

import argparse
import sys

from bes_api.command import exit_code_of
from bes_lab.engine.command import ENGINE


def main() -> int:
    """The exit codes are those of `bes`."""
    parser = argparse.ArgumentParser(prog="python -m bes_lab.engine", description=ENGINE.summary)
    ENGINE.configure(parser)
    arguments = parser.parse_args()
    return exit_code_of("engine", lambda: ENGINE.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
