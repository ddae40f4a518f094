"""The JSON Schema of plant.yaml says what the check says, and the copy in the documents is the one of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.config import template
from app.config.jsonschema import plant_schema

DOCUMENTED = Path(__file__).parents[3] / "docs" / "reference" / "plant.schema.json"
EXAMPLE = Path(__file__).parents[3] / "examples" / "plant.yaml"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema as the code makes it."""
    made = plant_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return made


def test_the_documented_schema_is_current(schema: dict[str, Any]) -> None:
    """`headrace schema` was run after the last change of a key."""
    assert json.loads(DOCUMENTED.read_text(encoding="utf-8")) == schema


@pytest.mark.parametrize(
    "text", [template.text(), EXAMPLE.read_text(encoding="utf-8"), "version: 1\n"], ids=["template", "example", "least"]
)
def test_files_that_pass_the_check_pass_the_schema(text: str, schema: dict[str, Any]) -> None:
    """An editor marks nothing that the command would take."""
    jsonschema.validate(yaml.safe_load(text), schema)


BROKEN = [
    "version: 2",
    "connections: []",
    "version: 1\nconnectons: []",
    "version: 1\nconnections: [{name: a, connector: opcua, options: {urll: x}}]",
    "version: 1\nconnections: [{name: a, connector: mqtt, options: {url: 'mqtt://h:1', password: plain}}]",
    "version: 1\npipelines: [{name: p, model: m, window: {length: 0}}]",
]


@pytest.mark.parametrize("text", BROKEN)
def test_an_editor_sees_the_mistakes(text: str, schema: dict[str, Any]) -> None:
    """A wrong key, in options too, and a plain password are marked while typing."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema)
