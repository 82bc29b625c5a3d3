"""Metrics of a worker as Prometheus sees them, from a real Ray."""

import json
import subprocess
import sys
import textwrap

RECORD = {
    "update": 40,
    "num_updates": 100,
    "images_per_s": 600.0,
    "grids": {size: {"gap": 0.5, "drift": 0.25, "saturation": 0.125} for size in ("4", "16")},
}
CODE = """
    import json, sys, time, urllib.request
    import ray
    from distmgcd.on_ray.cluster.connect import connected
    from distmgcd.on_ray.cluster.metrics import RayMetrics
    from distmgcd.training.callbacks import RunStart

    record = json.loads(sys.argv[1])
    with connected(num_cpus=1, log_to_driver=False):
        for rank in (0, 1):
            metrics = RayMetrics("first")
            metrics.on_start(RunStart(None, "first", 0, rank, 2, (rank + 1) / 3))
            metrics.on_log(record)
        (node,) = ray.nodes()
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        lines, end = [], time.monotonic() + 60
        while len(lines) < 10 and time.monotonic() < end:
            time.sleep(0.5)
            text = urllib.request.urlopen(address).read().decode()
            lines = [line for line in text.splitlines() if line.startswith("ray_distmgcd_")]
    print(json.dumps(lines))
"""


def test_a_workers_metrics_reach_prometheus_with_run_rank_and_grid():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), json.dumps(RECORD)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in json.loads(done.stdout.splitlines()[-1]):
        name, _, labels = line.partition("{")
        labels, _, value = labels.rpartition("} ")
        tags = dict(tag.split("=", 1) for tag in labels.split(",") if "=" in tag)
        assert tags["run"] == '"first"'
        found[name.removeprefix("ray_distmgcd_"), tags["rank"].strip('"'), tags.get("grid", "").strip('"')] = float(
            value
        )
    of_grids = {
        (name, "0", size): value
        for size in ("4", "16")
        for name, value in (("energy_gap", 0.5), ("drift_rms", 0.25), ("saturation", 0.125))
    }
    of_ranks = {("images_per_second", "0", ""): 200.0, ("images_per_second", "1", ""): 400.0}
    assert found == of_grids | of_ranks | {("update", rank, ""): 40.0 for rank in "01"}
