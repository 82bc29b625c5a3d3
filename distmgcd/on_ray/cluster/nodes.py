"""Whether every node of a cluster can do its part of a run: read the images, and write where the run is kept."""

import secrets

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distmgcd.errors import UserError
from distmgcd.runs.store import Store

_MARK = ".seen_by_"


def check_nodes(store: Store, data_path: str) -> None:
    """Raise UserError if a node that may hold workers cannot, and name it; before any worker starts."""
    mark = f"{_MARK}{secrets.token_hex(4)}"
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    try:
        store.write(mark, b"")
    except OSError as error:
        raise UserError(f"On the node of this command {_not_written(store.location, error)}") from None
    try:
        asked = {node["NodeID"]: _ask(node["NodeID"], store.location, mark, data_path) for node in nodes}
        for node in nodes:
            try:
                mistake = ray.get(asked[node["NodeID"]])
            except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):  # it has left meanwhile
                continue
            if mistake:
                raise UserError(f"On node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {mistake}")
    finally:
        store.delete(mark)


def _ask(node: str, location: str, mark: str, data_path: str) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return _mistake_here.options(scheduling_strategy=there).remote(location, mark, f"{mark}_{node[:8]}", data_path)


@ray.remote(num_cpus=0, max_retries=0)
def _mistake_here(location: str, mark: str, own_mark: str, data_path: str) -> str | None:
    """What this node cannot do, in a sentence."""
    from distmgcd.data.sources.open_source import open_source

    try:
        store = Store(location)
        if not store.exists(mark):
            return (
                f"--storage-path leads to another {location} than elsewhere; choose a folder that all nodes share, or "
                "a URI such as s3://BUCKET/PATH."
            )
        store.write(own_mark, b"")
        store.delete(own_mark)
    except OSError as error:
        return _not_written(location, error)
    except UserError as mistake:
        return str(mistake)
    try:
        open_source(data_path)
    except UserError as mistake:
        return str(mistake)
    return None


def _not_written(location: str, error: OSError) -> str:
    reason = error.strerror or error
    return f"the run {location} cannot be written ({reason}); choose a --storage-path that every node can write."
