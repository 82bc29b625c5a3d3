"""Schemas of Kubernetes' custom resources, made to refuse what they do not know."""

from typing import Any

_FREE = "x-kubernetes-preserve-unknown-fields"
_METADATA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, but with no properties beside those listed, and with the metadata that a CRD leaves out."""
    closed = _closed(schema)
    closed["properties"]["metadata"] = _METADATA
    closed["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return closed


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and not node.get(_FREE) and "additionalProperties" not in node:
        closed["additionalProperties"] = False
    return closed
