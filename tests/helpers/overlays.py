"""What `kubectl kustomize` makes of an overlay: the part of kustomize that cluster/kuberay uses, and nothing else.

test_kuberay.py compares it with kustomize itself, where that is installed.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]


def build(folder: Path) -> list[Resource]:
    """The resources of an overlay, in no particular order."""
    return _apply(folder, [])


def _apply(folder: Path, resources: list[Resource]) -> list[Resource]:
    """Resources, then components, patches, images and replacements: kustomize's own order. Raises KeyError."""
    steps = yaml.safe_load((folder / "kustomization.yaml").read_text())
    resources = [*resources, *(found for name in steps.pop("resources", []) for found in _read(folder / name))]
    for name in steps.pop("components", []):
        resources = _apply(folder / name, resources)
    for patch in steps.pop("patches", []):
        resources = _patched(resources, patch)
    for image in steps.pop("images", []):
        for resource in resources:
            _rename_images(resource, image)
    for replacement in steps.pop("replacements", []):
        _replace(resources, replacement)
    if unknown := set(steps) - {"apiVersion", "kind"}:
        raise KeyError(f"{folder} uses {unknown} of kustomize, which this reader does not know")
    return resources


def _read(place: Path) -> list[Resource]:
    if place.is_dir():
        return build(place)
    return [document for document in yaml.safe_load_all(place.read_text()) if document]


def _patched(resources: list[Resource], patch: dict[str, Any]) -> list[Resource]:
    operations = yaml.safe_load(patch["patch"])
    if isinstance(operations, dict):
        if operations.get("$patch") != "delete":
            raise KeyError("of strategic merge patches this reader knows only $patch: delete")
        gone = (operations["kind"], operations["metadata"]["name"])
        return [one for one in resources if (one["kind"], one["metadata"]["name"]) != gone]
    chosen = [one for one in resources if one["kind"] == patch["target"]["kind"]]
    if not chosen:
        raise KeyError(f"there is no {patch['target']} to patch")
    for resource in chosen:
        for operation in operations:
            _operate(resource, operation)
    return resources


def _operate(resource: Resource, operation: dict[str, Any]) -> None:
    """One operation of RFC 6902."""
    *parents, last = operation["path"].strip("/").split("/")
    node: Any = resource
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if operation["op"] not in ("add", "replace"):
        raise KeyError(f"this reader knows no {operation['op']}")
    if operation["op"] == "replace" and last not in node:
        raise KeyError(f"{operation['path']} is not there to be replaced")
    node[last] = copy.deepcopy(operation["value"])


def _rename_images(node: Any, image: dict[str, str]) -> None:
    if isinstance(node, list):
        for item in node:
            _rename_images(item, image)
    elif isinstance(node, dict):
        for container in node.get("containers") or []:
            if container["image"].split(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
        for value in node.values():
            _rename_images(value, image)


def _replace(resources: list[Resource], replacement: dict[str, Any]) -> None:
    (source,) = (one for one in resources if one["kind"] == replacement["source"]["kind"])
    for target in replacement["targets"]:
        for resource in (one for one in resources if one["kind"] == target["select"]["kind"]):
            for path in target["fieldPaths"]:
                *parents, last = path.split(".")
                node: Any = resource
                for key in parents:
                    node = node[key]
                node[last] = copy.deepcopy(source[replacement["source"]["fieldPath"]])
