"""The JSON Schema (draft 2020-12) of a cycle file, made from the types that read it, for editors."""

from typing import Any

import msgspec

from protocol.definition import KINDS, Connector, Settings


def json_schema() -> dict[str, Any]:
    """The schema of a cycle file."""
    kinds = tuple(KINDS.values())
    references, components = msgspec.json.schema_components(
        (*kinds, Connector, Settings), ref_template="#/$defs/{name}"
    )
    *steps, connector, settings = references
    name = {"type": "string", "pattern": "^[a-z_][a-z0-9_]*$", "maxLength": 64}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cyclewright cycle",
        "type": "object",
        "required": ["cycle", "steps"],
        "additionalProperties": False,
        "properties": {
            "cycle": name,
            "description": {"type": "string"},
            "connectors": {"type": "object", "propertyNames": name, "additionalProperties": connector},
            "variables": {"type": "object"},
            "settings": settings,
            "steps": {
                "type": "object",
                "minProperties": 2,
                "propertyNames": name,
                "additionalProperties": {"oneOf": steps},
            },
        },
        "$defs": components,
    }
