"""HPE's OpenAPI document as a judge of requests and answers.

Nearly every property is optional there and others are allowed, so a schema check alone would pass anything: what we
send may hold no property that the document does not know, and what we read must be in its schema.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonschema

Json = dict[str, Any]
DEFAULT = Path(__file__).resolve().parents[4] / "shared/reference/vme-openapi.json"


def document_path() -> Path:
    return Path(os.environ.get("VME_OPENAPI") or DEFAULT)


class Document:
    def __init__(self, path: Path) -> None:
        # The branches of the document's oneOf do not exclude each other (all their properties are optional), so
        # that good answers, its own examples among them, match two of them.
        self.root: Json = json.loads(path.read_text().replace('"oneOf":', '"anyOf":'))

    @cached_property
    def paths(self) -> dict[str, Json]:
        found: dict[str, Json] = self.root["paths"]
        return found

    def operation(self, method: str, path: str) -> tuple[str, Json] | None:
        """The path's template and the operation; a literal path goes before one with parameters."""
        candidates = sorted(self.paths, key=lambda template: template.count("{"))
        for template in candidates:
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            if re.fullmatch(pattern, path) and method.lower() in self.paths[template]:
                return template, self.paths[template][method.lower()]
        return None

    def parameters(self, template: str, operation: Json) -> set[str]:
        declared = [*self.paths[template].get("parameters", []), *operation.get("parameters", [])]
        return {one["name"] for one in map(self.resolve, declared) if one["in"] == "query"}

    def resolve(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target: Any = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def request_schema(self, operation: Json, kind: str = "application/json") -> Json | None:
        body = self.resolve(operation.get("requestBody"))
        return self.resolve(body["content"][kind]["schema"]) if body and kind in body["content"] else None

    def answer_schema(self, operation: Json, status: int) -> Json | None:
        answers = operation["responses"]
        found = self.resolve(answers.get(str(status)) or answers.get(f"{status // 100}XX") or answers.get("default"))
        content = (found or {}).get("content", {}).get("application/json")
        return self.resolve(content["schema"]) if content and "schema" in content else None

    def examples(self, method: str, template: str) -> list[Json]:
        """The examples of an operation's good answer."""
        operation = self.paths[template][method]
        content = self.resolve(operation["responses"]["200"])["content"]["application/json"]
        examples = [self.resolve(one).get("value") for one in content.get("examples", {}).values()]
        return [one for one in examples if isinstance(one, dict)]

    # -- judging --------------------------------------------------------------------------------------------

    def invalid(self, schema: Json, value: Any) -> list[str]:
        """What is wrong with a value in words, [] if nothing."""
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "components": self.components}
        validator = jsonschema.Draft202012Validator(whole)
        return [
            f"{'/'.join(map(str, error.absolute_path))}: {error.message}"[:300]
            for error in validator.iter_errors(value)
        ]

    @cached_property
    def components(self) -> Json:
        found: Json = self.root["components"]
        return found

    def properties(self, schema: Any) -> dict[str, Any]:
        """Properties by name, over all branches of allOf, anyOf and oneOf."""
        schema = self.resolve(schema)
        if not isinstance(schema, dict):
            return {}
        found: dict[str, Any] = {}
        for branch in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(branch, []):
                for name, sub in self.properties(part).items():
                    found[name] = {"anyOf": [found[name], sub]} if name in found else sub
        for name, sub in schema.get("properties", {}).items():
            found[name] = {"anyOf": [found[name], sub]} if name in found else sub
        return found

    def item(self, schema: Any) -> Any:
        schema = self.resolve(schema)
        if not isinstance(schema, dict):
            return None
        if "items" in schema:
            return schema["items"]
        for branch in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(branch, []):
                if (found := self.item(part)) is not None:
                    return found
        return None

    def unknown(self, schema: Any, value: Any, at: str = "") -> list[str]:
        """Properties of a value, recursively, that the schema does not know."""
        if isinstance(value, list):
            item = self.item(schema)
            return [] if item is None else [name for one in value for name in self.unknown(item, one, f"{at}[]")]
        if not isinstance(value, dict):
            return []
        known = self.properties(schema)
        found = []
        for name, sub in value.items():
            place = f"{at}.{name}" if at else name
            found += self.unknown(known[name], sub, place) if name in known else [place]
        return found

    def knows(self, schema: Any, dotted: str) -> bool:
        """Whether a schema has a property like `instance.containerDetails[].server.id`."""
        for part in dotted.split("."):
            name = part.removesuffix("[]")
            known = self.properties(schema)
            if name not in known:
                return False
            schema = self.item(known[name]) if part.endswith("[]") else known[name]
        return True


@cache
def load() -> Document:
    return Document(document_path())


def present(value: Any, dotted: str) -> bool:
    """Whether a value has it; in a list, every item."""
    head, _, rest = dotted.partition(".")
    name = head.removesuffix("[]")
    if not isinstance(value, dict) or name not in value:
        return False
    inner = value[name]
    if head.endswith("[]"):
        return isinstance(inner, list) and bool(inner) and (not rest or all(present(one, rest) for one in inner))
    return not rest or present(inner, rest)
