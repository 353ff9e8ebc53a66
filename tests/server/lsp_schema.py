"""JSON schemas made from LSP's official meta model: `python -m tests.server.lsp_schema` prints them.

They are stricter than the specification in one point: an object may have no property that the specification does not
name, as no client would read it.
"""

from __future__ import annotations

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

META_MODEL = Path(__file__).parents[2] / "fixtures" / "lsp" / "metaModel-3.18.json.gz"
Schema = dict[str, Any]

BASES: dict[str, Schema] = {
    "string": {"type": "string"},
    "RegExp": {"type": "string"},
    "URI": {"type": "string"},
    "DocumentUri": {"type": "string"},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "decimal": {"type": "number"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "uinteger": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
OPEN: dict[str, Schema] = {"LSPAny": {}, "LSPObject": {"type": "object"}, "LSPArray": {"type": "array"}}
PROGRESS = ("WorkDoneProgressBegin", "WorkDoneProgressReport", "WorkDoneProgressEnd")


class MetaModel:
    """The meta model, and the schemas of the types that it names."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.structures = {one["name"]: one for one in model["structures"]}
        self.requests = {one["method"]: one for one in model["requests"]}
        self.notifications = {one["method"]: one for one in model["notifications"]}
        self.definitions: dict[str, Schema] = {name: self.closed([{"name": name}]) for name in self.structures}
        self.definitions |= {one["name"]: _enumeration(one) for one in model["enumerations"]}
        self.definitions |= {one["name"]: self.schema(one["type"]) for one in model["typeAliases"]}
        self.definitions |= OPEN
        # The meta model allows any value of a progress, the specification does not.
        values = [{"$ref": f"#/$defs/{name}"} for name in PROGRESS]
        self.definitions["ProgressParams"]["properties"]["value"] = {"anyOf": values}

    def schema(self, kind: dict[str, Any]) -> Schema:
        """The schema of one of the meta model's types."""
        match kind["kind"]:
            case "base":
                return BASES[kind["name"]]
            case "reference":
                return {"$ref": f"#/$defs/{kind['name']}"}
            case "array":
                return {"type": "array", "items": self.schema(kind["element"])}
            case "map":
                return {"type": "object", "additionalProperties": self.schema(kind["value"])}
            case "or":
                return {"anyOf": [self.schema(item) for item in kind["items"]]}
            case "and":
                return self.closed(kind["items"])
            case "tuple":
                items = [self.schema(item) for item in kind["items"]]
                return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
            case "literal":
                return self._object(kind["value"]["properties"])
            case "stringLiteral":
                return {"const": kind["value"]}
        raise ValueError(f"the meta model has a type of an unknown kind: {kind['kind']}")

    def closed(self, structures: list[dict[str, Any]]) -> Schema:
        """An object with all properties of these structures, inherited ones too, and no others."""
        return self._object([one for structure in structures for one in self._properties(structure["name"])])

    def _properties(self, name: str) -> list[dict[str, Any]]:
        structure = self.structures[name]
        parents = [*structure.get("extends", ()), *structure.get("mixins", ())]
        inherited = [one for parent in parents for one in self._properties(parent["name"])]
        return [*inherited, *structure["properties"]]

    def _object(self, properties: list[dict[str, Any]]) -> Schema:
        # A structure may narrow a property that it inherits: the last one counts.
        latest = {one["name"]: one for one in properties}
        return {
            "type": "object",
            "properties": {name: self.schema(one["type"]) for name, one in latest.items()},
            "required": sorted(name for name, one in latest.items() if not one.get("optional")),
            "additionalProperties": False,
        }


def _enumeration(one: dict[str, Any]) -> Schema:
    base = BASES[one["type"]["name"]]
    return base if one.get("supportsCustomValues") else {"enum": [value["value"] for value in one["values"]]}


@cache
def meta_model() -> MetaModel:
    """The meta model of fixtures/."""
    return MetaModel(json.loads(gzip.decompress(META_MODEL.read_bytes())))


if __name__ == "__main__":
    json.dump({"$defs": meta_model().definitions}, sys.stdout, indent=1)
