"""The lines that a user sees as training starts: its images, its cost, and warnings about them."""

from collections.abc import Iterator

from distmgcd.config import Config
from distmgcd.config.cost import cost_line
from distmgcd.config.sections import Data
from distmgcd.data import ImageSet, notes_of
from distmgcd.data.sources.source import ALL_SPLITS
from distmgcd.data.sources.splits import split_named
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.few_images import too_few
from distmgcd.models.run_images import pad_line


def start_lines(config: Config, images: ImageSet, held_out: ImageSet) -> Iterator[str]:
    """The images, what the run costs, then warnings, a sentence or two each."""
    yield _of_images(config, images, held_out)
    yield f"{cost_line(config, num_images=len(images))} How long that takes here is measured in the first updates."
    yield from warnings_of(config, images, held_out)


def warnings_of(config: Config, images: ImageSet, held_out: ImageSet) -> Iterator[str]:
    """What should be known of the images and of what the settings come to."""
    if warning := too_few(config, len(held_out)):
        yield warning
    if config.data.pad:
        yield f"{pad_line(config)} data.pad=0 adds none."
    yield from notes_of(images, held_out)
    learning = config.learning
    if learning.warmup_updates != learning.warmup:
        yield warmup_line(config)


def _of_images(config: Config, images: ImageSet, held_out: ImageSet) -> str:
    data = config.data
    if data.validation:
        why = f"data.validation={data.validation:g} keeps a part of {data.split!r} out, in place of {data.held_out!r}"
    else:
        why = f"data.split={data.split} and data.held_out={data.held_out}; splits {images.split_origin}"
    return f"Images: {len(images):,} to learn from, {len(held_out):,} held out ({why}).{_unused(data, images)}"


def _unused(data: Data, images: ImageSet) -> str:
    """The splits of the source that are neither learned from nor held out, as a sentence, or nothing."""
    used = [data.split, *([] if data.validation else [data.held_out])]
    splits = images.splits or {}
    taken = {split_named(name, list(splits)) for name in used}
    left = [f"{name} ({num:,} images)" for name, num in splits.items() if num and name not in taken]
    if ALL_SPLITS in used or not left:
        return ""
    made = f"; splits {images.split_origin}" if data.validation else ""
    return f" Not used: {', '.join(left)}{made}."


def check_different_splits(config: Config, images: ImageSet, held_out: ImageSet) -> None:
    """Raises UserError where the split that is learned from is also the one that is held out."""
    data = config.data
    if not data.validation and images.split == held_out.split:
        raise UserError(
            f"data.split and data.held_out must differ, but data.split={data.split} and data.held_out={data.held_out} "
            f"both name the split {images.split!r}; name another split by one of them, or set data.validation=0.2, "
            "which holds out a fifth of the images."
        )


def warmup_line(config: Config) -> str:
    learning, shorter = config.learning, config.learning.warmup_updates
    then = f"the learning rate rises over the first {shorter}" if shorter else "there is none"
    return f"learning.warmup={learning.warmup} does not fit into {learning.rate_updates} updates, so {then}."
