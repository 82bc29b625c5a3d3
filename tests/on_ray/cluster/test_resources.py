"""What fits on a cluster, as it is and as it may become."""

from types import SimpleNamespace

import pytest
from ray.core.generated import autoscaler_pb2

from distmgcd.errors import UserError
from distmgcd.on_ray.cluster import resources
from distmgcd.on_ray.cluster.resources import num_once_grown, num_that_fit, wait_for_room
from distmgcd.workers.stop import Stopped

NODES = [{"memory": 1.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 16.0}]


@pytest.mark.parametrize(
    ("each", "expected"),
    [({"CPU": 1}, 27), ({"CPU": 2}, 4 + 1 + 8), ({"CPU": 1, "GPU": 1}, 2 + 3), ({"CPU": 17}, 0), ({"GPU": 0.5}, 4 + 8)],
)
def test_each_worker_lies_on_one_node(each: dict[str, float], expected: int):
    assert num_that_fit(each, NODES) == expected


def groups(*found: tuple[dict[str, int], int]) -> autoscaler_pb2.ClusterConfig:
    config = autoscaler_pb2.ClusterConfig()
    for each, most in found:
        config.node_group_configs.add(resources=each, max_count=most)
    return config


@pytest.mark.parametrize(
    ("config", "has_autoscaler", "expected"),
    [
        (groups(({"CPU": 8, "GPU": 4}, 3), ({"CPU": 64}, 10)), True, 12),
        (groups(({"CPU": 8, "GPU": 4}, -1)), True, float("inf")),
        (groups(({"CPU": 8}, -1)), True, 0),
        (None, True, float("inf")),
        (None, False, 0),
    ],
)
def test_what_an_autoscaler_may_add_counts(monkeypatch: pytest.MonkeyPatch, config, has_autoscaler: bool, expected):
    monkeypatch.setattr(resources.cluster_state, "get_cluster_config", lambda: config)
    monkeypatch.setattr(resources, "_has_autoscaler", lambda: has_autoscaler)
    assert num_once_grown({"CPU": 1, "GPU": 1}) == expected


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One node with one CPU, which something else uses, and nobody who adds nodes."""
    group = SimpleNamespace(wait=lambda seconds: False)
    monkeypatch.setattr(resources, "_nodes", lambda: [{"CPU": 1.0}])
    monkeypatch.setattr(resources, "num_once_grown", lambda each: 0)
    monkeypatch.setattr(resources, "placement_group", lambda *_, **__: group)
    monkeypatch.setattr(resources, "remove_placement_group", lambda _: None)
    monkeypatch.setattr(resources.ray, "available_resources", lambda: {})


@pytest.mark.parametrize(
    ("patience", "said"), [(float("inf"), "give --wait-for-resources"), (10.0, r"ray\.init\(num_cpus=2\)")]
)
def test_workers_that_never_fit_are_told_at_once(one_cpu, patience: float, said: str):
    with pytest.raises(
        UserError, match=f"2 workers with 1 CPU each can never start: the cluster has 1 CPU on 1 node.*{said}"
    ):
        wait_for_room(2, {"CPU": 1}, even_if_never=False, patience=patience)


def test_in_ones_own_ray_what_holds_the_room_is_not_waited_for_for_ever(one_cpu):
    with pytest.raises(UserError, match="no room for 1 worker with 1 CPU each beside what else runs.*0 free"):
        wait_for_room(1, {"CPU": 1}, even_if_never=False, patience=0.0)


def test_who_asks_to_wait_does_wait(one_cpu):
    looks = iter((False, False, True))
    with pytest.raises(Stopped):
        wait_for_room(1, {"CPU": 1}, even_if_never=True, patience=0.0, stop=lambda: next(looks))
