"""What documents, comments and messages say: files that exist, and command lines that every shell reads alike."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from distmgcd.config import load_config
from distmgcd.errors import UserError

FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
READ = (".md", ".py", ".yaml", ".toml", ".sh", ".sbatch")

# What a run, a sweep, a comparison, Ray or a user makes.
MADE = {
    *(
        "config.yaml",
        "card.md",
        "data.json",
        "origin.json",
        "metrics.jsonl",
        "result.json",
        "samples.png",
        "pyramid.png",
        "state.json",
        "checksums.json",
    ),
    *("sweep.yaml", "trial.json", "best.yaml", "best_samples.png", "results.json", "table.md", "scores.json"),
    *("entry.json", "record.json", "sheet.png", "my_run.yaml", "replay.png", "replay.json", "page.png"),
    *("prom_metrics_service_discovery.json", "ray_bootstrap_config.yaml"),
}
PICTURE = re.compile(r"(train_|test_?)?\d\.png")  # of a user's data set, as examples have it
NAMED = re.compile(r"[\w.*/{}-]*\w\.(?:md|py|yaml|toml|sbatch|sh|png|css|js|json|jsonl)\b")


def lines() -> Iterator[tuple[Path, int, str]]:
    """Of everything a reader or a user sees; tests and the history make names up."""
    for file in FILES:
        of_tests = file.is_relative_to(ROOT / "tests")
        if file.suffix in READ and not of_tests and file.name != "CHANGELOG.md":
            for number, line in enumerate(file.read_text().splitlines(), start=1):
                yield file.relative_to(ROOT), number, line


def is_there(name: str, beside: Path) -> bool:
    """Whether a file of the repository is named so, from its root, from beside, or by the end of its path."""
    last = re.sub(r"_\d{6}(?=\.)", "", name.rpartition("/")[2])  # result_000500.json, of an earlier end
    if (
        last in MADE
        or PICTURE.fullmatch(last)
        or last[:1] in "-*{"
        or "..." in name
        or re.search(r"[A-Z]{3}", last.partition(".")[0])
    ):
        return True
    name = re.sub(r"^(\.\./|\.?/)+", "", name).removeprefix("distmgcd/")
    return any(f"/{file.relative_to(ROOT)}".endswith(f"/{name}") for file in FILES) or (ROOT / beside / name).exists()


@pytest.mark.skipif(not FILES, reason="the files of the repository are listed by git")
def test_every_file_that_is_named_exists():
    gone = [
        f"{file}:{number} {name}"
        for file, number, line in lines()
        for name in NAMED.findall(line)
        if "update_0" not in name and not is_there(name, file.parent)
    ]
    assert len(FILES) > 300 and not gone


@pytest.mark.skipif(not FILES, reason="the files of the repository are listed by git")
def test_settings_with_brackets_or_question_marks_are_quoted_for_the_shell():
    """zsh takes them for patterns of file names, and an & ends a command."""
    bare = re.compile(r"(?<!['\w.])[a-z_]+\.[a-z_]+=(?:\[|torchvision:\w+\?)|pip install distmgcd\[")
    found = [f"{file}:{number} {line.strip()}" for file, number, line in lines() if bare.search(line)]
    assert not found


@pytest.mark.parametrize(
    "changes",
    [["start.kind=single"], ["network.kind=paper"], ["grids.sizes=8"], ["grids.sizes=[4,x]"], ["data.image_size=16"]],
)
def test_a_setting_that_a_message_tells_to_give_is_quoted(changes: list[str]):
    with pytest.raises(UserError) as caught:
        load_config("digits", changes)
    assert not re.search(r"(?<!')\b[a-z_]+\.[a-z_]+=\S*[\[*?]", str(caught.value))


def test_the_files_that_the_readme_shows_as_a_users_own_load(tmp_path: Path):
    configs = []
    for shown in re.findall(r"```yaml\n(base:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        (tmp_path / "my.yaml").write_text(shown)
        configs.append(load_config(str(tmp_path / "my.yaml")))
    changed, photos = configs
    assert changed.data.path == "/data/images.parquet" and changed.grids == load_config("cifar10").grids
    assert (photos.data.channels, photos.data.pad, photos.image_size) == (3, 0, 16)
