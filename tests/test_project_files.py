"""pyproject.toml, CITATION.cff, constraints.txt, the Makefile and the hooks say the same about the project."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import distmgcd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [line.strip().replace("$(VENV)", ".venv") for line in found[1].splitlines()]


def test_citation_and_pyproject_name_the_same_software():
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"]
    assert citation["title"] == PROJECT["name"] and citation["abstract"] == PROJECT["description"]
    assert citation["version"] == distmgcd.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_citation_names_the_paper():
    (paper,) = read_yaml("CITATION.cff")["references"]
    assert paper["title"] == "Learning Generative ConvNets via Multi-grid Modeling and Sampling"
    assert [author["family-names"] for author in paper["authors"]] == ["Gao", "Lu", "Zhou", "Zhu", "Wu"]
    assert (paper["type"], paper["year"]) == ("conference-paper", 2018)
    assert paper["url"] in (ROOT / "README.md").read_text()


def test_the_licence_file_is_the_licence_that_pyproject_names():
    (file,) = PROJECT["license-files"]
    text = (ROOT / file).read_text()
    assert PROJECT["license"] == "Apache-2.0" and "Apache License\n" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_oldest_python_that_is_allowed_is_the_first_that_is_named():
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", text)]
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_ray_is_bounded_by_the_minor_version_after_the_one_known_to_work():
    (known,) = re.findall(r"^ray==(\d+)\.(\d+)\.", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (wanted,) = [text for text in PROJECT["dependencies"] if text.startswith("ray[")]
    assert wanted.endswith(f",<{known[0]}.{int(known[1]) + 1}")


def test_the_hooks_run_the_commands_of_make_lint():
    (repo,) = read_yaml(".pre-commit-config.yaml")["repos"]
    hooks = {hook["entry"]: hook for hook in repo["hooks"]}
    assert repo["repo"] == "local" and all(hook["language"] == "system" for hook in hooks.values())
    assert recipe("lint") and set(recipe("lint")) == set(hooks)


def test_a_type_checker_of_a_user_finds_the_marker():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["distmgcd"]
    assert "py.typed" in patterns and (Path(distmgcd.__file__).parent / "py.typed").exists()
