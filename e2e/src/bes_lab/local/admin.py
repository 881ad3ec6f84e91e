"""The bearer token of a local run's admin ports: made anew for each run, readable by its owner alone."""

import os
import secrets
import shlex
from pathlib import Path

NAME = "admin-token"


def write_token(folder: Path) -> Path:
    """Put a new token into ``folder``; returns its file. Raises OSError."""
    file = folder / NAME
    file.unlink(missing_ok=True)  # whose permissions may be anything
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
        opened.write(secrets.token_urlsafe(32) + "\n")
    return file


def status_line(url: str, token_file: Path) -> str:
    """A command that a person can paste: what the router at the admin address ``url`` says of itself."""
    return f'curl -H "authorization: bearer $(cat {shlex.quote(str(token_file))})" {url}/status'
