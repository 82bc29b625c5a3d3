"""The images of a run: at its data.path, or at another path where they are now."""

from contextlib import suppress
from typing import Literal

from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.runs.identity import check_images, data_record, read_data_record, write_data_record
from distmgcd.runs.run_folder import Run

_OPEN = {"images": open_training_images, "held_out": open_held_out_images}


def with_data(config: Config, path: str | None) -> Config:
    """The config with its images at another path, if one is given."""
    if path is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"path": path})})


def images_of(run: Run, config: Config, which: Literal["images", "held_out"]) -> ImageSet:
    """Those that the run learned from, or those held out, at config.data.path.

    Raises UserError if they cannot be opened there, or are not those that the run was made with.
    """
    try:
        found = _OPEN[which](config)
    except UserError as error:
        raise UserError(
            f"The images of the run {run.store.location} cannot be opened: {str(error).rstrip('.')}; --data PATH says "
            "where they are now."
        ) from None
    record = {"num": len(found), "content": found.content}
    check_images(run.store, {which: record}, config.data.path)
    return found


def record_of_old_run(run: Run, config: Config) -> None:
    """Note which images a run is of that does not say so yet, where they can still be opened at another path.

    Where the path is the same, the run notes it as it is claimed.
    """
    if not run.store.exists("config.yaml") or read_data_record(run.store) is not None:
        return
    old = run.config()
    if old.data.path != config.data.path:
        with suppress(UserError, OSError):
            write_data_record(run.store, data_record(open_training_images(old), open_held_out_images(old)))


def pad_line(config: Config) -> str:
    """What data.pad does: a preset may have it for other images than these."""
    data, size = config.data, config.image_size
    pixels = f"{data.pad} {data.background} pixel{'s' if data.pad > 1 else ''}"
    return f"data.pad={data.pad} adds {pixels} on each side of every image before it is resized to {size}x{size}."
