"""The CustomResourceDefinition: as committed, small, structural, explained, and open to every valid service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from served_schema import defaulted, pruned
from service_samples import Data, parsed, services

from bes_api.crd import MAX_BYTES, as_yaml, definition, node_at, resource_schema
from bes_api.resource_page import page
from bes_api.rules import RULES
from bes_api.structural_schema import Schema

COMMITTED = Path(__file__).parents[1] / "besteffortservices.yaml"
CHARTS = Path(__file__).parents[2] / "charts" / "best-effort-serving" / "files" / COMMITTED.name
PAGE = Path(__file__).parents[2] / "docs" / "resource.md"
SCHEMA = resource_schema()


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[*]")


@pytest.mark.parametrize("file", [COMMITTED, CHARTS], ids=["crds", "chart"])
def test_the_committed_file_is_what_the_types_say_now(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == as_yaml(), "run: make resource"


def test_the_file_reads_back_as_what_was_written() -> None:
    assert yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) == definition()


def test_the_page_of_the_resource_is_what_the_types_say_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make resource"


def test_it_is_small_enough_for_a_client_side_apply() -> None:
    assert len(as_yaml().encode()) < MAX_BYTES


def test_words_without_a_place_in_a_structural_schema_are_nowhere() -> None:
    placeless = {"$ref", "$defs", "title", "const", "discriminator", "oneOf", "allOf", "not", "patternProperties"}
    for path, node in nodes(SCHEMA):
        assert not placeless & set(node), path
        assert node.get("additionalProperties") is not False, path
        assert "anyOf" not in node or node.get("x-kubernetes-int-or-string"), path
        assert node.get("type") != "null", path


def test_kubectl_explain_says_something_of_every_field() -> None:
    silent = [path for path, node in nodes(SCHEMA) if not node.get("description") and not path.endswith("[*]")]
    assert silent == [".metadata"]


def test_every_list_says_how_it_merges() -> None:
    for path, node in nodes(SCHEMA):
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in {"atomic", "map"}, path
            for key in node.get("x-kubernetes-list-map-keys", []):
                assert key in node["items"]["required"], path


def test_every_rule_is_in_the_schema_at_each_of_its_paths() -> None:
    for rule in RULES:
        for path in rule.paths:
            rendered = node_at(SCHEMA, path).get("x-kubernetes-validations", [])
            assert (rule.message in {each["message"] for each in rendered}) is (rule.cel is not None), rule.id


def test_rules_without_an_expression_are_exactly_the_lists_that_are_maps() -> None:
    without = sorted(path for rule in RULES if rule.cel is None for path in rule.paths)
    maps = [path for path, node in nodes(SCHEMA["properties"]["spec"], "spec") if "x-kubernetes-list-map-keys" in node]
    assert without == sorted(maps)


def test_no_image_profile_or_source_of_load_figures_is_filled_in() -> None:
    filled = {path for path, node in nodes(SCHEMA) if "default" in node}
    assert not {
        path for path in filled if path.rpartition(".")[2] in {"image", "profile", "load", "interferencePercent"}
    }
    assert {path for path in filled if path.startswith(".status")} == {".status"}


def test_nobody_takes_a_fresh_resource_for_a_ready_one() -> None:
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


@given(services())
@settings(deadline=None, max_examples=50)
def test_a_random_valid_service_is_stored_whole_and_means_the_same_with_what_is_filled_in(data: Data) -> None:
    schema = node_at(SCHEMA, "spec")
    assert pruned(data["spec"], schema) == data["spec"]
    assert parsed(data | {"spec": defaulted(data["spec"], schema)}) == parsed(data)
