"""Where an operator's settings come from: flags, else the environment (``BES_OPERATOR_*``), else a YAML file."""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bes_api.errors import ConfigurationError
from bes_operator.settings import OperatorSettings

PREFIX = "BES_OPERATOR_"
FILE_OPTION = "--settings-file"
FILE_VARIABLE = f"{PREFIX}SETTINGS_FILE"


class _Sourced(OperatorSettings, BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the seam brings it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files: a pod has none
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no folder of secrets either
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)  # flags come before both; what is passed in is the file


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting, and the one that names the file."""
    parser.add_argument(
        FILE_OPTION,
        type=Path,
        default=os.environ.get(FILE_VARIABLE),
        metavar="FILE",
        help=f"settings as YAML, a key for each flag; flags and {PREFIX}* variables win over it",
    )
    CliSettingsSource(_Sourced, root_parser=parser)


def settings_from(arguments: argparse.Namespace) -> OperatorSettings:
    """What flags, environment and file say together. Raises ConfigurationError: every problem, and how to write it."""
    flags = {name: value for name, value in vars(arguments).items() if name not in {"settings_file", "command"}}
    try:
        file = _file(arguments.settings_file) if arguments.settings_file else {}
        source: CliSettingsSource[Any] = CliSettingsSource(_Sourced, root_parser=argparse.ArgumentParser())
        sourced = _Sourced(_cli_settings_source=source(parsed_args=flags), **file)
    except ValidationError as error:
        lines = (f"{_named(problem['loc'])}: {problem['msg']}" for problem in error.errors(include_url=False))
        raise ConfigurationError("\n".join(f"operator settings: {line}" for line in lines)) from None
    except SettingsError as error:
        raise ConfigurationError(f"operator settings: {error}; lists and maps are JSON in a variable") from None
    return OperatorSettings.model_validate(sourced.model_dump())


def _file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigurationError(f"{path}: a map of settings is expected, as `namespace: best-effort`")
    return document


def _named(location: tuple[int | str, ...]) -> str:
    names = [str(part) for part in location]
    flag = "--" + ".".join(names).replace("_", "-")
    return f"{flag} ({PREFIX}{'__'.join(names).upper()}, or {'.'.join(names)} in the file)"
