"""The Grafana dashboard asks for metrics that there are. Nothing is drawn: there is no Grafana where tests run."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from manifests import CLUSTER

import distmgcd

# What a run exports through ray.util.metrics, which puts ray_ before it: name, labels.
EXPORTED = {
    "distmgcd_images_per_second": {"run", "rank"},
    "distmgcd_update": {"run", "rank"},
    "distmgcd_energy_gap": {"run", "rank", "grid"},
    "distmgcd_drift_rms": {"run", "rank", "grid"},
    "distmgcd_saturation": {"run", "rank", "grid"},
}
DASHBOARD = json.loads((CLUSTER / "grafana" / "distmgcd.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
FUNCTIONS = {"sum", "max", "by", "deriv", "label_values"}
LABELS_OF_RAY = {"ip", "GpuIndex"}


def metrics_of(query: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\bby \([^)]*\)', "", query)  # neither labels nor what they are compared with
    return set(re.findall(r"[a-z_]{3,}", bare)) - FUNCTIONS


def known_to_ray() -> set[str]:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    return {f"ray_{name}" for name in METRICS_GAUGES}


@pytest.mark.parametrize("query", [*QUERIES, *(one["definition"] for one in DASHBOARD["templating"]["list"][1:])])
def test_every_metric_that_is_asked_for_is_exported_by_a_run_or_by_ray(query):
    names = metrics_of(query) - {"run"}
    assert names and names <= {f"ray_{name}" for name in EXPORTED} | known_to_ray()


def test_every_metric_of_a_run_is_on_the_dashboard():
    assert {f"ray_{name}" for name in EXPORTED} <= set().union(*map(metrics_of, QUERIES))


def test_the_metrics_are_those_of_the_code():
    file = Path(distmgcd.__file__).parent / "on_ray" / "cluster" / "metrics.py"
    if not file.exists():
        pytest.skip("distmgcd/on_ray/cluster/metrics.py is not there yet")
    assert set(re.findall(r'"(distmgcd_\w+)"', file.read_text())) == set(EXPORTED)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_and_queries_use_labels_that_the_metrics_have(panel):
    for target in panel["targets"]:
        names = {name.removeprefix("ray_") for name in metrics_of(target["expr"])}
        labels = set.intersection(*(EXPORTED.get(name, LABELS_OF_RAY) for name in names))
        grouped = re.search(r"by \(([^)]*)\)", target["expr"])
        left = {label.strip() for label in grouped[1].split(",")} if grouped else labels
        matched = set(re.findall(r"(\w+)=~?\"", target["expr"]))
        assert left <= labels and matched <= labels
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_panels_have_numbers_of_their_own_lie_apart_and_take_the_chosen_prometheus():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
