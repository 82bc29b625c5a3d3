"""From a run to an exported model: a run folder with one checkpoint that holds only what sampling needs.

    OUT/checkpoints/update_000500/ema.safetensors     the averaged weights, in half precision (fp16)
                                  starts.safetensors  the distribution of 1x1 starts, unchanged
                                  state.json          says that it is an exported model, and of which weights
    OUT/card.md  data.json  result.json  config.yaml  what it is; no path of the machine that it was trained on

Rounding to fp16 moves a weight by at most 2^-11 of its size (or by 2^-25), less than the 2^-9 that chains in bf16 round
it by. Chains magnify any rounding, so a sample may come out otherwise, as it does on another kind of CPU; the
distribution of samples stays.

An exported model names data sets and files, but no folder of this machine.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from distmgcd.config import Config, to_yaml
from distmgcd.errors import UserError
from distmgcd.evaluation.record import FOLDER as EVALUATION
from distmgcd.export.card import Facts, card_of
from distmgcd.runs import checkpoint, identity, retention, strict_json
from distmgcd.runs.checkpoint import Checkpoint
from distmgcd.runs.run_folder import CARD_FILE, Run
from distmgcd.runs.store import Store
from distmgcd.training.origin import origin_in_result

_WEIGHTS = "ema.safetensors"


@dataclass(frozen=True)
class Exported:
    """Where a model was exported to."""

    folder: str
    update: int
    num_bytes: int  # of all its files
    title: str  # the first line of its card


def export_run(run: str, out: str, *, which: str = "end", show: Callable[[str], None] = lambda _: None) -> Exported:
    """Write the averaged weights of a run, in half precision, and what sampling needs, to a folder of its own.

    which: "end", "newest", "best" (by checkpoint.metric) or an update, as for load. out: a new folder, a path or a URI;
    `load` and every command that reads a run take it. show is called with what a user should know. Raises UserError if
    there is no such good checkpoint, if weights do not fit half precision, if the folder holds files or cannot be
    written.
    """
    opened, target = Run.open(run), Store(out)
    _check_new(target, out)
    found = retention.find(opened.store, which, metric=opened.config().checkpoint.metric)
    if found is None:
        raise UserError(f"The run {run} has no whole checkpoint to export; `distmgcd verify` says which it has.")
    if found.is_exported:
        raise UserError(f"{run} is an exported model already; copy its folder, which is all there is of it.")
    weights, facts = dict(_checkpoint_files(found)), _facts(opened, found, name=Path(target.location).name)
    for note in _notes(facts):
        show(note)
    card = card_of(facts)
    try:
        checkpoint.put(target, found.name, weights.items())
        for name, content in _files(facts, card).items():
            target.write(name, content)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror or error}); choose another folder.") from None
    num_bytes = sum(info.size for info in target.files())
    return Exported(target.location, found.progress.update, num_bytes, card.partition("\n")[0].removeprefix("# "))


def _notes(facts: Facts) -> Iterator[str]:
    if facts.config.start.kind == "persistent":
        yield "The persistent chains are left out; fresh samples do not need them."
    if not facts.data_is_public:
        yield (
            f"Its images have no public address, so only the name {facts.config.data.path} is kept: whoever evaluates "
            "the model gives --data PATH."
        )
    if facts.result is None and not facts.evaluations:
        yield (
            "Nothing was measured at this checkpoint, so the card has no figures; `distmgcd evaluate` the run "
            f"with --checkpoint {facts.progress.update} first."
        )


def _files(facts: Facts, card: str) -> dict[str, bytes]:
    """Of the exported folder, beside its checkpoint."""
    found = {CARD_FILE: card.encode()}
    for name, record in ((identity.DATA_FILE, facts.data), ("result.json", facts.result)):
        if record:
            found[name] = strict_json.dumps(record, indent=1).encode()
    return {**found, "config.yaml": to_yaml(facts.config).encode()}  # last: what has it is a run


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point numbers in fp16, others as they are. Raises UserError for one that fp16 cannot hold."""
    found = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    if lost := [name for name, value in found.items() if not value.isfinite().all()]:
        largest = torch.finfo(torch.float16).max
        raise UserError(
            f"The weights {lost[0]} do not fit half precision: some are not finite or above {largest:,.0f}, as in a "
            "run that has diverged; export an earlier --checkpoint."
        )
    return found


def _checkpoint_files(found: Checkpoint) -> Iterator[tuple[str, bytes]]:
    starts = found.tensors("starts.safetensors")
    yield _WEIGHTS, safetensors.torch.save(halved(found.tensors(_WEIGHTS)))
    yield "starts.safetensors", safetensors.torch.save({**starts, "counts": _smallest(starts["counts"])})
    state = strict_json.loads(found.files["state.json"])
    state[checkpoint.EXPORTED] = {"weights": "fp16", "of_weights_sha256": _sha256(found)}
    yield "state.json", strict_json.dumps(state, indent=1).encode()


def _smallest(counts: Tensor) -> Tensor:
    """The same whole numbers in as few bytes as hold them."""
    kinds = (torch.uint8, torch.int16, torch.int32, torch.int64)
    return counts.to(next(kind for kind in kinds if counts.max() <= torch.iinfo(kind).max))


def _facts(opened: Run, found: Checkpoint, *, name: str) -> Facts:
    config = opened.config()
    return Facts(
        name=name,
        config=public_config(config),
        progress=found.progress,
        state=strict_json.loads(found.files["state.json"]),
        weights_sha256=_sha256(found),
        num_weights=sum(value.numel() for value in found.tensors(_WEIGHTS).values()),
        data=identity.read_data_record(opened.store),
        data_is_public=is_public(config.data.path),
        origin=without_paths(origin_in_result(opened).get("origin"), config),
        result=without_paths(_result_at(opened, found), config),
        evaluations=without_paths(_evaluations(opened.store, found), config),
    )


def _result_at(opened: Run, found: Checkpoint) -> dict[str, Any] | None:
    """What was measured at an end of the run, if it ended with this checkpoint."""
    for name in ("result.json", *_names_of_earlier_results(opened.store)):
        if opened.store.exists(name):
            result = strict_json.loads(opened.store.read(name))
            ended_with = result.get("ended_with", {}).get("checkpoint", checkpoint.name_of(result.get("update", -1)))
            if ended_with == found.name:
                return result
    return None


def _names_of_earlier_results(store: Store) -> list[str]:
    return [name for name in store.names("") if re.fullmatch(r"result_\d+\.json", name)]


def _evaluations(store: Store, found: Checkpoint) -> list[dict[str, Any]]:
    """The records of `distmgcd evaluate` of these very weights, that of most samples first."""
    records = []
    for name in store.names(EVALUATION):
        if name.startswith(f"{found.name}-ema-") and name.endswith(".json"):
            record = strict_json.loads(store.read(f"{EVALUATION}/{name}"))
            if "results" in record and record["identity"].get("weights_sha256") == _sha256(found):
                records.append(record)
    return sorted(records, key=lambda record: -record["identity"]["num"])


def _sha256(found: Checkpoint) -> str:
    return hashlib.sha256(found.files[_WEIGHTS]).hexdigest()


def _check_new(target: Store, out: str) -> None:
    """Raises UserError."""
    if target.read_only:
        raise UserError(f"--out {out} names a model that comes with the package and is never written; give a folder.")
    if target.files():
        raise UserError(f"--out {out} is there already and holds files; give a new folder, or delete that one.")


_FIRST_ROOT = re.compile(r"\?root=[^&\[\]]*&")  # of torchvision:NAME?root=DIR&download=1
_ROOT = re.compile(r"[?&]root=[^&\[\]]*?(?=&|$| \[)")
_FOLDERS = re.compile(r"""(?:^|(?<=[\s"'(=]))(?:file://|~)?/(?=\S)(?:[^\[\]]*/)?""")  # /home/me/ of /home/me/x.parquet


def public_config(config: Config) -> Config:
    """The config with its images at an address that is the same everywhere, or else by the name of their file alone."""
    data = config.data.model_copy(update={"path": public_text(config.data.path)})
    features = config.evaluate.features and public_text(config.evaluate.features)
    evaluate = config.evaluate.model_copy(update={"features": features})
    return config.model_copy(update={"data": data, "evaluate": evaluate})


def is_public(path: str) -> bool:
    """Whether images of this data.path can be had on another machine."""
    return path.startswith(("sklearn:", "torchvision:")) or ("://" in path and not path.startswith("file:"))


def public_text(text: str) -> str:
    """ "images.parquet" for "/home/me/images.parquet", "torchvision:CIFAR10" for "torchvision:CIFAR10?root=/data"."""
    return _FOLDERS.sub("", _ROOT.sub("", _FIRST_ROOT.sub("?", text)))


def without_paths(value: Any, config: Config) -> Any:
    """A record with every text made public. config: whose data.path is known, whatever characters it has."""
    if isinstance(value, dict):
        return {key: without_paths(item, config) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, config) for item in value]
    if not isinstance(value, str):
        return value
    return public_text(value.replace(config.data.path, public_text(config.data.path)))
