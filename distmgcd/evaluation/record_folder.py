"""Records in RUN/evaluation, or in another folder for results: written whole, and read again to go on with."""

import json
from typing import Any

from distmgcd.evaluation.record import FOLDER, is_same, writing_to
from distmgcd.runs import strict_json
from distmgcd.runs.store import Store


def write_record(store: Store, name: str, record: dict[str, Any]) -> str:
    """Returns its path. Raises UserError if the place cannot be written."""
    with writing_to(store, FOLDER):
        store.write(f"{FOLDER}/{name}", strict_json.dumps(record, indent=1).encode())
    return store.path(f"{FOLDER}/{name}")


def read_record(store: Store, name: str, *, identity: dict[str, Any]) -> dict[str, Any] | None:
    """An earlier record of the same identity; None if there is none, or no whole one."""
    try:
        found = strict_json.loads(store.read(f"{FOLDER}/{name}"))
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and is_same(found.get("identity"), json.loads(json.dumps(identity)))
    return found if same else None
