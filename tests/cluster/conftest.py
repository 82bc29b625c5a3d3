"""Where tests of the manifests find them, and the schemas to hold them against."""

import json
from functools import cache

import jsonschema
import pytest
from places import SHARED

SCHEMAS = SHARED / "schemas"


@pytest.fixture(scope="session")
def kuberay():
    """A strict validator of a kind such as RayJob, or a skip with the reason."""
    from strict_schema import strict

    @cache
    def find(kind: str) -> jsonschema.Draft202012Validator:
        file = SCHEMAS / f"ray.io_{kind.lower()}s.v1.openapi.json"
        if not file.exists():
            pytest.skip(f"KubeRay's schemas are absent: {file}")
        return jsonschema.Draft202012Validator(strict(json.loads(file.read_text())))

    return find
