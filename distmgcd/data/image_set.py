"""Decoded images, as the trainer sees them."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from distmgcd.data.sources.corrupt import SkippedRow


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
    split_origin: str  # for a person: where the splits come from
    fingerprint: str  # of the source's files and of how they were decoded
    content: str  # hash of all pixels: the same for the same images at another path, in another layout, copied anew
    splits: dict[str, int] | None = None  # rows of every split of the source; None in an entry of an earlier version
    notes: tuple[str, ...] = ()  # what a person should know of these images before using them, a sentence each

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """For a log: where the images are from."""
        return f"{self.path} [{self.split}]"

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.images.shape[2]

    @property
    def channels(self) -> int:
        return self.images.shape[1]
