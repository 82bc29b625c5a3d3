"""Small images made on the fly, and what opens them."""

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distmgcd.data import image_cache, open_images


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


def open_train(file: str, cache: Path, **changes):
    return open_images(file, **{"image_size": 8, "channels": 3, "split": "train", "cache_dir": cache, **changes})


def open_and_count(file, cache, barrier, results) -> None:
    """In a process of its own: put how many entries it built, and the pixels, into results."""
    builds = []
    build = image_cache.build

    def slow_build(*args, **kwargs):
        builds.append(1)
        time.sleep(0.3)
        return build(*args, **kwargs)

    image_cache.build = slow_build
    barrier.wait()
    train = open_train(file, cache)
    results.put((len(builds), train.images.tobytes()))
