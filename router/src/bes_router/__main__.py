"""`python -m bes_router`: what the router's image runs; the same as `bes router`."""

import argparse
import sys

from bes_api.command import exit_code_of
from bes_router.command import ROUTER


def main() -> int:
    """The exit codes are those of `bes`."""
    parser = argparse.ArgumentParser(prog="python -m bes_router", description=ROUTER.summary)
    ROUTER.configure(parser)
    arguments = parser.parse_args()
    return exit_code_of("router", lambda: ROUTER.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
