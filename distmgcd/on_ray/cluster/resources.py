"""Whether a cluster can do a run: has room for its workers (or is waited for), and nodes that read and write."""

import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distmgcd.errors import UserError
from distmgcd.on_ray.internals import cluster_state, get_cluster_status
from distmgcd.runs.store import Store
from distmgcd.workers.stop import Stopped

_SECONDS_TO_FIRST_LINE = 10.0
_SECONDS_BETWEEN_LINES = 60.0
_LOOK_EVERY = 0.5

Resources = dict[str, float]  # CPU, GPU
Show = Callable[[dict[str, Any]], None]


def wait_for_room(
    num_workers: int,
    each: Resources,
    *,
    even_if_never: bool,
    patience: float = float("inf"),
    show: Show | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Return when so many workers fit beside what runs on the cluster; says once a minute what it waits for.

    An autoscaler, where there is one, is asked for nodes meanwhile, as Ray asks it for a placement group that waits.
    even_if_never: wait for nodes that somebody may start, too (--wait-for-resources). patience: seconds to wait where
    nothing adds nodes, for what runs there to end.
    Raises UserError if the cluster can never hold them or patience is over, and Stopped if stop says so.
    """
    fixed = not even_if_never and num_once_grown(each) < num_workers
    if fixed and num_that_fit(each, _nodes()) < num_workers:
        raise UserError(
            f"{_in_words(num_workers, each)} can never start: {_what_is_there(each)}, and nothing adds nodes to it; "
            f"lower --workers, or {_ways_to_grow(each, num_workers, own=patience < float('inf'))}."
        )
    group = placement_group([each] * num_workers, strategy="PACK")
    try:
        next_line, end = time.monotonic() + _SECONDS_TO_FIRST_LINE, time.monotonic() + patience
        while not group.wait(_LOOK_EVERY):
            if stop():
                raise Stopped(None)
            if fixed and time.monotonic() > end:
                raise UserError(
                    f"There is no room for {_in_words(num_workers, each)} beside what else runs: "
                    f"{_what_is_there(each)}; end that (an actor that is not needed: ray.kill), lower --workers, or "
                    "give --wait-for-resources to wait for it."
                )
            if show is not None and time.monotonic() > next_line:
                next_line += _SECONDS_BETWEEN_LINES
                show({"event": f"Waiting for room for {_in_words(num_workers, each)}: {_what_is_there(each)}."})
    finally:
        remove_placement_group(group)


def num_that_fit(each: Resources, nodes: Iterable[Resources]) -> int:
    """How many workers that many nodes hold when they are empty; each lies on one node."""
    return sum(min(int(node.get(what, 0) // amount) for what, amount in each.items()) for node in nodes)


def num_once_grown(each: Resources) -> float:
    """The same once an autoscaler has added all it may; 0 where there is none, infinite where it does not say."""
    config = cluster_state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    if groups:
        return sum(
            float("inf") if group.max_count < 0 else group.max_count * num_that_fit(each, [group.resources])
            for group in groups
            if num_that_fit(each, [group.resources])
        )
    return float("inf") if _has_autoscaler() else 0


def _has_autoscaler() -> bool:
    """Nodes that one has started bear the name of their type; Ray calls all others node_ and a number."""
    with suppress(Exception):  # an interface that is still being developed
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        nodes = [*status.active_nodes, *status.idle_nodes, *status.pending_nodes]
        return any(not node.ray_node_type_name.startswith("node_") for node in nodes)
    return False


def _nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _what_is_there(each: Resources) -> str:
    nodes = [node for node in _nodes() if node.get("CPU", 0) > 0]
    total = " and ".join(_count(sum(node.get(what, 0) for node in nodes), what) for what in each)
    free = ray.available_resources()
    unused = " and ".join(f"{free.get(what, 0):g}" for what in each)
    fit = _count(num_that_fit(each, nodes), "such worker")
    return f"the cluster has {total} on {_count(len(nodes), 'node')} ({unused} free), room for {fit}"


def _ways_to_grow(each: Resources, num_workers: int, *, own: bool) -> str:
    """own: a Ray of this process, as of a notebook."""
    if not own:
        return "give --wait-for-resources to wait for nodes that will join"
    more = ", ".join(f"num_{what.lower()}s={amount * num_workers:g}" for what, amount in each.items())
    return f"start Ray with more: ray.shutdown(), then ray.init({more}) or no ray.init at all"


def _in_words(num_workers: int, each: Resources) -> str:
    of_each = " and ".join(_count(amount, what) for what, amount in each.items())
    return f"{_count(num_workers, 'worker')} with {of_each} each"


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


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
