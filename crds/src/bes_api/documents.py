"""Files that users write: `BestEffortService` documents and the ConfigMaps beside them, every problem with its line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bes_api.complaints import complaints
from bes_api.errors import DocumentError, Problem
from bes_api.located_yaml import LocatedDocument, UnreadableError, read_documents
from bes_api.location import Location, field_path
from bes_api.profile import ModelProfile, ProfileData, Profiles
from bes_api.rules import violations
from bes_api.service import KIND, BestEffortService

Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class LoadedFile:
    """The services of one file, and the profiles that they name, by the name of their ConfigMap."""

    services: tuple[BestEffortService, ...]
    profiles: Profiles


def load_services(path: Path) -> LoadedFile:
    """Read every service in ``path``; documents of other kinds are left alone. Raises DocumentError."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise DocumentError(str(path), [Problem("", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        raise DocumentError(str(path), [Problem("", "is not UTF-8 text: save it as UTF-8")]) from error
    return read_services(text, str(path))


def read_services(text: str, source: str) -> LoadedFile:
    """The same of ``text``; ``source`` names it in errors. Raises DocumentError."""
    try:
        documents = tuple(read_documents(text))
    except UnreadableError as error:
        raise DocumentError(source, [error.problem]) from error
    problems: list[Problem] = []
    config_maps = {name: document for document in documents if (name := _config_map_name(document)) is not None}
    services = []
    profiles: dict[str, ModelProfile] = {}
    for document in documents:
        if _member(document.data, "kind") != KIND:
            continue
        service = _parse(BestEffortService, document, (), problems)
        if service is not None:
            problems.extend(_broken_rules(service, document))
            problems.extend(_add_profiles(service, document, config_maps, profiles))
            services.append(service)
    problems.extend(_repeated_services(services))
    if problems:
        raise DocumentError(source, sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0))
    if not services:
        kinds = (
            ", ".join(sorted({str(_member(document.data, "kind") or "no kind") for document in documents})) or "nothing"
        )
        raise DocumentError(source, [Problem("", f"holds no {KIND} (found: {kinds}): add one, or name another file")])
    return LoadedFile(tuple(services), MappingProxyType(profiles))


def the_service(path: Path) -> tuple[BestEffortService, Profiles]:
    """The only service of ``path``, with its profiles. Raises DocumentError, also if there are several."""
    loaded = load_services(path)
    if len(loaded.services) > 1:
        names = ", ".join(service.name for service in loaded.services)
        raise DocumentError(str(path), [Problem("", f"holds several services ({names}): give a file with one")])
    return loaded.services[0], loaded.profiles


def write_service(service: BestEffortService) -> dict[str, Any]:
    """The service as plain data, as a user would write it: defaults that were not written stay out."""
    return service.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _parse(form: type[Form], document: LocatedDocument, at: Location, problems: list[Problem]) -> Form | None:
    """The part of ``document`` at ``at`` as ``form``; None, with what is wrong added to ``problems``."""
    data = document.data
    for key in at:
        data = data[key]
    try:
        return form.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        for location, message in complaints(error, form):
            full = at + location
            problems.append(Problem(field_path(full), message, document.line_of(full)))
        return None


def _broken_rules(service: BestEffortService, document: LocatedDocument) -> Iterator[Problem]:
    for violation in violations(service):
        line = document.line_of(violation.location)
        yield Problem(field_path(violation.location), violation.rule.message, line, violation.rule.id)


def _add_profiles(
    service: BestEffortService,
    document: LocatedDocument,
    config_maps: Mapping[str, LocatedDocument],
    profiles: dict[str, ModelProfile],
) -> Sequence[Problem]:
    problems: list[Problem] = []
    for i, model in enumerate(service.spec.models):
        if model.profile is None or model.profile.config_map_ref is None:
            continue
        name = model.profile.config_map_ref.name
        if name in profiles:
            continue
        location = ("spec", "models", i, "profile", "configMapRef", "name")
        if name not in config_maps:
            message = (
                f"there is no ConfigMap {name!r} with data in this file: add it as another document, or name one that "
                "is there"
            )
            problems.append(Problem(field_path(location), message, document.line_of(location)))
        elif (data := _parse(ProfileData, config_maps[name], ("data",), problems)) is not None:
            profiles[name] = data.profile()
    return problems


def _repeated_services(services: Sequence[BestEffortService]) -> Iterator[Problem]:
    names = [service.name for service in services]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem("metadata.name", f"two services are named {name!r}: rename one")


def _config_map_name(document: LocatedDocument) -> str | None:
    name = _member(_member(document.data, "metadata"), "name")
    is_profile = _member(document.data, "kind") == "ConfigMap" and isinstance(_member(document.data, "data"), dict)
    return name if is_profile and isinstance(name, str) else None


def _member(data: object, key: str) -> object:
    return data.get(key) if isinstance(data, dict) else None
