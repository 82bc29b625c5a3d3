"""Images in Parquet files, on any file system pyarrow knows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distmgcd.data.sources.find_files import Files, unreadable
from distmgcd.data.sources.parquet_column import ImageColumn, class_names, image_column, label_column, load, plain
from distmgcd.data.sources.pixels import what_is_there
from distmgcd.data.sources.source import NO_LABEL, Contents, Loader, made_split, named_splits
from distmgcd.data.sources.splits import GROUP_OF, splits_of_files
from distmgcd.errors import UserError

_NUM_ROWS_READ_AT_ONCE = 256
_SPLIT = "split"
_OTHER_SPLITS = ("subset", "partition", "set", "usage", "phase")  # taken if all they hold are names of splits
_TEST_EVERY = 10
_READ_ERRORS = (pa.ArrowException, OSError, ValueError)  # ValueError: of an extension type, about its metadata


class ParquetSource:
    """One Parquet file or many with columns of the same names, in the order of their paths.

    Each file says for itself how it stores images: Ray Data writes the shape of tensors into the type of the column.
    """

    def __init__(self, path: str, files: Files, *, notes: tuple[str, ...] = ()) -> None:
        self.path = path
        self._files = files
        self._notes = notes

    def identity(self) -> list[Any]:
        return ["parquet", self._files.identity()]

    def contents(self) -> Contents:
        columns, layout = self._small_columns()
        if columns.num_rows == 0:
            raise UserError(f"data.path {self.path!r} holds no rows; point data.path at a file with images.")
        names, codes, origin = self._splits(columns)
        labels, classes = self._labels(columns)
        return Contents(
            layout=layout, split_names=names, split_codes=codes, split_origin=origin,
            labels=labels, classes=classes, notes=self._notes,
        )  # fmt: skip

    def place(self, row: int) -> str:
        starts = np.cumsum([0, *self._rows_of_files])
        position = int(np.searchsorted(starts, row, side="right")) - 1
        return f"row {row - starts[position]} of {self._files.infos[position].path}"

    def images(self, rows: np.ndarray) -> Iterator[tuple[int, Loader]]:
        start = 0
        for position in range(len(self._files.infos)):
            with self._reading(position) as file:
                column = image_column(file.schema_arrow, path=self._files.infos[position].path)
                for group in range(file.num_row_groups):
                    num_rows = file.metadata.row_group(group).num_rows
                    low, high = np.searchsorted(rows, (start, start + num_rows))
                    if low < high:
                        batches = file.iter_batches(_NUM_ROWS_READ_AT_ONCE, row_groups=[group], columns=[column.name])
                        read = self._reader(column, position)
                        yield from self._images_of_group(batches, read, rows=rows[low:high], start=start)
                    start += num_rows

    def _reader(self, column: ImageColumn, position: int) -> Callable[[pa.Scalar], Image.Image]:
        folder = self._files.infos[position].path.rpartition("/")[0]
        return partial(load, column=column, file_system=self._files.file_system, folders=[folder, self._files.base])

    def _images_of_group(
        self,
        batches: Iterator[pa.RecordBatch],
        read: Callable[[pa.Scalar], Image.Image],
        *,
        rows: np.ndarray,
        start: int,
    ) -> Iterator[tuple[int, Loader]]:
        for batch in batches:
            low, high = np.searchsorted(rows, (start, start + batch.num_rows))
            values = plain(batch.column(0)).take(pa.array(rows[low:high] - start))
            for row, value in zip(rows[low:high].tolist(), values, strict=True):
                yield row, partial(read, value)
            start += batch.num_rows
            if high == len(rows):
                return

    @cached_property
    def _schema(self) -> pa.Schema:
        with self._reading(0) as file:
            return file.schema_arrow

    @cached_property
    def _image(self) -> ImageColumn:
        return image_column(self._schema, path=self.path)

    @cached_property
    def _rows_of_files(self) -> list[int]:
        rows = []
        for position in range(len(self._files.infos)):
            with self._reading(position) as file:
                rows.append(file.metadata.num_rows)
        return rows

    @contextmanager
    def _reading(self, position: int) -> Iterator[pq.ParquetFile]:
        """A file, open; what goes wrong inside is a UserError that names it."""
        info = self._files.infos[position]
        try:
            with self._files.file_system.open_input_file(info.path) as opened:
                if problem := what_is_there(opened.read(64)):
                    raise UserError(
                        f"The file {info.path!r} of data.path {self.path!r} is no Parquet file ({problem}); put the "
                        "file itself in its place, or leave it out of data.path."
                    )
                opened.seek(0)
                with pq.ParquetFile(opened) as file:
                    yield file
        except _READ_ERRORS as error:
            raise unreadable(self.path, error, file=info.path) from error

    def _split_column(self) -> str | None:
        of_text = {
            name.lower(): name
            for name, kind in zip(self._schema.names, self._schema.types, strict=True)
            if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
        }
        if _SPLIT in self._schema.names:
            return _SPLIT
        return next((of_text[name] for name in (_SPLIT, *_OTHER_SPLITS) if name in of_text), None)

    def _small_columns(self) -> tuple[pa.Table, str]:
        """Columns `file` (position), of the split and of the labels, of all files; and how these store images."""
        wanted = list(dict.fromkeys(filter(None, (self._split_column(), label_column(self._schema)))))
        tables, layouts = [], {}
        for position, info in enumerate(self._files.infos):
            with self._reading(position) as file:
                self._check_columns(file.schema_arrow, [self._image.name, *wanted], file_path=info.path)
                layouts[str(image_column(file.schema_arrow, path=info.path))] = None
                table = file.read(columns=wanted)
                num_rows = file.metadata.num_rows
            tables.append(table.select(wanted).append_column("file", pa.array([position] * num_rows, pa.int32())))
        try:
            return pa.concat_tables(tables, promote_options="permissive"), _layout_in_words(list(layouts))
        except pa.ArrowException as error:
            raise unreadable(self.path, error) from error

    def _check_columns(self, schema: pa.Schema, wanted: list[str], *, file_path: str) -> None:
        missing = [name for name in wanted if name not in schema.names]
        name = None if missing else image_column(schema, path=file_path).name
        if name != self._image.name:
            what = (
                f"has no column {missing[0]!r}" if missing else f"has its images in {name!r}, not {self._image.name!r},"
            )
            raise UserError(
                f"All Parquet files of data.path {self.path!r} must have the same columns, but {file_path!r} {what} "
                f"compared with the first, {self._files.infos[0].path!r}; point data.path at files of one data set."
            )

    def _splits(self, columns: pa.Table) -> tuple[tuple[str, ...], np.ndarray, str]:
        if (found := self._splits_of_column(columns)) is not None:
            return found
        files = splits_of_files([self._files.relative(i) for i in self._files.infos], pictures=False, source=self.path)
        if files is None:
            return made_split(columns.num_rows, every=_TEST_EVERY)
        names, code_of_file = named_splits(files.names)
        return names, code_of_file[columns.column("file").to_numpy()], files.origin

    def _splits_of_column(self, columns: pa.Table) -> tuple[tuple[str, ...], np.ndarray, str] | None:
        if (name := self._split_column()) is None:
            return None
        values = columns.column(name).cast(pa.string()).to_pylist()
        if name.lower() != _SPLIT and not all(value and value.lower() in GROUP_OF for value in set(values)):
            return None
        if None in values:
            raise UserError(
                f"Column {name!r} of data.path {self.path!r} must name a split in every row, but is null in "
                f"{self.place(values.index(None))}; fill it in, or drop the column to have a split made."
            )
        return *named_splits(values), f"column {name!r}"

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


def _layout_in_words(layouts: list[str]) -> str:
    more = f", and files that store them in {len(layouts) - 1} other ways or shapes" if len(layouts) > 1 else ""
    return f"Parquet, {layouts[0]}{more}"
