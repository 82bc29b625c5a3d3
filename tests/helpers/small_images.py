"""Small images made on the fly."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def random_images(num_images: int, *, size: int = 8, channels: int = 3) -> np.ndarray:
    """uint8 [N, S, S, 3] or [N, S, S]."""
    shape = (num_images, size, size, 3) if channels == 3 else (num_images, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, format=form)
    return file.getvalue()


def write_encoded(file: Path, images: list, *, splits: list[str] | None = None, labels: list | None = None) -> str:
    """A Parquet file of image files; column split and label only if given."""
    columns = {"image": pa.array(images, pa.binary())}
    if splits is not None:
        columns["split"] = pa.array(splits)
    if labels is not None:
        columns["label"] = pa.array(labels)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return str(file)
