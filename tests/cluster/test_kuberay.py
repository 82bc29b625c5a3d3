"""Every overlay, as it would reach Kubernetes, against KubeRay's schemas with every unknown field refused."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import OVERLAYS, ROOT, load
from overlays import build

NAMES = [folder.name for folder in OVERLAYS]
PODS = {"RayCluster": lambda spec: spec, "RayJob": lambda spec: spec["rayClusterSpec"]}


def ray_resource(overlay: Path) -> dict[str, Any]:
    (found,) = (resource for resource in build(overlay) if resource["apiVersion"] == "ray.io/v1")
    return found


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    return PODS[resource["kind"]](resource["spec"])


def pod_specs(resource: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(resource)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    submitter = resource["spec"].get("submitterPodTemplate")
    return [group["template"]["spec"] for group in groups] + ([submitter["spec"]] if submitter else [])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_an_overlay_is_one_job_or_cluster_that_kuberay_knows_every_field_of(overlay, kuberay):
    resource = ray_resource(overlay)
    assert [error.message for error in kuberay(resource["kind"]).iter_errors(resource)] == []
    assert resource["kind"] == ("RayCluster" if overlay.name.startswith("cluster") else "RayJob")


def test_any_misspelt_field_is_refused(kuberay):
    resource = ray_resource(ROOT / "cluster/kuberay/overlays/train-gpu")
    tried = list(misspelt(resource))
    passed = [path for path, changed in tried if kuberay("RayJob").is_valid(changed)]
    assert len(tried) > 100
    # Names of resources and of `ray start`'s options are the cluster's and Ray's to know.
    assert [path for path in passed if path[-2] not in ("limits", "requests", "rayStartParams")] == []


def misspelt(resource: dict[str, Any]) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """The resource again and again, each time with another key doubled in its last letter."""

    def paths(node: Any, path: tuple = ()) -> Iterator[tuple]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(node, dict):
                yield (*path, key)
            if isinstance(value, dict | list):
                yield from paths(value, (*path, key))

    for path in paths(resource):
        changed = copy.deepcopy(resource)
        parent: Any = changed
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1] + path[-1][-1]] = parent.pop(path[-1])
        yield ("", *path), changed


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_options_of_ray_start_are_those_of_the_installed_ray(overlay):
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    cluster = cluster_of(ray_resource(overlay))
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert {f"--{key}" for key in group["rayStartParams"]} <= known
    assert cluster["rayVersion"] == version("ray")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_pods_run_without_root_or_privileges_and_with_a_token(overlay):
    resource = ray_resource(overlay)
    for pod in pod_specs(resource):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    cluster = cluster_of(resource)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_ray_pods_share_the_volume_and_have_memory_for_the_object_store(overlay):
    claim = load(ROOT / "cluster/kuberay/base/storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pod_specs(ray_resource(overlay))[:2]:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["/shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_gpu_overlays_ask_for_gpus_with_the_gpu_image_and_cpu_overlays_for_neither(overlay):
    resource = ray_resource(overlay)
    gpu = overlay.name.endswith("gpu")
    _, worker, *_ = pod_specs(resource)
    assert ("nvidia.com/gpu" in worker["containers"][0]["resources"]["limits"]) == gpu
    images = {container["image"] for pod in pod_specs(resource) for container in pod["containers"]}
    assert images == {"distmgcd:gpu" if gpu else "distmgcd:cpu"}
    command = resource["spec"].get("entrypoint")
    assert command is None or f"--{'gpu' if gpu else 'cpu'}" in command.split()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_the_elastic_range_of_a_run_is_that_of_its_pods(overlay):
    resource = ray_resource(overlay)
    (group,) = cluster_of(resource)["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    words = resource["spec"].get("entrypoint", "").split()
    if "train" in words:
        assert words[words.index("--workers") + 1] == f"{group['minReplicas']}:{group['maxReplicas']}"
        cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        assert int(words[words.index("--cpus-per-worker") + 1]) == cpus  # one worker a pod
    elif "tune" in words:
        assert group["minReplicas"] == group["maxReplicas"]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=NAMES)
def test_kustomize_makes_the_same_of_an_overlay(overlay):
    if not (kustomize := shutil.which("kustomize")):
        pytest.skip("kustomize is not installed")
    done = subprocess.run([kustomize, "build", str(overlay)], capture_output=True, text=True, check=True)

    def by_kind(resources: list) -> dict[str, Any]:
        return {resource["kind"]: resource for resource in resources}

    assert by_kind(list(yaml.safe_load_all(done.stdout))) == by_kind(build(overlay))
