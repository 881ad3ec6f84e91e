"""`python -m bes_operator`: what the operator's image runs; the same as `bes operator`."""

import argparse
import sys

from bes_api.command import exit_code_of
from bes_operator.command import OPERATOR


def main() -> int:
    """The exit codes are those of `bes`."""
    parser = argparse.ArgumentParser(prog="python -m bes_operator", description=OPERATOR.summary)
    OPERATOR.configure(parser)
    arguments = parser.parse_args()
    return exit_code_of("operator", lambda: OPERATOR.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
