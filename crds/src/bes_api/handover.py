"""Reading and writing the documents that components hand each other: one error line instead of a traceback."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bes_api.errors import ConfigurationError
from bes_api.output import write_whole

Document = TypeVar("Document", bound=BaseModel)


def load_document(kind: type[Document], path: Path) -> Document:
    """Read ``path`` (JSON, or YAML by its suffix) as ``kind``. Raises ConfigurationError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_document(kind, content, str(path), as_yaml=path.suffix in {".yaml", ".yml"})


def parse_document(kind: type[Document], content: bytes, source: str, *, as_yaml: bool = False) -> Document:
    """Parse ``content`` as ``kind``; ``source`` names it in errors. Raises ConfigurationError."""
    try:
        if as_yaml:
            return kind.model_validate(yaml.safe_load(content))
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_lines(source, error))) from error
    except (yaml.YAMLError, RecursionError, ValueError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())  # the last two: PyYAML, of a value that does not fit its explicit tag
        raise ConfigurationError(f"{source}: is not YAML that can be read: {reason}") from error


def dump_document(document: BaseModel, path: Path) -> None:
    """Write ``document`` as JSON, complete or not at all: a reader never sees half a file. Raises OutputError."""
    write_whole(path, document.model_dump_json(indent=2) + "\n")


def _lines(source: str, error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"])
        lines.append(": ".join(part for part in (source, field, problem["msg"].removeprefix("Value error, ")) if part))
    return lines
