"""What fits on a cluster, as it is and as it may become."""

import pytest
from ray.core.generated import autoscaler_pb2

from distmgcd.on_ray import room
from distmgcd.on_ray.room import num_once_grown, num_that_fit

NODES = [{"memory": 1.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 16.0}]


@pytest.mark.parametrize(
    ("each", "expected"),
    [({"CPU": 1}, 27), ({"CPU": 2}, 4 + 1 + 8), ({"CPU": 1, "GPU": 1}, 2 + 3), ({"CPU": 17}, 0), ({"GPU": 0.5}, 4 + 8)],
)
def test_each_worker_lies_on_one_node(each: dict[str, float], expected: int):
    assert num_that_fit(each, NODES) == expected


def groups(*found: tuple[dict[str, int], int]) -> autoscaler_pb2.ClusterConfig:
    config = autoscaler_pb2.ClusterConfig()
    for resources, most in found:
        config.node_group_configs.add(resources=resources, max_count=most)
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
    monkeypatch.setattr(room.state, "get_cluster_config", lambda: config)
    monkeypatch.setattr(room, "_has_autoscaler", lambda: has_autoscaler)
    assert num_once_grown({"CPU": 1, "GPU": 1}) == expected
