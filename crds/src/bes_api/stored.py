"""A resource as the API server holds it: checked again in full, but for fields that only a newer release knows."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bes_api.complaints import complaints
from bes_api.errors import DocumentError, Problem
from bes_api.location import field_path
from bes_api.rules import violations
from bes_api.service import KIND, BestEffortService


def read_stored(stored: Mapping[str, Any]) -> BestEffortService:
    """The service of a stored object. Raises DocumentError with every reason why it is none of this version.

    A schema may be older than the operator, or none may have been in force when the object was stored: nothing that
    the API server should have refused is taken on trust.
    """
    try:
        service = BestEffortService.model_validate(stored, by_alias=True, by_name=False, extra="ignore")
    except ValidationError as error:
        problems = [Problem(field_path(at), message) for at, message in complaints(error, BestEffortService)]
        raise DocumentError(_said(stored), problems) from error
    broken = [Problem(field_path(each.location), each.rule.message, rule=each.rule.id) for each in violations(service)]
    if broken:
        raise DocumentError(_said(stored), broken)
    return service


def _said(stored: Mapping[str, Any]) -> str:
    metadata = stored.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    return f"{KIND} {named.get('namespace', '')}/{named.get('name', '')}"
