"""Files of Ray's cluster launcher, against the schema that Ray ships and by Ray's own reading of them."""

import copy
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
from manifests import LAUNCHER_FILES, ROOT, load, scalars
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
NAMES = [file.stem for file in LAUNCHER_FILES]
PLACEHOLDER = r"\b[A-Z]+(?:_[A-Z1-9]+)*\b"


def prepared(config: dict) -> dict:
    """With Ray's defaults filled in; Ray writes into what it is given."""
    return prepare_config(copy.deepcopy(config))


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=NAMES)
def test_ray_knows_every_field_of_a_launcher_file(file):
    config = load(file)
    if config["provider"]["type"] == "local":  # whose node type and count Ray moves to where its schema has them
        config = prepared(config)
    jsonschema.validate(config, SCHEMA)
    validate_config(prepared(load(file)))


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=NAMES)
@pytest.mark.parametrize("field", ["max_workers", "idle_timeout_minutes", "head_start_ray_commands", "rsync_exclude"])
def test_a_misspelt_field_is_refused(file, field):
    config = load(file)
    config[field + "s"] = config.pop(field)
    with pytest.raises(jsonschema.ValidationError, match=field + "s"):
        validate_config(prepared(config))


@pytest.mark.parametrize("file", LAUNCHER_FILES[:2], ids=NAMES[:2])
def test_a_misspelt_field_of_a_node_type_is_refused(file):
    config = load(file)
    config["available_node_types"]["gpu"]["min_worker"] = 2
    with pytest.raises(jsonschema.ValidationError, match="min_worker"):
        validate_config(prepared(config))


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=NAMES)
def test_ray_start_is_called_with_options_it_has_a_token_and_a_dashboard_on_the_loopback(file):
    config = load(file)
    for which in ("head", "worker"):
        stop, start = config[f"{which}_start_ray_commands"]
        assert stop.endswith("ray stop") and "RAY_AUTH_MODE=token" in start
        words = shlex.split(start.split(";")[-1])
        given = cli.commands["start"].make_context("start", words[2:]).params
        if which == "head":
            assert given["head"] and given["dashboard_host"] == "127.0.0.1" and given["autoscaling_config"]


@pytest.mark.parametrize("file", LAUNCHER_FILES[:2], ids=NAMES[:2])
def test_in_the_cloud_workers_are_spot_machines_in_an_elastic_range_and_the_head_is_not(file):
    types = load(file)["available_node_types"]
    spot = {
        "aws": lambda node: node.get("InstanceMarketOptions") == {"MarketType": "spot"},
        "gcp": lambda node: node.get("scheduling", {}).get("provisioningModel") == "SPOT",
    }[file.stem]
    assert spot(types["gpu"]["node_config"]) and not spot(types["head"]["node_config"])
    assert 0 < types["gpu"]["min_workers"] < types["gpu"]["max_workers"] == load(file)["max_workers"]
    assert types["head"]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=NAMES)
def test_what_nodes_are_sent_is_the_repository_and_the_token(file):
    mounts = load(file)["file_mounts"]
    assert sorted(mounts.values()) == [".", "~/.ray/auth_token"]
    installed = " ".join(load(file)["setup_commands"])
    assert "/distmgcd/constraints.txt" in installed and (ROOT / "constraints.txt").exists()


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=NAMES)
def test_what_is_to_be_filled_in_stands_in_capitals_and_the_head_of_the_file_says_so(file):
    text = file.read_text()
    assert "written in capitals below" in re.sub(r"\n# +", " ", text)
    config = load(file)
    for section in ("provider", "auth"):
        assert all(value != "" for _, value in scalars(config[section]))
    found = {value for _, value in scalars(config) if isinstance(value, str) and re.fullmatch(PLACEHOLDER, value)}
    assert len(found - {"PERSISTENT", "SPOT", "TERMINATE"}) >= 4
