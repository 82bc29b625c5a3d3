"""Images in Parquet files, on any file system pyarrow knows."""

import re
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distmgcd.data import pixels
from distmgcd.data.corrupt import CorruptImage
from distmgcd.data.files import Files, unreadable
from distmgcd.data.parquet_schema import ImageColumn, Layout, class_names, image_column, label_column
from distmgcd.data.source import NO_LABEL, SPLIT_FOLDERS, Contents, Loader, made_split, named_splits
from distmgcd.errors import UserError

_NUM_ROWS_READ_AT_ONCE = 256
_SPLIT = "split"
_TEST_EVERY = 10
_READ_ERRORS = (pa.ArrowException, OSError)
_NAME_WITH_SPLIT = re.compile(rf"(?:^|/)({'|'.join(SPLIT_FOLDERS)})(?:[-_.][^/]*|/.*)$")


class ParquetSource:
    """One Parquet file or many with the same columns, in the order of their paths."""

    def __init__(self, path: str, files: Files) -> None:
        self.path = path
        self._files = files

    def identity(self) -> list[Any]:
        return ["parquet", self._files.identity()]

    def contents(self) -> Contents:
        try:
            columns = self._small_columns()
        except _READ_ERRORS as error:
            raise unreadable(self.path, error) from error
        if columns.num_rows == 0:
            raise UserError(f"data.path {self.path!r} holds no rows; point data.path at a file with images.")
        names, codes, origin = self._splits(columns)
        labels, classes = self._labels(columns)
        return Contents(
            layout=f"Parquet, {self._image}", split_names=names, split_codes=codes, split_origin=origin,
            labels=labels, classes=classes,
        )  # fmt: skip

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        try:
            for start, group, file in self._row_groups():
                num_rows = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, (start, start + num_rows))
                if low < high:
                    yield from self._images_of_group(file, group=group, rows=rows[low:high], start=start)
        except _READ_ERRORS as error:
            raise unreadable(self.path, error) from error

    def _images_of_group(
        self, file: pq.ParquetFile, *, group: int, rows: np.ndarray, start: int
    ) -> Iterator[tuple[int, Loader]]:
        batches = file.iter_batches(_NUM_ROWS_READ_AT_ONCE, row_groups=[group], columns=[self._image.name])
        for batch in batches:
            low, high = np.searchsorted(rows, (start, start + batch.num_rows))
            values = batch.column(0).take(pa.array(rows[low:high] - start))
            for row, value in zip(rows[low:high].tolist(), values, strict=True):
                yield row, partial(self._load, value)
            start += batch.num_rows
            if high == len(rows):
                return

    def _load(self, value: pa.Scalar) -> Image.Image:
        if not value.is_valid:
            raise CorruptImage("no image: the value is null")
        if self._image.layout is Layout.ENCODED:
            return pixels.decode(value.as_py())
        if self._image.layout is Layout.HUGGING_FACE:
            return pixels.decode(self._bytes_of_struct(value.as_py()))
        is_list = isinstance(value, pa.ListScalar)
        raw = value.values.to_numpy(zero_copy_only=False) if is_list else value.as_py()
        return pixels.from_raw(raw, self._image.shape)

    def _bytes_of_struct(self, value: dict[str, Any]) -> bytes:
        if value["bytes"] is not None:
            return value["bytes"]
        name = value.get("path")
        if not name:
            raise CorruptImage("no image: neither bytes nor path is given")
        try:
            with self._files.file_system.open_input_file(f"{self._files.base}/{name}") as file:
                return file.read()
        except FileNotFoundError:
            raise CorruptImage(f"the file {name} that the row names is not beside the Parquet file") from None
        except OSError as error:  # the file, not its image, is the trouble: skipping would hide it
            raise unreadable(self.path, error) from error

    @cached_property
    def _schema(self) -> pa.Schema:
        return self._open(0).schema_arrow

    @cached_property
    def _image(self) -> ImageColumn:
        return image_column(self._schema, path=self.path)

    def _open(self, position: int) -> pq.ParquetFile:
        return pq.ParquetFile(self._files.file_system.open_input_file(self._files.infos[position].path))

    def _row_groups(self) -> Iterator[tuple[int, int, pq.ParquetFile]]:
        """(first row, row group of the file, file) in order."""
        start = 0
        for position in range(len(self._files.infos)):
            with self._open(position) as file:
                for group in range(file.num_row_groups):
                    yield start, group, file
                    start += file.metadata.row_group(group).num_rows

    def _small_columns(self) -> pa.Table:
        """Columns `file` (position), `split` and the labels, of all files."""
        wanted = [name for name in (_SPLIT, label_column(self._schema)) if name in self._schema.names]
        tables = []
        for position, info in enumerate(self._files.infos):
            with self._open(position) as file:
                self._check_columns(file.schema_arrow, [self._image.name, *wanted], file_path=info.path)
                table = file.read(columns=wanted)
                num_rows = file.metadata.num_rows
            tables.append(table.select(wanted).append_column("file", pa.array([position] * num_rows, pa.int32())))
        return pa.concat_tables(tables, promote_options="permissive")

    def _check_columns(self, schema: pa.Schema, wanted: list[str], *, file_path: str) -> None:
        missing = [name for name in wanted if name not in schema.names]
        if missing or image_column(schema, path=file_path) != self._image:
            what = f"has no column {missing[0]!r}" if missing else f"stores column {self._image.name!r} differently"
            raise UserError(
                f"All Parquet files of data.path {self.path!r} must have the same columns, but {file_path!r} {what} "
                f"compared with the first, {self._files.infos[0].path!r}; point data.path at files of one data set."
            )

    def _splits(self, columns: pa.Table) -> tuple[tuple[str, ...], np.ndarray, str]:
        if _SPLIT in columns.column_names:
            return self._splits_of_column(columns.column(_SPLIT))
        matches = [_NAME_WITH_SPLIT.search(self._files.relative(info)) for info in self._files.infos]
        if not all(matches):
            return made_split(columns.num_rows, every=_TEST_EVERY)
        names, code_of_file = named_splits(match[1] for match in matches)
        return names, code_of_file[columns.column("file").to_numpy()], "names of the files"

    def _splits_of_column(self, column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray, str]:
        values = column.cast(pa.string()).to_pylist()
        if None in values:
            raise UserError(
                f"Column 'split' of data.path {self.path!r} must name a split in every row, but is null in row "
                f"{values.index(None)}; fill it in, or drop the column to have a split made."
            )
        return *named_splits(values), "column 'split'"

    def _labels(self, columns: pa.Table) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
        name = label_column(self._schema)
        if name is None or columns.column(name).null_count == columns.num_rows:
            return None, None
        column = columns.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            classes = tuple(sorted(set(column.drop_null().to_pylist())))
            code_of = {text: code for code, text in enumerate(classes)}
            return np.array([code_of.get(text, NO_LABEL) for text in column.to_pylist()]), classes
        try:
            labels = column.cast(pa.int64()).fill_null(NO_LABEL).to_numpy()
        except pa.ArrowException:
            raise UserError(
                f"Column {name!r} of data.path {self.path!r} must hold whole numbers or strings to be labels, but "
                f"holds {column.type}; convert it, or rename it if it is no label."
            ) from None
        return labels, class_names(self._schema, name)
