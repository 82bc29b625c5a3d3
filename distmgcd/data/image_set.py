"""Decoded images, and what a user should know of them: copies, flat images, transparency."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distmgcd.data.sources import pixels
from distmgcd.data.sources.source import SkippedRow


def hash_of_pixels(pixels: bytes) -> int:
    """64 bits: two of a million different images share one by chance in 1 of 40 million data sets."""
    return int.from_bytes(hashlib.blake2b(pixels, digest_size=8).digest(), "little")


def content_of(hashes: np.ndarray, shape: tuple[int, int, int]) -> str:
    """The hash of all pixels of a set, from those of its images in their order and the shape of each."""
    return hashlib.sha256(f"uint8 {shape} ".encode() + hashes.astype("<u8").tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """N square images of one split, all of the same size and channels. Every array is read-only."""

    images: np.ndarray = field(repr=False)  # uint8 [N, C, S, S], memory-mapped: in no process's own memory
    labels: np.ndarray | None = field(repr=False)  # int64 [N], -1 where a row has none; None if no row has one
    rows: np.ndarray = field(repr=False)  # int64 [N], ascending: the row of each image in the source
    hashes: np.ndarray = field(repr=False)  # uint64 [N], hash_of_pixels of each image
    skipped: tuple[SkippedRow, ...]  # corrupt rows of the split
    classes: tuple[str, ...] | None  # names of the labels 0, 1, ...
    path: str  # data.path as the user wrote it
    split: str
    split_origin: str  # in words: where the splits come from
    fingerprint: str  # of the source's files and of how they were decoded
    content: str  # hash of all pixels: the same for the same images at another path, in another layout, copied anew
    splits: dict[str, int] | None = None  # rows of every split of the source; None in an entry of an earlier version
    notes: tuple[str, ...] = ()  # what a user should know of these images, one sentence each

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """For a log: where the images are from."""
        return f"{self.path} [{self.split}]"

    @property
    def image_size(self) -> int:
        """Pixels per side."""
        return self.images.shape[2]

    @property
    def channels(self) -> int:
        return self.images.shape[1]


_MOSTLY = 0.5


class Look(NamedTuple):
    """What is noticed of one image."""

    value: tuple[int, ...] | None  # of all its pixels, if they have one: a level for each channel
    fraction_clear: float | None  # of its pixels, how many are wholly transparent; None if all are opaque


def look_at(image: Image.Image, flat: Image.Image) -> Look:
    """Of an image as it was decoded, and of it without its transparency."""
    extrema: Any = flat.getextrema()  # (low, high), or one such pair for each channel
    bounds = (extrema,) if flat.mode == "L" else extrema
    value = tuple(int(low) for low, _ in bounds) if all(low == high for low, high in bounds) else None
    return Look(value, pixels.fraction_clear(image) if image.mode in ("LA", "RGBA") else None)


@dataclass
class Noticed:
    """Counts over the images of a set."""

    of: str  # the split, in words
    num_images: int = 0
    num_copies: int = 0
    num_left_out: int = 0
    num_flat: int = 0
    num_transparent: int = 0
    num_mostly_clear: int = 0
    values: set[tuple[int, ...]] = field(default_factory=set)  # of flat images
    seen: set[int] = field(default_factory=set, repr=False)

    def add(self, hash_of_image: int, look: Look) -> None:
        self.num_images += 1
        self.num_copies += hash_of_image in self.seen
        self.seen.add(hash_of_image)
        self.num_transparent += look.fraction_clear is not None
        self.num_mostly_clear += (look.fraction_clear or 0.0) > _MOSTLY
        if look.value is not None:
            self.num_flat += 1
            self.values.add(look.value)

    def notes(self, *, background: str, setting: str = "data.background") -> list[str]:
        """A sentence for everything that is not as one expects."""
        of = f"of {self.num_images:,} images ({self.of})"
        which = f" and the same one, {_in_words(next(iter(self.values)))}" if len(self.values) == 1 else ""
        most = (
            f", {self.num_mostly_clear:,} of them in more than half of their pixels," if self.num_mostly_clear else ""
        )
        sentences = {
            f"Images left out of {self.of} because they are held out, too: {self.num_left_out:,}.": self.num_left_out,
            f"{self.num_copies:,} {of} repeat another of them, pixel by pixel.": self.num_copies,
            f"{self.num_flat:,} {of} are one value all over{which}: there is nothing to see in them.": self.num_flat,
            f"{self.num_transparent:,} {of} are transparent{most} and lie over {background}; {setting} is the colour "
            "behind them: black, white or '#rrggbb'.": self.num_transparent,
        }
        return [sentence for sentence, num in sentences.items() if num]


def _in_words(value: Sequence[int]) -> str:
    return f"level {value[0]} of 0 to 255" if len(set(value)) == 1 else f"RGB {', '.join(map(str, value))}"


def notes_of(images: ImageSet, held_out: ImageSet) -> tuple[str, ...]:
    """The notes of both, each once, and how many of the held-out images are among the others, pixel by pixel."""
    num = int(np.isin(held_out.hashes, images.hashes).sum())
    shared = (
        f"{num:,} of {len(held_out):,} held-out images ({100 * num / len(held_out):.3g} %) are also among the images "
        "to train on, pixel by pixel, which makes distances look better than they are; data.leave_out_copies=true "
        "leaves them out of training."
    )
    return tuple(dict.fromkeys((*([shared] if num else []), *images.notes, *held_out.notes)))
