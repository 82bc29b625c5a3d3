"""Images: any source into one Parquet file, any split into shared memory-mapped pixels, any update to its batch."""

from distmgcd.data.description import Description, describe
from distmgcd.data.image_cache import open_images
from distmgcd.data.image_set import ImageSet, notes_of
from distmgcd.data.importer import ImportReport, import_images
from distmgcd.data.order import batch_indices, check_shares, shard
from distmgcd.data.sources.source import SkippedRow

__all__ = [
    "Description",
    "ImageSet",
    "ImportReport",
    "SkippedRow",
    "batch_indices",
    "check_shares",
    "describe",
    "import_images",
    "notes_of",
    "open_images",
    "shard",
]
