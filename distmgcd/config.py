"""Every knob of a run: frozen, validated, strict about keys, changed by dotted paths.

A run is a function of this config and of nothing else. `load_config("digits", ["langevin.num_steps=30"])`
reads a preset or a YAML file and applies the changes; every mistake is a UserError of one sentence that
names the setting, the value, the rule and the way out.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distmgcd.config_words import rule_of, suggest
from distmgcd.errors import UserError

PRESETS = Path(__file__).parent / "presets"

# The description is the rule that the message about a wrong value states.
Whole = Annotated[int, Field(ge=0, description="a whole number from 0 up")]
Count = Annotated[int, Field(ge=1, description="a whole number from 1 up")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="a whole number from 0 to 2^63 - 1")]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number above 0")]
SizeOrInf = Annotated[float, Field(gt=0, description="a number above 0 or .inf")]
Level = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number from 0 up")]
Fraction = Annotated[float, Field(ge=0, le=1, description="a fraction from 0 to 1")]
Decay = Annotated[float, Field(ge=0, lt=1, description="a number from 0 up and below 1")]
Factor = Annotated[float, Field(gt=0, lt=1, description="a number above 0 and below 1")]
Activation = Literal["leaky_relu", "relu", "silu", "gelu", "elu", "softplus"]
Norm = Literal["none", "layer", "spectral", "batch"]
Clamp = Literal["none", "end", "step"]
Layer = tuple[int, int, int]  # kernel, stride, output channels of one convolution

# The authors' networks (their TensorFlow code; the table in Gao et al. 2017 differs in the counts it names).
PAPER_LAYERS: dict[int, tuple[Layer, ...]] = {
    4: ((5, 2, 96), (3, 1, 128), (3, 1, 256)),
    16: ((5, 2, 96), (3, 1, 128), (3, 1, 256), (3, 1, 512)),
    64: ((5, 2, 64), (5, 2, 128), (5, 2, 256), (5, 2, 512)),
}


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Data(Section):
    path: str  # a Parquet file or folder, a folder of images, sklearn:digits, torchvision:NAME?root=DIR
    image_size: Count | None = None  # None: the finest grid
    pad: Whole = 0  # black pixels added on each side before resizing: 2 makes 28x28 32x32
    channels: Literal[1, 3]
    split: str = "train"
    held_out: str = "test"
    # Part of `split` that is not trained on and takes the place of `held_out`: choose settings by it, so that the
    # distances to `held_out` remain those of a choice that never saw it.
    validation: Decay = 0.0
    flip: bool = False  # mirror half of the observed images, a fresh draw at every update
    noise: Level = 0.02  # deviation of the Gaussian noise on observed images; pixels span [-1, 1]
    max_corrupt: Fraction = 0.001


class Grids(Section):
    sizes: tuple[Count, ...]  # coarse to fine; the 1x1 start is implied

    @model_validator(mode="after")
    def _each_divides_the_next(self) -> "Grids":
        sizes = self.sizes
        if not sizes or sizes[0] == 1:
            raise ValueError(
                f"grids.sizes must name the grids above the 1x1 start, which is implied, but is {_show(sizes)}. "
                "Example: [4, 16, 64]."
            )
        for small, large in zip(sizes, sizes[1:], strict=False):
            if large % small or large == small:
                raise ValueError(
                    f"grids.sizes must each divide the next, but {small} does not divide {large} into smaller pixels "
                    f"in {_show(sizes)}. Example: [4, 16, 64]."
                )
        return self


class Network(Section):
    """The ConvNets. One value serves every layer, a list is one a layer, a list of lists is one list a grid."""

    kind: Literal["convnet", "paper"] = "convnet"  # paper: the authors' networks for grids 4, 16 and 64
    channels: tuple[Count, ...] | tuple[tuple[Count, ...], ...] = (64, 128, 256)
    kernels: Count | tuple[Count, ...] | tuple[tuple[Count, ...], ...] = 3
    strides: Count | tuple[Count, ...] | tuple[tuple[Count, ...], ...] = 2
    activation: Activation = "leaky_relu"
    # batch couples the chains of a batch: a picture then depends on its neighbours and on the number of workers
    norm: Norm = "none"

    def layers(self, sizes: Sequence[int]) -> list[tuple[Layer, ...]]:
        """The convolutions of every grid, as (kernel, stride, channels)."""
        if self.kind == "paper":
            missing = [size for size in sizes if size not in PAPER_LAYERS]
            if missing:
                raise ValueError(
                    f"network.kind=paper has networks for grids 4, 16 and 64, but grids.sizes={_show(sizes)} has "
                    f"{missing[0]}; choose grids.sizes from those, or set network.kind=convnet."
                )
            return [PAPER_LAYERS[size] for size in sizes]
        return [self._layers_of_grid(grid, len(sizes)) for grid in range(len(sizes))]

    def _layers_of_grid(self, grid: int, num_grids: int) -> tuple[Layer, ...]:
        channels = _of_grid("network.channels", self.channels, grid, num_grids)
        if not channels:
            raise ValueError(
                f"network.channels must have an entry for every layer, but has none for grid {grid}; try [64]."
            )
        kernels, strides = (
            _of_layers(name, _of_grid(name, value, grid, num_grids), len(channels))
            for name, value in (("network.kernels", self.kernels), ("network.strides", self.strides))
        )
        if even := [k for k in kernels if k % 2 == 0]:
            raise ValueError(
                f"network.kernels must be odd, so that a picture keeps its size, but one is {even[0]}; "
                f"try {even[0] + 1}."
            )
        return tuple(zip(kernels, strides, channels, strict=True))


class LangevinSettings(Section):
    """x <- x - (s^2 / 2) grad U + s sqrt(T) z. One value, or one per grid, coarse to fine."""

    num_steps: Count | tuple[Count, ...] = 20
    step_size: Size | tuple[Size, ...] = math.sqrt(2.0)  # s; drift is s^2 / 2 times the gradient
    temperature: Level | tuple[Level, ...] = 5e-5  # T; one step's noise has deviation s sqrt(T)
    clamp: Clamp | tuple[Clamp, ...] = (
        "end"  # keep pixels in [-1, 1]: never (none), after the chain (end), at every step
    )
    reference_sigma: SizeOrInf | tuple[SizeOrInf, ...] = (
        math.inf
    )  # deviation of the Gaussian reference; .inf is uniform


class Start(Section):
    # Where a training chain starts: at the 1x1 version of its image, climbing from grid to grid (multigrid), or where
    # the chain of this image ended when it was last walked (persistent), which a run keeps for every image.
    kind: Literal["multigrid", "persistent"] = "multigrid"


class Learning(Section):
    num_updates: Count = 1000
    global_batch_size: Count = 64  # of all workers together
    # Walk the chains and add the gradients in blocks of so many images: a run is then the same bit for bit on any
    # number of workers, as many as there are blocks. null: the whole share of a worker at once, which is faster.
    block_size: Count | None = None
    learning_rate: Size | tuple[Size, ...] = 3e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    warmup: Whole = 50  # updates over which the rate rises from 0
    final_rate: Fraction = 0.02  # rate at the last update, as a fraction; 1 keeps it constant
    ema: Fraction = 0.995  # decay of the averaged weights that samples are drawn with


class Checkpointing(Section):
    every: Count = 200  # updates
    keep: Count = 3  # the newest so many; the last one of a run is always kept
    keep_best: Whole = 1  # and the best so many of those at whose update there was an evaluation (evaluate.every)
    metric: str = "swd"  # the smallest is best: the mean over grids of the sliced Wasserstein distance; swd/16: of one


class Logging(Section):
    every: Count = 10  # updates between two records; metrics stay on the device meanwhile


class Evaluation(Section):
    every: Whole = 0  # updates between evaluations; 0: only at the end
    sizes: tuple[Count, ...] | None = None  # box averages at which distances are taken; null: the grids
    num_samples: Count = 2000  # fresh samples, and as many held-out images where there are so many
    num_draws: Count = 3  # sets of so many samples, from different seeds; their mean is reported, and their spread


class Watch(Section):
    """When to call a run diverged. It then goes back to its last good checkpoint with a smaller rate."""

    max_gap: Size = 20.0  # |energy gap| of any grid, mean over a log interval
    max_drift: Size = 1.0  # rms of one step's drift; pixels span [-1, 1]
    max_retries: Whole = 3
    rate_after_retry: Factor = 0.5  # factor on the learning rate at each retry
    max_seconds_stuck: Size = 300.0  # of Ray workers: one that gets nothing done for so long is ended, all start again


class Config(Section):
    seed: Seed = 0
    data: Data
    grids: Grids
    network: Network = Network()
    langevin: LangevinSettings = LangevinSettings()
    start: Start = Start()
    learning: Learning = Learning()
    checkpoint: Checkpointing = Checkpointing()
    log: Logging = Logging()
    evaluate: Evaluation = Evaluation()
    watch: Watch = Watch()

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "Config":
        self.network.layers(self.grids.sizes)
        for section, keys in (("langevin", LangevinSettings.model_fields), ("learning", ("learning_rate",))):
            for key in keys:
                self.per_grid(f"{section}.{key}")
        if self.data.image_size not in (None, self.grids.sizes[-1]):
            raise ValueError(
                f"data.image_size must be the finest grid, but is {self.data.image_size} with "
                f"grids.sizes={_show(self.grids.sizes)}; leave data.image_size out, or end grids.sizes with it."
            )
        block, batch = self.learning.block_size, self.learning.global_batch_size
        if block and batch % block:
            raise ValueError(
                f"learning.block_size must divide learning.global_batch_size, but {block} does not divide {batch}; set "
                f"learning.block_size={math.gcd(block, batch)}, say."
            )
        if unfit := [size for size in self.evaluation_sizes if self.image_size % size]:
            raise ValueError(
                f"evaluate.sizes must divide the finest grid, but {unfit[0]} does not divide {self.image_size}; leave "
                "it out to measure at the grids, or take divisors."
            )
        metrics = ["swd", *(f"swd/{size}" for size in self.evaluation_sizes)]
        if self.checkpoint.metric not in metrics:
            raise ValueError(
                f"checkpoint.metric must be one of {', '.join(metrics)}, but is {self.checkpoint.metric!r}; its "
                "default is swd, the mean over grids."
            )
        if self.learning.warmup >= self.learning.num_updates:
            raise ValueError(
                f"learning.warmup must be smaller than learning.num_updates, but is {self.learning.warmup} of "
                f"{self.learning.num_updates}; set learning.warmup={self.learning.num_updates // 10}."
            )
        return self

    @cached_property
    def num_grids(self) -> int:
        return len(self.grids.sizes)

    @property
    def image_size(self) -> int:
        return self.grids.sizes[-1]

    @property
    def evaluation_sizes(self) -> tuple[int, ...]:
        """The sizes to which samples and held-out images are box-averaged before they are compared."""
        return self.evaluate.sizes or self.grids.sizes

    def per_grid(self, path: str) -> list[Any]:
        """The values of a setting such as "langevin.step_size", one per grid."""
        section, key = path.split(".")
        value = getattr(getattr(self, section), key)
        if not isinstance(value, tuple):
            return [value] * self.num_grids
        if len(value) != self.num_grids:
            raise ValueError(
                f"{path} must be one value or one per grid, but has {len(value)} values for {self.num_grids} grids "
                f"{_show(self.grids.sizes)}; give {self.num_grids}, coarse to fine."
            )
        return list(value)


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """A preset's name or a YAML file, with "dotted.key=value" changes. Raises UserError."""
    settings = _read(source)
    for override in overrides:
        _apply(settings, override)
    return make_config(settings)


def make_config(settings: dict[str, Any]) -> Config:
    """Validate nested settings.

    Raises UserError for an unknown key, a wrong value, or values that do not fit together.
    """
    if not_sections := [name for name in _sections() if not isinstance(settings.get(name, {}), dict)]:
        raise UserError(_no_section_sentence(not_sections[0], settings[not_sections[0]]))
    for path in _unknown_keys(settings, Config, ""):
        raise UserError(_unknown_key_sentence(path))
    try:
        return Config(**settings)
    except ValidationError as error:
        raise UserError(_sentence(error, settings)) from None


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that load_config reads back to an equal one."""
    return yaml.safe_dump(_plain(config.model_dump()), sort_keys=False, default_flow_style=None, width=100)


def setting_paths(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted path that a config knows."""
    for name, field in model.model_fields.items():
        if _is_section(field.annotation):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {dotted path: value}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if source in preset_names():
        path = PRESETS / f"{source}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no preset {source!r}{suggest(source, preset_names())}; the presets are "
            f"{', '.join(preset_names())}, and a file must end in .yaml."
        )
    elif not path.is_file():
        raise UserError(
            f"The config file {source} does not exist; give a YAML file or one of the presets "
            f"{', '.join(preset_names())}."
        )
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"The config file {source} cannot be read ({error.strerror}); check its permissions.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, or bytes that are no text
        raise UserError(f"The config file {source} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UserError(
            f"The config file {source} must hold settings such as 'grids:', but holds "
            f"{'nothing' if settings is None else repr(settings)[:40]}; see `distmgcd config digits` for a whole one."
        )
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(
            f"A change must read dotted.key=value, but {override!r} has no '='. Example: langevin.num_steps=30."
        )
    if path not in set(setting_paths()):
        raise UserError(_unknown_key_sentence(path))
    *sections, key = path.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(_no_section_sentence(section, settings))
    try:
        settings[key] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"The value of {path} is not valid YAML: {text!r}. Lists are written [4, 16, 64].") from None


def _unknown_keys(settings: dict[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, value in settings.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{prefix}{key}"
        elif _is_section(field.annotation) and isinstance(value, dict):
            yield from _unknown_keys(value, field.annotation, f"{prefix}{key}.")


def _unknown_key_sentence(path: str) -> str:
    section = path.rpartition(".")[0]
    known = [p for p in setting_paths() if section and p.rpartition(".")[0] == section]
    names = f"{section} has {', '.join(known)}" if known else f"the sections are {', '.join(_sections())}"
    return f"There is no setting {path!r}{suggest(path, list(setting_paths()))}; {names}."


def _no_section_sentence(section: str, value: Any) -> str:
    names = ", ".join(setting_paths(_sections()[section], f"{section}."))
    return f"{section} must hold settings, but is {value!r}; it has {names}."


def _sentence(error: ValidationError, settings: dict[str, Any]) -> str:
    """The first problem that pydantic found, in our words."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    *section, key = map(str, first["loc"][:2])
    model = _sections()[section[0]] if section else Config
    path = ".".join([*section, key])
    if first["type"] == "missing" and len(first["loc"]) <= 2:
        names = ", ".join(setting_paths(_sections()[key], f"{key}.")) if key in _sections() else path
        return f"{path} is missing; add it to the file, or give {names.split(', ')[0]}=VALUE on the command line."
    value = flatten(settings).get(path, first["input"])
    rule = rule_of(get_type_hints(model, include_extras=True)[key])
    default = model.model_fields[key].get_default()
    way_out = f"its default is {_plain(default)}" if not model.model_fields[key].is_required() else _EXAMPLES[path]
    return f"{path} must be {rule}, but is {value!r}; {way_out}."


_EXAMPLES = {
    "data.path": "write data.path=sklearn:digits, say",
    "data.channels": "write data.channels=1 for grey images, 3 for colour",
    "grids.sizes": "write grids.sizes=[4, 16, 64], say",
}


def _sections() -> dict[str, type[BaseModel]]:
    return {name: f.annotation for name, f in Config.model_fields.items() if _is_section(f.annotation)}


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _of_grid(name: str, value: Any, grid: int, num_grids: int) -> Any:
    """This grid's part of a list of lists; anything else serves every grid."""
    if not (isinstance(value, tuple) and value and isinstance(value[0], tuple)):
        return value
    if len(value) != num_grids:
        raise ValueError(
            f"{name} has {len(value)} lists for {num_grids} grids; give one list per grid, or one list for all."
        )
    return value[grid]


def _of_layers(name: str, value: Any, num_layers: int) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        return (value,) * num_layers
    if len(value) != num_layers:
        raise ValueError(
            f"{name} has {len(value)} values for {num_layers} layers; give one per entry of network.channels, or one "
            "value for all."
        )
    return value


def _show(sizes: Sequence[int]) -> str:
    return str(list(sizes))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
