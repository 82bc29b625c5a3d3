"""Names that users bring from elsewhere, values that are text, and what `config --explain` says of every setting."""

import re
from pathlib import Path

import pytest
import yaml

from distmgcd.config import load_config, setting_paths, to_yaml
from distmgcd.config.explain import explain, meaning_of
from distmgcd.config.paths import _NO_SETTING, _USUAL, meant_by, sections, suggest_setting
from distmgcd.errors import UserError


def refused(*changes: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config("digits", changes)
    return str(caught.value)


# Suggestions


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("learning.lr", "learning.learning_rate"),
        ("lr", "learning.learning_rate"),
        ("learning.batch_size", "learning.global_batch_size"),
        ("batch-size", "learning.global_batch_size"),
        ("learning.steps", "learning.num_updates"),
        ("langevin.steps", "langevin.num_steps"),
        ("epochs", "learning.num_updates"),
        ("training.num_updates", "learning.num_updates"),
        ("eval.every", "evaluate.every"),
        ("langevin.stepsize", "langevin.step_size"),
        ("checkpoint.evry", "checkpoint.every"),
        ("langevin", None),  # a whole section: none of its settings is nearer than another
        ("grids", "grids.sizes"),
        ("foo.bar", None),
    ],
)
def test_a_wrong_name_is_met_with_the_setting_that_was_meant(wrong: str, meant: str | None):
    assert meant_by(wrong) == meant
    assert (f"did you mean {meant!r}?" in refused(f"{wrong}=1")) == (meant is not None)


def test_what_is_no_setting_here_is_said_with_what_there_is_instead():
    assert "(weights are not decayed)" in refused("learning.weight_decay=0.1")
    assert "(give --workers N)" in refused("num_workers=2")


def test_every_usual_name_leads_to_a_setting_and_is_none_itself():
    paths = set(setting_paths())
    keys = {path.rpartition(".")[2] for path in paths}
    assert set(_USUAL.values()) <= paths and not (_USUAL.keys() | _NO_SETTING.keys()) & (keys | paths)
    assert all(meant_by(name) == path for name, path in _USUAL.items())
    assert all("did you mean" not in suggest_setting(name) for name in _NO_SETTING)


# Text


@pytest.mark.parametrize(
    "text", ["/x/run #1/a.parquet", "a: b", "[1]", "'quoted'", "5", "true", " x ", "torchvision:A?root=b&c=1"]
)
@pytest.mark.parametrize("path", ["data.path", "data.split", "data.held_out", "evaluate.features"])
def test_the_value_of_a_text_setting_is_taken_as_it_is(path: str, text: str):
    config = load_config("digits", [f"{path}={text}"])
    section, key = path.split(".")
    assert getattr(getattr(config, section), key) == text
    assert yaml.safe_load(to_yaml(config))[section][key] == text


def test_null_still_leaves_out_a_text_that_may_be_left_out():
    assert load_config("digits", ["evaluate.features=random", "evaluate.features=null"]).evaluate.features is None


def test_an_unset_shell_variable_is_told():
    assert refused("data.path=").startswith("data.path must be text that is not empty, but is ''; write data.path=")


# Numbers


def test_a_number_is_to_the_base_10_and_what_only_old_yaml_takes_for_one_is_told(tmp_path: Path):
    assert load_config("digits", ["seed=010"]).seed == 10  # 8 in YAML 1.1
    assert load_config(write(tmp_path / "my.yaml", "base: digits\nseed: 010\n")).seed == 10
    assert "seed must be a whole number" in refused("seed=1:30") and "but is '1:30'" in refused("seed=1:30")
    config = load_config("digits", ["seed=1_000", "langevin.step_size=[0.5,+1,.5]"])
    assert config.seed == 1000 and config.langevin.step_size == (0.5, 1.0, 0.5)


# What a setting means


@pytest.mark.parametrize("path", sorted(setting_paths()))
def test_every_setting_says_what_it_means_what_it_takes_and_its_default(path: str):
    said = explain(path)
    assert said.splitlines()[0] == path
    assert re.findall(r"\n  (\w+) +\S", said) == ["meaning", "type", "rule", "default"] and len(said) > 100
    assert max(map(len, said.splitlines())) <= 100


def test_every_section_says_what_it_is_for_and_has_all_its_settings():
    for name, model in sections().items():
        said = explain(name)
        assert len(meaning_of(model)) > 10 and said.startswith(f"{name}: ")
        assert all(f"\n{path}\n" in said for path in setting_paths(model, f"{name}."))


def test_a_setting_is_explained_from_the_schema():
    said = explain("langevin.step_size", load_config("digits", ["langevin.step_size=[1,2,3]"]))
    assert "  type      float | list[float]\n  rule      a number above 0, or a list of these\n" in said
    assert said.endswith("  default   1.4142135623730951\n  here      [1.0, 2.0, 3.0]")
    assert "default   none, it must be given" in explain("data.channels")
    assert "type      str | null" in explain("evaluate.features")


def test_an_unknown_setting_is_explained_by_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'learning.learning_rate'"):
        explain("learning.lr")


# A file that changes another


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_file_changes_the_preset_that_it_names_as_its_base(tmp_path: Path):
    file = write(tmp_path / "my.yaml", "base: cifar10\nlearning: {num_updates: 300}\nlangevin.num_steps: 5\n")
    expected = load_config("cifar10", ["learning.num_updates=300", "langevin.num_steps=5"])
    assert load_config(file) == expected
    assert load_config(file, ["langevin.num_steps=6"]).langevin.num_steps == 6


def test_a_base_is_looked_for_beside_the_file_and_may_have_a_base_itself(tmp_path: Path, monkeypatch):
    write(tmp_path / "more" / "base.yaml", "base: digits\nseed: 1\nlearning: {ema: 0.5, warmup: 3}\n")
    file = write(tmp_path / "more" / "my.yaml", "base: base.yaml\nlearning: {ema: 0.7}\n")
    assert load_config(file) == load_config("digits", ["seed=1", "learning.ema=0.7", "learning.warmup=3"])
    write(tmp_path / "base.yaml", "base: digits\nseed: 2\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("more/my.yaml").seed == 1
    assert load_config(write(tmp_path / "other" / "my.yaml", "base: base.yaml\n")).seed == 2  # from here


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: cifar11\n", "my.yaml, base: There is no preset 'cifar11' (did you mean 'cifar10'?)"),
        ("base: gone.yaml\n", "my.yaml, base: The config file gone.yaml does not exist"),
        ("base: my.yaml\n", "A config file must not be its own base, but my.yaml -> my.yaml"),
        ("base: [digits]\n", "base must be a preset or a config file, but is ['digits']"),
        ("base:\n", "base must be a preset or a config file, but is None"),
        ("base: digits\nlearning:\n", "learning must hold settings, but is None"),
        ("base: digits\nlangevin: 3\n", "langevin must hold settings, but is 3"),
        ("base: digits\nlangevin: {num_steps: 3}\nlangevin.num_steps: 4\n", "langevin.num_steps stands there twice"),
        ("base: digits\nlearning.lr: 4\n", "did you mean 'learning.learning_rate'?"),
        (
            "base: digits\nseed: 1\nseed: 2\n",
            "my.yaml, line 3: 'seed' stands here for the second time (first in line 2); keep one",
        ),
        (
            "base: digits\nlearning: {ema: 0.5,\n  ema: 0.6}\n",
            "my.yaml, line 3: 'ema' stands here for the second time (first in line 2); keep one",
        ),
    ],
)
def test_a_mistake_about_a_base_is_one_sentence(tmp_path: Path, monkeypatch, text: str, said: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path / "my.yaml", text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("digits.yaml", "The config file digits.yaml does not exist; digits without an ending is the preset."),
        ("a_run", "a_run is the folder of a run; give a_run/config.yaml for a run with its config."),
        ("folder.yaml", "The config file folder.yaml is a folder; give a YAML file"),
    ],
)
def test_what_is_no_config_file_is_met_with_what_is(tmp_path: Path, monkeypatch, source: str, said: str):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a_run" / "config.yaml", "base: digits\n")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError) as caught:
        load_config(source)
    assert str(caught.value).startswith(said)


def test_files_that_are_each_others_base_are_told(tmp_path: Path):
    write(tmp_path / "a.yaml", "base: b.yaml\n")
    with pytest.raises(UserError, match=r"a\.yaml -> b\.yaml -> a\.yaml"):
        load_config(write(tmp_path / "b.yaml", "base: a.yaml\n").replace("b.yaml", "a.yaml"))
