"""Every mistake in a config is one sentence that names the setting, the value, the rule and the way out."""

import math
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from tiny_runs import tiny_config

from distmgcd.config import PAPER_LAYERS, Config, load_config, make_config, preset_names, setting_paths, to_yaml
from distmgcd.config.kinds import type_of
from distmgcd.config.paths import annotation_of
from distmgcd.core.execution.warn_once import warn_once
from distmgcd.errors import UserError
from distmgcd.models.assemble import make_langevin, make_sampling_langevin

MINIMAL = {"data": {"path": "sklearn:digits", "channels": 1}, "grids": {"sizes": [2, 8]}}


def sentence(*changes: str, source: str = "digits") -> str:
    """The one sentence of the error that these changes cause."""
    with pytest.raises(UserError) as caught:
        load_config(source, changes)
    text = str(caught.value)
    assert "\n" not in text and "validation error" not in text and "Input" not in text and "Traceback" not in text
    return text


def file_with(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text)
    return str(path)


# Unknown names


def test_an_unknown_key_on_the_command_line_is_met_with_a_suggestion():
    text = sentence("langevin.num_stps=3")
    assert "langevin.num_stps" in text and "did you mean 'langevin.num_steps'?" in text and "langevin.clamp" in text


def test_an_unknown_key_in_a_file_is_met_with_the_same_sentence_and_its_line(tmp_path: Path):
    file = file_with(tmp_path, yaml.safe_dump(MINIMAL | {"langevin": {"num_stps": 3}}))
    assert sentence(source=file) == f"{file}, line 9: {sentence('langevin.num_stps=3')}"


def test_an_unknown_section_names_the_sections():
    assert "the sections are data, grids, network" in sentence("foo.bar=1")


def test_a_whole_section_cannot_be_given_as_a_change():
    assert "did you mean 'grids.sizes'?" in sentence("grids=[2,4]")


def test_an_unknown_preset_is_met_with_a_suggestion():
    text = sentence(source="digitz")
    assert "'digitz'" in text and "did you mean 'digits'?" in text and ".yaml" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds nothing"),
        ("[1, 2]", "holds [1, 2]"),
        ("grids: [", "not valid YAML"),
        ("seed: 2024-99-99", "not valid YAML"),
        ("grids: 5", "grids must hold settings, but is 5; it has grids.sizes"),
        ("grids: {sizes: [2, 4]}", "data is missing; add it to the file, or give data.path=VALUE"),
        ("data: {path: x}\ngrids: {sizes: [2, 4]}", "data.channels is missing"),
    ],
    ids=["empty", "list", "broken", "no date", "no section", "no data", "no channels"],
)
def test_a_file_that_is_no_config_is_told_why(tmp_path: Path, content: str, words: str):
    assert words in sentence(source=file_with(tmp_path, content))


def test_a_file_that_is_absent_or_no_text_is_told_by_name(tmp_path: Path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert "run.yaml" in sentence(source=str(tmp_path / "run.yaml"))
    assert "does not exist" in sentence(source=str(tmp_path / "absent.yaml"))


def test_a_change_of_a_section_that_the_file_leaves_empty_is_told_apart(tmp_path: Path):
    file = file_with(tmp_path, "data:\ngrids: {sizes: [2, 4]}")
    assert "data must hold settings" in sentence("data.channels=1", source=file)


# Wrong values: the setting, the value, the rule


@pytest.mark.parametrize(
    ("change", "value", "rule"),
    [
        ("langevin.num_steps=0", "0", "a whole number from 1 up, or a list of these"),
        ("langevin.num_steps=1.5", "1.5", "a whole number from 1 up"),
        ("langevin.num_steps=[1,two,3]", "[1, 'two', 3]", "a whole number from 1 up"),
        ("langevin.num_steps=", "None", "a whole number from 1 up"),
        ("langevin.step_size=.inf", "inf", "a number above 0"),
        ("langevin.step_size=.nan", "nan", "a number above 0"),
        ("langevin.reference_sigma=-1", "-1", "a number above 0 or .inf"),
        ("langevin.temperature=-1", "-1", "a number from 0 up"),
        ("langevin.clamp=maybe", "'maybe'", "one of none, end, step"),
        ("learning.learning_rate=fast", "'fast'", "a number above 0"),
        ("learning.betas=[0.5]", "[0.5]", "a number from 0 up and below 1"),
        ("learning.betas=[0.5,1]", "[0.5, 1]", "a number from 0 up and below 1"),
        ("learning.ema=1.5", "1.5", "a fraction from 0 to 1"),
        ("network.channels=4", "4", "a list or a list of lists"),
        ("network.kernels=[[3],[x]]", "[[3], ['x']]", "a whole number from 1 up"),
        ("network.activation=rely", "'rely'", "leaky_relu"),
        ("network.kernels=4", "4", "odd"),
        ("network.channels=[]", "network.channels", "an entry for every layer"),
        ("data.flip=perhaps", "'perhaps'", "true or false"),
        ("data.path=", "''", "text that is not empty"),
        ("checkpoint.metric=fid", "'fid' (did you mean 'fd'?)", "one of swd"),
        ("data.channels=2", "2", "one of 1, 3"),
        ("data.image_size=big", "'big'", "a whole number from 1 up, or null"),
        ("data.image_size=16", "16", "must be the finest grid"),
        ("grids.sizes=8", "8", "a list"),
        ("grids.sizes=[4,x]", "[4, 'x']", "a whole number"),
        ("seed=-1", "-1", "from 0"),
        ("seed=true", "True", "a whole number from 0"),
        ("learning.num_updates=true", "True", "a whole number from 1 up"),
        ("langevin.num_steps=[true,2,2]", "[True, 2, 2]", "a whole number from 1 up"),
        ("data.noise=false", "False", "a number from 0 up"),
        ("learning.betas=[false,0.9]", "[False, 0.9]", "a number from 0 up and below 1"),
        ("data.channels=true", "True", "one of 1, 3"),
        ("watch.rate_after_retry=1", "1", "below 1"),
        ("evaluate.sizes=[3]", "3", "must divide the finest grid"),
    ],
)
def test_a_wrong_value_is_told_with_its_setting_its_rule_and_a_way_out(change: str, value: str, rule: str):
    text = sentence(change)
    assert change.partition("=")[0] in text and value in text and rule in text
    assert any(way in text for way in ("; its default is ", "; write ", "; try ", "; set ", "; leave "))


@pytest.mark.parametrize("change", ["grids.sizes", "[2,4]"])
def test_a_change_without_an_equals_sign_is_shown_how_to_read(change: str):
    assert "dotted.key=value" in sentence(change)


def test_a_value_that_is_no_yaml_is_shown_how_lists_are_written():
    assert "[4, 16, 64]" in sentence("grids.sizes=[4,8")


# Grids


@pytest.mark.parametrize("sizes", [[4, 10, 64], [8, 4], [4, 4, 8]], ids=str)
def test_sizes_must_each_divide_the_next(sizes: list[int]):
    text = sentence(f"grids.sizes={sizes}")
    assert "must each divide the next" in text and str(sizes) in text and "Example: [4, 16, 64]" in text


@pytest.mark.parametrize("sizes", [[1, 4, 16], []], ids=str)
def test_sizes_leave_out_the_1x1_start(sizes: list[int]):
    text = sentence(f"grids.sizes={sizes}")
    assert "1x1 start, which is implied" in text and str(sizes) in text


@pytest.mark.parametrize("sizes", [[4, 16, 64], [8, 32], [2, 4, 8, 16, 32], [7, 28]], ids=str)
def test_any_sizes_that_divide_one_another_are_taken(sizes: list[int]):
    assert tiny_config(f"grids.sizes={sizes}").image_size == sizes[-1]


# One value or one per grid


@pytest.mark.parametrize(
    ("path", "one", "each"),
    [
        ("langevin.num_steps", 7, [7, 9]),
        ("langevin.step_size", 0.1, [0.1, 0.2]),
        ("langevin.temperature", 1e-4, [1e-4, 0.0]),
        ("langevin.clamp", "step", ["none", "end"]),
        ("langevin.reference_sigma", 2.0, [2.0, math.inf]),
        ("learning.learning_rate", 1e-3, [1e-3, 2e-3]),
    ],
)
def test_one_value_serves_every_grid_and_a_list_gives_each_its_own(path: str, one: object, each: list):
    assert tiny_config(f"{path}={yaml.safe_dump(one).splitlines()[0]}").per_grid(path) == [one, one]
    assert tiny_config(f"{path}={yaml.safe_dump(each, default_flow_style=True)}").per_grid(path) == each


@pytest.mark.parametrize("path", ["langevin.num_steps", "langevin.step_size", "learning.learning_rate"])
def test_a_list_of_another_length_than_the_grids_names_both(path: str):
    assert sentence(f"{path}=[1,2]").startswith(
        f"{path} must be one value or one per grid, but has 2 values for 3 grids"
    )


# Networks


def test_one_list_of_channels_serves_every_grid_and_one_kernel_every_layer():
    network = tiny_config("network.channels=[8,16]", "network.kernels=5", "network.strides=1").network
    assert network.layers([2, 8]) == [((5, 1, 8), (5, 1, 16))] * 2


def test_a_list_is_one_value_a_layer():
    network = tiny_config("network.channels=[8,16]", "network.kernels=[5,3]", "network.strides=[2,1]").network
    assert network.layers([2, 8]) == [((5, 2, 8), (3, 1, 16))] * 2


def test_a_list_of_lists_is_one_list_a_grid():
    changes = ("network.channels=[[8],[16,32]]", "network.kernels=[[3],[5,1]]", "network.strides=[[1],[2,1]]")
    assert tiny_config(*changes).network.layers([2, 8]) == [((3, 1, 8),), ((5, 2, 16), (1, 1, 32))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["network.channels=[[4],[4],[4],[4]]"], "4 lists for 3 grids"),
        (["network.channels=[4,4]", "network.kernels=[3,3,3]"], "network.kernels has 3 values for 2 layers"),
        (
            ["network.channels=[4]", "network.kernels=3", "network.strides=[]"],
            "network.strides has 0 values for 1 layer",
        ),
    ],
)
def test_lists_of_another_length_than_the_layers_or_grids_are_told(changes: list[str], words: str):
    assert words in sentence(*changes)


def test_the_paper_networks_are_the_authors_for_grids_4_16_and_64():
    network = tiny_config("network.kind=paper", "grids.sizes=[4,16,64]").network
    assert network.layers([4, 16, 64]) == [PAPER_LAYERS[4], PAPER_LAYERS[16], PAPER_LAYERS[64]]


def test_other_grids_have_no_paper_network():
    text = sentence("network.kind=paper", "grids.sizes=[4,8]")
    assert "4, 16 and 64" in text and "8" in text and "network.kind=convnet" in text


def test_plain_chains_have_every_precision_and_one_layout():
    text = sentence("speed.execution=plain", "speed.channels_last=true")
    assert "speed.channels_last is true" in text and "set speed.execution=traced" in text
    for change in ("channels_last=false", "channels_last=auto", "precision=bf16", "precision=tf32", "precision=fp32"):
        load_config("digits", ["speed.execution=plain", f"speed.{change}"])


def test_what_speed_takes_is_told():
    assert "speed.execution must be one of auto, plain, traced, compiled, captured" in sentence("speed.execution=fast")
    assert "speed.precision must be one of auto, fp32, bf16, tf32, but is 'fp16'" in sentence("speed.precision=fp16")
    assert "speed.channels_last must be auto, true or false, but is 'last'" in sentence("speed.channels_last=last")


@pytest.mark.parametrize(("ahead", "warned"), [(False, False), (True, True)])
@pytest.mark.parametrize(
    "written", ["{speed: {precision: fp32, ahead: %s}}", "{speed.ahead: %s, speed.precision: fp32}"]
)
def test_a_config_from_before_speed_ahead_was_removed_still_loads(
    written: str, ahead: bool, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    warn_once.cache_clear()
    file = tmp_path / "config.yaml"
    file.write_text("base: digits\n" + yaml.safe_dump(yaml.safe_load(written % str(ahead).lower())))
    assert load_config(str(file)) == load_config("digits", ["speed.precision=fp32"])
    assert [message.split(":")[0] for message in caplog.messages] == ["speed.ahead is gone"] * warned
    assert "it made no run faster and is gone" in sentence("speed.ahead=true")


@pytest.mark.parametrize("change", ["start.renewed=0.1", "start.fresh_updates=5"])
def test_only_persistent_chains_begin_anew(change: str):
    text = sentence("start.kind=data", change)
    assert f"{change.split('=')[0]} is about persistent chains" in text and "set start.kind=persistent" in text
    assert tiny_config("start.kind=persistent", change)


# Reading and writing


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "'0.001'"])
def test_a_number_may_be_written_as_people_write_it(text: str):
    assert tiny_config(f"learning.learning_rate={text}").learning.learning_rate == 0.001


def test_a_change_beats_the_file_and_the_last_change_the_first():
    assert tiny_config("langevin.num_steps=5", "langevin.num_steps=6").langevin.num_steps == 6
    assert tiny_config().langevin.num_steps == 2


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_its_printed_config_reads_back_equal(name: str, tmp_path: Path):
    config = load_config(name)
    assert load_config(file_with(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [
            "langevin.reference_sigma=[0.5,.inf]",
            "langevin.temperature=1e-17",
            "data.noise=0",
            "seed=9223372036854775807",
        ],
    ],
)
def test_a_config_survives_yaml_and_json(changes: list[str], tmp_path: Path):
    config = tiny_config(*changes)
    assert load_config(file_with(tmp_path, to_yaml(config))) == config
    assert make_config(config.model_dump(mode="json")) == config  # how it travels to Ray's workers


def test_the_printed_config_holds_every_setting():
    printed = yaml.safe_load(to_yaml(tiny_config()))
    paths = {f"{section}.{key}" for section, keys in printed.items() if isinstance(keys, dict) for key in keys}
    assert paths | {"seed"} == set(setting_paths())


def test_a_config_is_frozen():
    config = tiny_config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.langevin.num_steps = 1


def test_every_setting_has_one_path():
    paths = list(setting_paths())
    assert len(paths) == len(set(paths)) and "langevin.num_steps" in paths and "seed" in paths


@pytest.mark.parametrize("path", sorted(set(setting_paths()) - {"network.norm", "network.kind"}))
def test_every_setting_answers_nonsense_with_a_sentence(path: str):
    with pytest.raises(UserError) as caught:
        load_config("digits", settings={path: {"a": 1}})
    text = str(caught.value)
    assert text.startswith(f"{path} must be ") and "{'a': 1}" in text


NUMBERS = [path for path in setting_paths() if re.search("int|float", type_of(annotation_of(path)))]


@pytest.mark.parametrize("path", NUMBERS)
def test_no_setting_takes_true_for_a_number(path: str):
    assert "but is True" in sentence(f"{path}=true")


def test_defaults_are_within_their_own_rules():
    assert isinstance(make_config(MINIMAL), Config)


def test_falling_noise_falls_over_the_whole_climb_or_over_the_grids_that_ask_for_it():
    def cooling(*changes: str) -> list[tuple[float, float]]:
        return [settings.cooling for settings in make_langevin(tiny_config("langevin.num_steps=[3,2]", *changes))]

    assert cooling() == [(1.0, 1.0)] * 2
    assert cooling("langevin.noise=falling") == [(1.0, 0.5), (0.25, 0.0)]
    assert cooling("langevin.noise=[constant, falling]") == [(1.0, 1.0), (0.25, 0.0)]


def test_the_noise_of_samples_has_a_factor_of_its_own_at_the_finest_grid():
    config = tiny_config("langevin.temperature=[1.0,4.0]", "langevin.sample_noise=0.5")
    assert [settings.temperature for settings in make_langevin(config)] == [1.0, 4.0]
    assert [settings.temperature for settings in make_sampling_langevin(config)] == [1.0, 1.0]
