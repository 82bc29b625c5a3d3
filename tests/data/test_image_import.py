"""Importing a source into one Parquet file, and describing what is in one."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_images import png, random_images, write_encoded

from distmgcd.data import describe, import_images, open_images
from distmgcd.errors import UserError

IMAGES = random_images(20)


@pytest.fixture
def file(tmp_path) -> str:
    images = [png(image) for image in IMAGES]
    return write_encoded(tmp_path / "in.parquet", images, splits=["train", "test"] * 10, labels=[*range(19), None])


@pytest.mark.parametrize("layout", ["png", "raw"])
def test_an_imported_data_set_is_the_one_it_came_from(layout, file, cache, tmp_path):
    report = import_images(file, str(tmp_path / "new" / "out.parquet"), layout=layout)
    assert report.num_images == 20 and report.splits == {"train": 10, "test": 10} and report.skipped == ()
    assert report.num_bytes == report.path.stat().st_size and list(report.path.parent.iterdir()) == [report.path]
    wanted, found = (
        open_images(str(path), image_size=8, channels=3, split="test", cache_dir=cache) for path in (file, report.path)
    )
    np.testing.assert_array_equal(found.images, wanted.images)
    np.testing.assert_array_equal(found.labels, wanted.labels)


def test_columns_are_those_of_hugging_face(tmp_path):
    path = import_images("sklearn:digits", str(tmp_path / "digits.parquet")).path
    schema = pq.read_schema(path)
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"
    assert str(schema.field("label").type) == "int64" and str(schema.field("split").type) == "string"
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and features["label"]["names"] == list("0123456789")
    assert describe(str(path)).classes == tuple("0123456789")


def test_channels_and_size_are_converted_on_request(file, cache, tmp_path):
    path = str(import_images(file, str(tmp_path / "grey.parquet"), channels=1, image_size=4).path)
    grey = open_images(path, image_size=4, channels=1, split="all", cache_dir=cache)
    luma = IMAGES @ np.array([0.299, 0.587, 0.114])
    means = luma.reshape(20, 4, 2, 4, 2).mean(axis=(2, 4))
    assert np.abs(grey.images[:, 0] - means).max() < 1.1  # rounded twice: luma, then mean


def test_images_of_mixed_kinds_are_refused_unless_converted(tmp_path):
    mixed = write_encoded(tmp_path / "mixed.parquet", [png(IMAGES[0]), png(IMAGES[1, :, :, 0].copy())])
    with pytest.raises(
        UserError, match=r"row 1 of .* is grey and row 0 of .* is colour; pass --channels 1 or --channels 3"
    ):
        import_images(mixed, str(tmp_path / "out.parquet"))
    assert import_images(mixed, str(tmp_path / "out.parquet"), channels=3).num_images == 2


def test_raw_layout_wants_one_size(tmp_path):
    sizes = write_encoded(tmp_path / "sizes.parquet", [png(IMAGES[0]), png(IMAGES[1, :4, :6].copy())])
    with pytest.raises(UserError, match=r"row 1 of .* is 6x4 and row 0 of .* is 8x8; pass --image-size"):
        import_images(sizes, str(tmp_path / "out.parquet"), layout="raw")
    assert import_images(sizes, str(tmp_path / "out.parquet"), layout="raw", image_size=4).num_images == 2


def test_corrupt_rows_are_left_out_up_to_the_limit(tmp_path):
    bad = write_encoded(tmp_path / "bad.parquet", [b"rubbish", *(png(image) for image in IMAGES[1:])])
    dest = tmp_path / "out.parquet"
    with pytest.raises(UserError, match=r"data\.max_corrupt .* 1 of 20 .*: row 0 of "):
        import_images(bad, str(dest))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.parquet"]
    report = import_images(bad, str(dest), max_corrupt=0.05)
    assert report.num_images == 19 and [skipped.row for skipped in report.skipped] == [0]
    assert sum(report.splits.values()) == 19


def test_a_dest_that_cannot_be_is_refused_before_anything_is_read(file, tmp_path):
    wrong = {file: "exists and is never overwritten", str(tmp_path): "is a folder", "s3://b/x": "must be a local file"}
    for dest, sentence in wrong.items():
        with pytest.raises(UserError, match=sentence):
            import_images("sklearn:digits", dest)
    with pytest.raises(UserError, match="layout must be png or raw, but is 'jpeg'"):
        import_images(file, str(tmp_path / "x.parquet"), layout="jpeg")
    with pytest.raises(UserError, match=r"cannot be written .*choose a place that can"):
        import_images("sklearn:digits", f"{file}/below/a/file.parquet")


def test_a_description_counts_rows_and_samples_images(file):
    found = describe(file)
    assert found.splits == {"train": 10, "test": 10} and found.split_origin == "column 'split'"
    assert found.layout == "Parquet, encoded bytes" and found.labels == dict.fromkeys(range(19), 1)
    assert found.image_sizes == {(8, 8): 20} and found.channels == {3: 20} and found.num_sampled == 20
    np.testing.assert_array_equal(found.examples, IMAGES)


def test_a_description_lists_what_differs(tmp_path):
    mixed = [png(IMAGES[0]), b"rubbish", png(np.zeros((3, 5), np.uint8))]
    found = describe(write_encoded(tmp_path / "mixed.parquet", mixed))
    assert found.image_sizes == {(8, 8): 1, (5, 3): 1} and found.channels == {3: 1, 1: 1} and found.labels is None
    assert [skipped.row for skipped in found.corrupt] == [1] and len(found.examples) == 2


def test_a_folder_of_pictures_can_be_imported(tmp_path):
    for name in ("b", "a"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(tmp_path / "pictures" / name / "0.jpg")
    path = import_images(str(tmp_path / "pictures"), str(tmp_path / "out.parquet")).path
    assert describe(str(path)).image_sizes == {(9, 7): 2} and describe(str(path)).classes == ("a", "b")
