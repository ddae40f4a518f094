"""The JSON Schema of plant.yaml: our own keys, and each connector's options under its name."""

from __future__ import annotations

from typing import Any, Final

import connectors
from app.plant.schemas import PlantFile

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
SECRET: Final = {
    "description": "A reference; the secret itself never stands in the file.",
    "oneOf": [
        {
            "type": "object",
            "required": ["env"],
            "properties": {"env": {"type": "string"}},
            "additionalProperties": False,
        },
        {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string"}},
            "additionalProperties": False,
        },
    ],
}
REFERENCE: Final = {"$ref": "#/$defs/Reference"}


def _options(model: Any, definitions: dict[str, Any], name: str) -> dict[str, Any]:  # noqa: ANN401 - a pydantic class
    """A connector's options where each value may be a reference, and a secret must be one."""
    schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    definitions |= {f"{name}.{key}": value for key, value in schema.pop("$defs", {}).items()}
    for key, value in schema.get("properties", {}).items():
        secret = "password" in str(value.get("format", "")) or any(
            "password" in str(one.get("format", "")) for one in value.get("anyOf", ())
        )
        schema["properties"][key] = dict(REFERENCE) if secret else {"anyOf": [value, REFERENCE]}
    return schema


def plant_schema() -> dict[str, Any]:
    """The whole schema, made from the classes that check a file, so that both say the same."""
    schema: dict[str, Any] = PlantFile.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    definitions["Reference"] = SECRET
    for entry, which in (("ConnectionEntry", "Options"), ("NorthboundEntry", "SinkOptions")):
        rules = []
        for name in connectors.names():
            model = getattr(connectors.load(name), which, None)
            if model is None:
                continue
            key = f"{name}.{which}"
            definitions[key] = _options(model, definitions, key)
            condition = {"properties": {"connector": {"const": name}}, "required": ["connector"]}
            rules.append({"if": condition, "then": {"properties": {"options": {"$ref": f"#/$defs/{key}"}}}})
        definitions[entry]["allOf"] = rules
    return {"$schema": DRAFT, "title": "Headrace plant.yaml", **schema}
