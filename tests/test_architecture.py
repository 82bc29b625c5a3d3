"""Who may import whom. A ladder, and what stays unloaded until it is needed."""

import ast
import pydoc
import re
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import TINY

import distmgcd

PACKAGE = Path(distmgcd.__file__).parent

# A module imports from its own rung's package or from lower rungs; modules that share a rung are strangers.
LADDER = (
    {"errors"},
    {"environment", "terminal"},
    {"core"},
    {"config", "data"},
    {"workers"},
    {"runs"},
    {"models"},
    {"evaluation"},
    {"training"},
    {"sweep"},
    {"on_ray"},
    {"launch"},
    {"comparison"},
    {"report"},
    {"bench", "export"},
    {"cli"},
)
RUNG = {name: rung for rung, names in enumerate(LADDER) for name in names}

# What else a part may import, beside the standard library. Parts not named may import anything but ray.
MAY_IMPORT = {
    "errors": set(),
    "environment": set(),
    "terminal": set(),
    "num_workers": set(),
    "pack": set(),
    "core": {"torch", "triton"},  # triton in noise_kernels.py, which is imported on a GPU
    "config": {"yaml", "pydantic", "pydantic_core"},
    "evaluation": {"torch", "numpy", "PIL", "torch_fidelity", "skimage", "sklearn"},
    "models": {"torch", "numpy"},
    "runs": {"torch", "numpy", "pyarrow", "fsspec", "safetensors", "tensorboard", "yaml"},
    "training": {"torch", "numpy", "PIL", "yaml"},
    "launch": {"torch"},
    "export": {"torch", "safetensors", "yaml"},
    "sweep": {"yaml", "pydantic", "optuna", "pyarrow", "PIL", "jinja2", "plotly"},
    "tuning": {"torch"},
    "comparison": {"torch", "pydantic"},
    "display": {"rich"},
    "sweep_display": {"rich"},
    "report": {"rich", "torch"},
}


def imports_of(file: Path) -> Iterator[tuple[str, bool, int]]:
    """(dotted name, whether it runs as the file is imported, line) of every import in a file."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {node for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write the whole name"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "distmgcd" else [node.module]
            )
            yield from ((name, node not in lazy, node.lineno) for name in names)


def part_of(file: Path) -> str:
    """core for distmgcd/core/noise.py, launch for distmgcd/launch/start_run.py."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]
IMPORTS = [(file, *found) for file in FILES for found in imports_of(file)]


def where(file: Path, line: int) -> str:
    return f"{file.relative_to(PACKAGE.parent)}:{line}"


def test_every_module_has_a_rung():
    assert {part_of(file) for file in FILES} == set(RUNG)


def test_nobody_reaches_up_the_ladder():
    reached_up = [
        f"{where(file, line)}: {own} imports {name}, but {other} is not below it"
        for file, name, _, line in IMPORTS
        if name.startswith("distmgcd.")
        and (other := name.split(".")[1]) != (own := part_of(file))
        and RUNG.get(other, -1) >= RUNG[own]
    ]
    assert not reached_up, "\n".join(reached_up)


def test_only_on_ray_imports_ray():
    found = [
        where(file, line)
        for file, name, _, line in IMPORTS
        if name.split(".")[0] == "ray" and part_of(file) != "on_ray"
    ]
    assert not found, f"Only distmgcd/on_ray may import ray, but so does {', '.join(found)}."


def test_on_ray_is_imported_inside_the_function_that_starts_ray():
    early = [
        where(f, line) for f, name, early, line in IMPORTS if early and "on_ray" in name and part_of(f) != "on_ray"
    ]
    assert not early, f"Debug must not load Ray: import distmgcd.on_ray inside a function, not in {', '.join(early)}."


def test_every_part_keeps_to_its_libraries():
    strangers = [
        f"{where(file, line)} imports {name}, but {part_of(file)} may only {MAY_IMPORT[part_of(file)] or 'nothing'}"
        for file, name, _, line in IMPORTS
        if part_of(file) in MAY_IMPORT
        and name.split(".")[0] not in {*sys.stdlib_module_names, "distmgcd", *MAY_IMPORT[part_of(file)]}
    ]
    assert not strangers, "\n".join(strangers)


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "ray", "pyarrow", "pydantic", "numpy", "rich.live")


def test_importing_the_package_loads_nothing_heavy():
    loaded = run_python("import sys, distmgcd; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "--help"]], ids=" ".join)
def test_help_loads_neither_torch_nor_ray(arguments: list[str]):
    code = """
        import sys
        from distmgcd.cli import main
        try:
            main()
        finally:
            sys.stderr.write(" ".join(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert not {"torch", "ray", "pyarrow", "numpy"} & set(done.stderr.split())


def test_help_takes_under_a_second():
    """Of the processor's time, which a busy machine does not change."""
    command = [str(Path(sys.executable).parent / "distmgcd"), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_debug_mode_runs_where_ray_and_typer_are_not_installed(tmp_path: Path):
    """And starts no process: whatever it did start would be a child of it at its end, or an orphan with its mark."""
    code = """
        import os, sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("ray", "typer"):
                    raise ModuleNotFoundError(f"{name} must not be imported here")

        sys.meta_path.insert(0, Absent())
        import distmgcd.core.learning, distmgcd.training.loop
        from distmgcd import debug, load_config

        started = []
        sys.addaudithook(lambda event, _: started.append(event) if event in (
            "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system") else None)
        debug(load_config(sys.argv[1]), storage_path=sys.argv[2], name="run", use_gpu=False)
        print(started, [name for name in sys.modules if name.split(".")[0] in ("ray", "typer")])
    """
    assert run_python(code, str(TINY), str(tmp_path)).splitlines()[-1] == "[] []"
    assert (tmp_path / "run" / "result.json").exists()


def test_functions_of_the_package_stay_functions_whatever_has_been_imported():
    """A subpackage of the same name would take a function's place as soon as anything imports it."""
    assert not [name for name in distmgcd.__all__ if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()]


def test_the_public_names_are_seen_by_dir_help_and_editors():
    """An editor reads the imports under TYPE_CHECKING; they must be the names that are given at run time."""
    assert {name for name in dir(distmgcd) if not name.startswith("_")} == set(distmgcd.__all__)
    described = pydoc.plain(pydoc.render_doc(distmgcd)).partition("\nCLASSES")[2]
    assert not [name for name in distmgcd.__all__ if not re.search(rf"^    (class )?{name}\(", described, re.MULTILINE)]
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(alias.name, node.module) for node in checked.body for alias in node.names}
    assert seen == set(distmgcd._HOMES.items()) and {name for name, _ in seen} == set(distmgcd.__all__)
