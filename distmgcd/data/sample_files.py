"""Samples as data: a model's pictures in a file that other programs, or another run, read as images."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def write_parquet(images: np.ndarray, dest: Path) -> None:
    """uint8 [N, C, S, S] as PNG files in the Hugging Face layout, split "train"; `open_images` reads it back."""
    rows = [{"bytes": _png(image), "path": f"{number:08d}.png"} for number, image in enumerate(images)]
    column = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": column, "split": ["train"] * len(rows)}), dest, compression="zstd")


def write_npz(images: np.ndarray, dest: Path) -> None:
    """uint8 [N, C, S, S] as the array `images` of a compressed .npz file."""
    with dest.open("wb") as file:
        np.savez_compressed(file, images=images)


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).save(file, format="PNG")
    return file.getvalue()
