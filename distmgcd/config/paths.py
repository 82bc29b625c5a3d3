"""Settings by their dotted paths, and which setting was meant by a path that there is not."""

import difflib
from collections.abc import Iterator
from typing import Any, TypeGuard, get_type_hints

from pydantic import BaseModel

from distmgcd.config.kinds import Section
from distmgcd.config.schema import Config


def setting_paths(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted path that a config knows."""
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {dotted path: value}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def put(settings: dict[str, Any], path: str, value: Any) -> None:
    """Set a nested setting by its dotted path. Raises ValueError with the section where it is no mapping."""
    *inside, key = path.split(".")
    for section in inside:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise ValueError(section)
    settings[key] = value


def sections() -> dict[str, type[BaseModel]]:
    """{name: class} of the sections of a config."""
    return {name: f.annotation for name, f in Config.model_fields.items() if is_section(f.annotation)}


def is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def annotation_of(path: str) -> Any:
    """The type of a setting, by its dotted path, with the metadata that bears its rule."""
    section, _, key = path.rpartition(".")
    return get_type_hints(sections()[section] if section else Config, include_extras=True)[key]


# What other trainers call a setting, and what it is called here.
_USUAL = {
    "lr": "learning.learning_rate",
    "rate": "learning.learning_rate",
    "base_lr": "learning.learning_rate",
    "batch": "learning.global_batch_size",
    "batch_size": "learning.global_batch_size",
    "train_batch_size": "learning.global_batch_size",
    "bs": "learning.global_batch_size",
    "epochs": "learning.num_updates",
    "num_epochs": "learning.num_updates",
    "max_epochs": "learning.num_updates",
    "steps": "learning.num_updates",
    "max_steps": "learning.num_updates",
    "train_steps": "learning.num_updates",
    "iterations": "learning.num_updates",
    "num_iterations": "learning.num_updates",
    "iters": "learning.num_updates",
    "max_iters": "learning.num_updates",
    "updates": "learning.num_updates",
    "warmup_steps": "learning.warmup",
    "num_warmup_steps": "learning.warmup",
    "warmup_updates": "learning.warmup",
    "min_lr": "learning.final_rate",
    "beta1": "learning.betas",
    "beta2": "learning.betas",
    "ema_decay": "learning.ema",
    "langevin.steps": "langevin.num_steps",
    "langevin_steps": "langevin.num_steps",
    "mcmc_steps": "langevin.num_steps",
    "sampling_steps": "langevin.num_steps",
    "k": "langevin.num_steps",
    "langevin.lr": "langevin.step_size",
    "langevin.rate": "langevin.step_size",
    "epsilon": "langevin.step_size",
    "step_lr": "langevin.step_size",
    "noise_scale": "langevin.temperature",
    "sigma": "data.noise",
    "data_noise": "data.noise",
    "dataset": "data.path",
    "data_dir": "data.path",
    "data_path": "data.path",
    "train_dir": "data.path",
    "root": "data.path",
    "resolution": "grids.sizes",
    "img_size": "grids.sizes",
    "horizontal_flip": "data.flip",
    "random_flip": "data.flip",
    "val_split": "data.validation",
    "hidden_dims": "network.channels",
    "width": "network.channels",
    "kernel_size": "network.kernels",
    "stride": "network.strides",
    "random_seed": "seed",
    "save_every": "checkpoint.every",
    "save_steps": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "log_every": "log.every",
    "logging_steps": "log.every",
    "eval_every": "evaluate.every",
    "eval_steps": "evaluate.every",
    "amp": "speed.precision",
    "dtype": "speed.precision",
    "fp16": "speed.precision",
    "bf16": "speed.precision",
    "compile": "speed.execution",
}


# What is said elsewhere than in the config, or not at all.
_NO_SETTING = {
    "base": "a file names its base; here the preset or file comes first",
    "ahead": "it made no run faster and is gone",
    "weight_decay": "weights are not decayed",
    "optimizer": "the optimiser is Adam, with learning.betas",
    "momentum": "the optimiser is Adam, with learning.betas",
    "dropout": "the networks have no dropout",
    "workers": "give --workers N",
    "num_workers": "give --workers N",
    "device": "give --gpu or --cpu",
    "gpu": "give --gpu",
    "cpu": "give --cpu",
    "name": "give --name NAME",
    "output_dir": "give --storage-path FOLDER",
    "storage_path": "give --storage-path FOLDER",
    "resume": "the same command under the same --name goes on by itself",
}


def unknown_setting(path: str) -> str:
    """The sentence on a path that is no setting."""
    section = path if path in sections() else path.rpartition(".")[0]
    known = list(setting_paths(sections()[section], f"{section}.")) if section in sections() else []
    names = f"{section} has {', '.join(known)}" if known else f"the sections are {', '.join(sections())}"
    return f"There is no setting {path!r}{suggest_setting(path)}; {names}."


def called(path: str) -> str | None:
    """The setting of this path, with this key if no other has it, or with this usual name elsewhere."""
    known, path = list(setting_paths()), path.lower().replace("-", "_")
    key = path.rpartition(".")[2]
    same = [path] if path in known else [p for p in known if p.rpartition(".")[2] == key]
    return same[0] if len(same) == 1 else _USUAL.get(path) or _USUAL.get(key)


def instead_of(name: str) -> str | None:
    """What to do instead of giving something of this name, which is no setting: "give --workers N"."""
    return _NO_SETTING.get(name.lower().replace("-", "_").rpartition(".")[2])


def suggest_setting(path: str) -> str:
    """ " (did you mean 'learning.ema'?)", or nothing if no setting is near."""
    if instead := instead_of(path):
        return f" ({instead})"
    found = meant_by(path)
    return f" (did you mean {found!r}?)" if found else ""


def meant_by(path: str) -> str | None:
    """The setting that a wrong path stands for: what has that name elsewhere, or a slip of the keys.

    The key decides, not the section: by whole paths learning.lr is nearest to learning.ema.
    """
    if found := called(path):
        return found
    known, (section, _, key) = list(setting_paths()), path.rpartition(".")
    if path in sections():
        of_section = [p for p in known if p.startswith(f"{path}.")]
        return of_section[0] if len(of_section) == 1 else None
    if elsewhere := [p for p in known if p.rpartition(".")[2] == key]:
        return difflib.get_close_matches(path, elsewhere, n=1, cutoff=0.0)[0]
    keys = {p.rpartition(".")[2]: p for p in known if p.rpartition(".")[0] == section}
    keys = keys or {p.rpartition(".")[2]: p for p in reversed(known)}
    return next((keys[close] for close in difflib.get_close_matches(key, keys, n=1, cutoff=0.6)), None)
