"""`python -m bes_training`: what the training image runs."""

import argparse
import os
import sys

from bes_api.command import exit_code_of
from bes_training.job import command, pack_command


def main() -> int:
    """`job` in a pod, `pack` for people; the exit codes are those of `bes`."""
    parser = argparse.ArgumentParser(prog="python -m bes_training", description="trainings for a cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    command.configure(commands.add_parser("job", help="train as ordered and leave a ConfigMap; in a pod"))
    pack_command.configure(commands.add_parser("pack", help="a trained folder as a ConfigMap to import"))
    arguments = parser.parse_args()
    if arguments.command == "job":
        return exit_code_of("job", lambda: command.run(arguments, os.environ))
    return exit_code_of("pack", lambda: pack_command.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
