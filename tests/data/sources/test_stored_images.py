"""Images as Ray Data, Arrow and Hugging Face write them, files that are not what they seem, and which are read."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_images import encoded, png, random_images, write_encoded

from distmgcd.data import describe, open_images
from distmgcd.data.sources.find_files import find_files
from distmgcd.data.sources.parquet_column import image_column
from distmgcd.errors import UserError

GREY = random_images(6, channels=1)
COLOUR = random_images(6)
ALPHA = np.concatenate([COLOUR, np.full((6, 8, 8, 1), 255, np.uint8)], axis=3)
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def open_all(path, cache: Path, *, channels: int = 1, split: str = "all", **how):
    return open_images(str(path), image_size=8, channels=channels, split=split, cache_dir=cache, **how)


def ray_tensor(images: np.ndarray, *, version: str = "_v2", dumps: Callable = json.dumps) -> pa.Table:
    """What Ray Data writes, as pyarrow reads it where Ray Data was not imported."""
    lists = pa.large_list(pa.uint8()) if version else pa.list_(pa.uint8())
    metadata = {
        "ARROW:extension:name": f"ray.data.arrow_tensor{version}",
        "ARROW:extension:metadata": dumps(images.shape[1:]),
    }
    return _table(pa.array([image.ravel() for image in images], lists), metadata)


def ray_tensors_of_many_shapes(images: np.ndarray) -> pa.Table:
    kind = pa.struct([("data", pa.large_list(pa.uint8())), ("shape", pa.list_(pa.int64()))])
    rows = [{"data": image.ravel(), "shape": list(image.shape)} for image in images]
    name = {"ARROW:extension:name": "ray.data.arrow_variable_shaped_tensor"}
    return _table(pa.array(rows, kind), {**name, "ARROW:extension:metadata": json.dumps(images.ndim - 1)})


def ray_refuses(file: Path) -> bool:
    """Whether this process has Ray's own types, which do not read what Ray 2.49 to 2.54 pickled, and say so."""
    try:
        pq.read_schema(file)
    except ValueError:
        return True
    return False


def arrow_tensor(images: np.ndarray) -> pa.Table:
    return pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))})


def nested_lists(images: np.ndarray) -> pa.Table:
    kind: pa.DataType = pa.int64() if images.ndim == 3 else pa.uint8()
    for _ in images.shape[1:]:
        kind = pa.list_(kind)
    return pa.table({"image": pa.array(images.tolist(), kind)})


def _table(column: pa.Array, metadata: dict[str, str]) -> pa.Table:
    return pa.table([column], schema=pa.schema([pa.field("image", column.type, metadata=metadata)]))


WRITERS = {
    "Ray Data": ray_tensor,
    "Ray Data, older": lambda images: ray_tensor(images, version=""),
    "Ray Data 2.50": lambda images: ray_tensor(images, dumps=pickle.dumps),
    "Ray Data, many shapes": ray_tensors_of_many_shapes,
    "Arrow": arrow_tensor,
    "nested lists": nested_lists,
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("images", [GREY, COLOUR, np.moveaxis(COLOUR, 3, 1), ALPHA], ids=["hw", "hwc", "chw", "rgba"])
def test_tensors_give_the_pixels_that_were_written(writer, images, tmp_path, cache):
    pq.write_table(WRITERS[writer](images), tmp_path / "a.parquet", row_group_size=4)
    if writer == "Ray Data 2.50" and ray_refuses(tmp_path / "a.parquet"):
        with pytest.raises(UserError, match="set RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA=1"):
            open_all(tmp_path, cache)
        return
    expected = GREY[:, np.newaxis] if images is GREY else np.moveaxis(COLOUR, 3, 1)
    np.testing.assert_array_equal(open_all(tmp_path, cache, channels=expected.shape[1]).images, expected)


@pytest.mark.parametrize("writer", [ray_tensor, arrow_tensor, ray_tensors_of_many_shapes])
def test_every_file_may_have_tensors_of_a_shape_of_its_own(writer, tmp_path, cache):
    """Such as Ray Data writes of images of different heights, a row in each file."""
    for number, height in enumerate((8, 12, 9)):
        pq.write_table(writer(np.full((1, height, 8), 10 * number, np.uint8)), tmp_path / f"{number}.parquet")
    opened = open_all(tmp_path, cache)
    assert opened.images.shape == (3, 1, 8, 8) and opened.images[:, 0, 0, 0].tolist() == [0, 10, 20]
    found = describe(str(tmp_path))
    assert set(found.image_sizes) == {(8, 8), (8, 12), (8, 9)}
    if writer is not ray_tensors_of_many_shapes:
        assert found.layout == "Parquet, tensor 8x8, and files that store them in 2 other ways or shapes"


def test_one_file_may_hold_tensors_and_another_encoded_images(tmp_path, cache):
    pq.write_table(ray_tensor(GREY), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": pa.array([png(image) for image in GREY], pa.binary())}), tmp_path / "b.parquet")
    np.testing.assert_array_equal(open_all(tmp_path, cache).images[:, 0], np.concatenate([GREY, GREY]))


def test_images_in_a_column_of_another_name_in_another_file_are_refused(tmp_path, cache):
    files = pa.array([png(image) for image in GREY], pa.binary())
    pq.write_table(pa.table({"image": files, "img": files}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"img": files}), tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"same columns, but .*b\.parquet' has its images in 'image', not 'img', compared"
    ):
        open_all(tmp_path, cache)


def test_the_order_of_axes_that_an_arrow_tensor_tells_is_kept(tmp_path, cache):
    turned = np.ascontiguousarray(GREY[:, :, :6].transpose(0, 2, 1)).transpose(0, 2, 1)  # strides of W before H
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(turned)
    pq.write_table(pa.table({"image": array}), tmp_path / "a.parquet")
    assert array.type.permutation == [1, 0]
    np.testing.assert_array_equal(describe(str(tmp_path)).examples, turned[..., np.newaxis])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray about its own settings
def test_ray_datas_own_types_are_read_where_ray_has_registered_them(tmp_path, cache):
    extensions = pytest.importorskip("ray.data.extensions")
    pq.write_table(pa.table({"image": extensions.ArrowTensorArray.from_numpy(GREY)}), tmp_path / "a.parquet")
    assert "Tensor" in str(pq.read_schema(tmp_path / "a.parquet").field("image").type)
    np.testing.assert_array_equal(open_all(tmp_path, cache).images[:, 0], GREY)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 8, 8), np.float32)),
            r"holds arrow\.fixed_shape_tensor",
        ),
        (pa.array([[[0.5]]]), r"holds list<.*double>>, which is not a way of storing images .* uint8\.$"),
        (pa.array(["a.png"]), r"holds string, which is not a way"),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2, 8, 5), np.uint8)), r"tensors .* of shape 2x8x5"),
    ],
)
def test_a_column_named_image_that_holds_none_says_what_was_found(column, said, tmp_path, cache):
    pq.write_table(pa.table({"image": column, "x": [1] * len(column)}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=rf"^Column 'image' of data\.path .*{said}"):
        open_all(tmp_path, cache)


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())], ids=str)
def test_bytes_may_be_stored_as_views_or_in_a_dictionary(kind, tmp_path, cache):
    files = pa.array([png(image) for image in GREY], pa.binary())
    column = files.dictionary_encode() if pa.types.is_dictionary(kind) else files.cast(kind)
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(open_all(tmp_path, cache).images[:, 0], GREY)


def test_tensors_that_do_not_say_their_shape_are_refused_unread():
    for metadata in (b"", pickle.dumps(Path("x")), b"\x80junk"):
        named = {"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": metadata}
        field = pa.field("image", pa.list_(pa.uint8()), metadata=named)
        with pytest.raises(UserError, match="holds tensors that do not say their shape"):
            image_column(pa.schema([field]), path="a.parquet")


def test_numbers_that_are_no_pixels_are_corrupt(tmp_path, cache):
    values = [[[0, 256]], [[1], [2, 3]], [[-1, 0]], [[0, 255]]]
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet")
    reasons = " | ".join(skipped.reason for skipped in open_all(tmp_path, cache, max_corrupt=1).skipped)
    assert "from 0 to 256, outside 0 to 255" in reasons and "from -1" in reasons and "unequal lengths" in reasons


def test_absolute_paths_in_place_of_bytes_are_read_wherever_the_table_is(tmp_path, cache):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(png(GREY[0]))
    names = [str(tmp_path / "pictures" / "0.png"), str(tmp_path / "gone.png")]
    table = pa.table({"image": pa.array([{"bytes": None, "path": name} for name in names], HUGGING_FACE)})
    (tmp_path / "out" / "deep").mkdir(parents=True)
    pq.write_table(table, tmp_path / "out" / "deep" / "data.parquet")
    found = open_all(tmp_path / "out", cache, max_corrupt=1)
    np.testing.assert_array_equal(found.images[0, 0], GREY[0])
    assert found.skipped[0].reason == f"the file {names[1]} that the row names does not exist"
    (tmp_path / "out" / "deep" / "gone.png").write_bytes(png(GREY[1]))
    beside = pa.table({"image": pa.array([{"bytes": None, "path": "gone.png"}], HUGGING_FACE)})
    pq.write_table(beside, tmp_path / "out" / "deep" / "data.parquet")
    np.testing.assert_array_equal(open_all(tmp_path / "out", cache).images[0, 0], GREY[1])


def test_an_image_that_cannot_be_used_is_named_by_its_file_and_row(tmp_path, cache):
    for name, images in (("a", [png(i) for i in GREY]), ("b", [png(GREY[0]), b"", png(GREY[1])])):
        write_encoded(tmp_path / "tables" / f"{name}.parquet", images)
    with pytest.raises(UserError, match=r"1 of 9 .*: row 1 of \S+/b\.parquet \(0 bytes: the file is empty\); mend"):
        open_all(tmp_path / "tables", cache)
    write_encoded(tmp_path / "tables" / "b.parquet", [png(GREY[0]), png(COLOUR[0])])
    with pytest.raises(UserError, match=r"but row 1 of \S+/b\.parquet is colour .*if all are, or make all one kind"):
        open_all(tmp_path / "tables", cache)
    for number, image in enumerate((png(GREY[0]), POINTER, b"<!DOCTYPE html><html>")):
        (tmp_path / f"{number}.png").write_bytes(image)
    with pytest.raises(UserError, match=r"/1\.png \(a pointer of Git LFS.*git lfs pull.*/2\.png \(a web page, not"):
        open_all(tmp_path / "*.png", cache)


@pytest.mark.parametrize(
    ("found", "said"),
    [(b"", "0 bytes: the file is empty"), (POINTER, "run `git lfs pull`"), (b"PAR1 and no more", "cannot be read")],
)
def test_a_shard_that_is_no_parquet_file_is_named(found, said, tmp_path, cache):
    write_encoded(tmp_path / "a.parquet", [png(GREY[0])])
    (tmp_path / "b.parquet").write_bytes(found)
    with pytest.raises(UserError, match=rf"^The file '\S+/b\.parquet' of data\.path .*{said}"):
        open_all(tmp_path, cache)


def test_metadata_beside_images_is_no_data_set(tmp_path, cache):
    (tmp_path / "0.png").write_bytes(png(GREY[0]))
    pq.write_table(pa.table({"file_name": ["0.png"], "caption": ["c"]}), tmp_path / "metadata.parquet")
    found = open_all(tmp_path, cache)
    assert len(found) == 1 and found.notes == ("Of the files there, these are not read: 1 .parquet.",)


def test_images_of_every_usual_extension_are_read_and_the_rest_is_told(tmp_path, cache):
    forms = {"png": "PNG", "ppm": "PPM", "jfif": "JPEG", "PGM": "PPM", "tga": "TGA", "webp": "WEBP"}
    for extension, form in forms.items():
        (tmp_path / f"image.{extension}").write_bytes(encoded(Image.fromarray(COLOUR[0]), form))
    for name in ("a.txt", "b.txt", "c.heic", "LICENSE", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    found = describe(str(tmp_path))
    assert found.num_rows == len(forms) and not found.corrupt
    assert found.notes[0] == "Of the files there, these are not read: 2 .txt, 1 .heic, 1 without extension." or (
        sorted(found.notes[0][:-1].split(": ")[1].split(", ")) == ["1 .heic", "1 without extension", "2 .txt"]
    )


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.pq", "a.pq x/b.pq x/y/c.pq"),
        ("x/**/*.pq", "x/b.pq x/y/c.pq"),
        ("**/y/*.pq", "x/y/c.pq"),
        ("**", "a.pq x/b.pq x/y/c.pq"),
        ("*.pq", "a.pq"),
        ("*/*.pq", "x/b.pq"),
        ("x*", "x/b.pq x/y/c.pq"),  # a folder, and so all in it
        ("x*/", "x/b.pq x/y/c.pq"),
        ("[ab].pq", "a.pq"),
    ],
)
def test_a_glob_finds_what_a_shell_would(pattern, names, tmp_path):
    for name in ("a.pq", "x/b.pq", "x/y/c.pq"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for path in (f"{tmp_path}/{pattern}", f"file://{tmp_path}/{pattern}"):
        found = find_files(path)
        assert [os.path.relpath(f"/{info.path.lstrip('/')}", tmp_path) for info in found.infos] == names.split()


@pytest.mark.parametrize("above", ["set", "."])
def test_a_link_to_a_folder_above_does_not_give_its_files_again_and_one_to_nothing_is_told(above, tmp_path):
    write_encoded(tmp_path / "set" / "a.parquet", [png(image) for image in GREY])
    (tmp_path / "set" / "above").symlink_to(tmp_path / above)
    (tmp_path / "other").mkdir()
    (tmp_path / "set" / "elsewhere").symlink_to(tmp_path / "other")
    write_encoded(tmp_path / "other" / "b.parquet", [png(image) for image in GREY])
    (tmp_path / "set" / "gone.parquet").symlink_to(tmp_path / "nowhere")
    found = describe(str(tmp_path / "set"))
    assert found.num_rows == 12 and found.notes[0] == "Of the files there, these are not read: 1 link to nothing."


def test_an_empty_path_is_not_the_folder_that_one_is_in(cache):
    with pytest.raises(UserError, match=r"data\.path is empty; name a"):
        open_all("", cache)


def test_stars_within_a_name_and_addresses_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    for path, said in (
        (f"{tmp_path}/**.pq", r"\*\* must stand alone between slashes.*write DIR/\*\*/"),
        ("https://host/a.parquet", "is an address of the web, from which nothing is read; download"),
    ):
        with pytest.raises(UserError, match=said):
            find_files(path)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"'hf://datasets/a/b' needs huggingface_hub.*pip install huggingface_hub"):
        find_files("hf://datasets/a/b")
