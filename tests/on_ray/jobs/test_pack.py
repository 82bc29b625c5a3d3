"""What goes to a cluster with a job, and what does not."""

import subprocess
import zipfile
from pathlib import Path

import pytest

import distmgcd
from distmgcd.errors import UserError
from distmgcd.on_ray.jobs.pack import check_size, files_to_send, pip_environment, write_package


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    write(folder, "tracked.yaml", "new.yaml", "ignored/data.npz", ".env", "docs/picture.png", "deep/er/more.py")
    (folder / ".gitignore").write_text("/ignored/\n")
    (folder / ".rayignore").write_text("/docs/\n*.tmp\n")
    (folder / "outside.yaml").symlink_to(tmp_path / "secret")
    write(tmp_path, "secret")
    write(folder, "scratch.tmp", "gone.yaml")
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "tracked.yaml", "docs/picture.png", "gone.yaml"], check=True)
    (folder / "gone.yaml").unlink()
    return folder


def test_what_git_knows_or_would_add_goes_and_nothing_else(work_tree: Path):
    assert list(files_to_send(work_tree, [], with_package=False)) == ["deep/er/more.py", "new.yaml", "tracked.yaml"]


def test_a_folder_below_the_top_sends_what_lies_in_it(work_tree: Path):
    assert list(files_to_send(work_tree / "deep", [], with_package=False)) == ["er/more.py"]


def test_a_file_that_the_command_names_goes_even_if_git_ignores_it(work_tree: Path):
    named = str(work_tree / "ignored" / "data.npz")
    assert "ignored/data.npz" in files_to_send(work_tree, [named], with_package=False)


def test_outside_of_git_only_named_files_go(tmp_path: Path):
    write(tmp_path, "my.yaml", "photographs/private.png")
    assert list(files_to_send(tmp_path, ["my.yaml"], with_package=False)) == ["my.yaml"]


@pytest.mark.parametrize("path", ["../my.yaml", "/etc/hostname"])
def test_a_file_outside_of_the_folder_is_refused(work_tree: Path, path: str):
    with pytest.raises(UserError, match="lies outside the current folder"):
        files_to_send(work_tree, [path])


def test_the_package_goes_as_it_runs_here(work_tree: Path):
    write(work_tree, "distmgcd/of_another_version.py")
    files = files_to_send(work_tree, [])
    package = Path(distmgcd.__file__).parent
    assert files["distmgcd/presets/digits.yaml"] == package / "presets" / "digits.yaml"
    assert files["distmgcd/presets/sweeps/smoke.yaml"].read_text().startswith("# Six short trials")
    assert files["distmgcd/cli/__main__.py"] == package / "cli" / "__main__.py"
    assert "distmgcd/of_another_version.py" not in files and not [name for name in files if "__pycache__" in name]


def test_the_same_files_make_the_same_package(work_tree: Path, tmp_path: Path):
    for name in ("one.zip", "two.zip"):
        for file in (work_tree / "tracked.yaml", work_tree / "new.yaml"):
            file.write_text(file.read_text())  # newer, and the same
        write_package(files_to_send(work_tree, []), tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        assert package.read("tracked.yaml") == b"tracked.yaml" and package.testzip() is None


def test_too_much_is_refused_and_the_largest_files_are_named():
    sizes = {"a.py": 2**10, "images.parquet": 150 * 2**20, "model.bin": 30 * 2**20}
    with pytest.raises(UserError, match=r"180 MiB .* 100 MiB .*largest: images.parquet 150.0 MiB, model.bin 30.0 MiB"):
        check_size(sizes)
    check_size({"a.py": 100 * 2**20})


def test_the_pinned_dependencies_go_without_ray_and_those_of_developers(tmp_path: Path):
    write(tmp_path, "constraints.txt")
    files = files_to_send(tmp_path, [], with_package=False) | {"constraints.txt": tmp_path / "constraints.txt"}
    constraint, *names = pip_environment(files)["pip"]["packages"]
    assert constraint == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
    assert {"torch", "safetensors", "pydantic"} <= set(names) and not {"ray", "pytest", "ruff", "optuna"} & set(names)
