"""Every kind of source: the same pixels whatever they are stored as, and a sentence for every mistake."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image
from pyarrow import fs
from small_images import png, random_images, write_encoded

from distmgcd.data import describe, open_images
from distmgcd.data.sources.find_files import Files
from distmgcd.data.sources.open_source import open_source
from distmgcd.data.sources.parquet_file import ParquetSource
from distmgcd.errors import UserError

IMAGES = random_images(12)
FASHION = Path("/usr/share/datasets/fashion-mnist")


def open_all(path, cache: Path, *, size: int = 8, channels: int = 3, split: str = "all"):
    return open_images(str(path), image_size=size, channels=channels, split=split, cache_dir=cache)


def raw_column(images: np.ndarray, kind: pa.DataType) -> pa.Array:
    flat = [image.tobytes() for image in images]
    return pa.array([list(pixels) for pixels in flat] if pa.types.is_list(kind) else flat, kind)


HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LAYOUTS = {
    "hugging face": lambda: (pa.array([{"bytes": png(i), "path": None} for i in IMAGES], HUGGING_FACE), None),
    "encoded": lambda: (pa.array([png(i) for i in IMAGES], pa.large_binary()), None),
    "raw binary": lambda: (raw_column(IMAGES, pa.binary()), {"shape": "[8, 8, 3]"}),
    "raw fixed size": lambda: (raw_column(IMAGES, pa.binary(192)), {"shape": "8x8x3"}),
    "raw list": lambda: (raw_column(IMAGES, pa.list_(pa.uint8())), {"shape": "8, 8, 3"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_same_images_gives_the_same_pixels(layout, tmp_path, cache):
    column, metadata = LAYOUTS[layout]()
    schema = pa.schema([pa.field("image", column.type, metadata=metadata)])
    pq.write_table(pa.table([column], schema=schema), tmp_path / "images.parquet", row_group_size=5)
    found = open_all(tmp_path / "images.parquet", cache)
    np.testing.assert_array_equal(found.images, np.moveaxis(IMAGES, 3, 1))
    assert found.labels is None


def test_a_split_scattered_over_large_row_groups_is_found_whole(tmp_path, cache):
    values = np.arange(1500)
    pixels = np.stack([values % 256, values // 256], axis=1).astype(np.uint8)  # each says which row it is
    schema = pa.schema([pa.field("image", pa.binary(), metadata={"shape": "1x2"}), ("split", pa.string())])
    splits = np.where(values % 7 == 3, "test", "train")
    table = pa.table([raw_column(pixels, pa.binary()), pa.array(splits)], schema=schema)
    pq.write_table(table, tmp_path / "images.parquet", row_group_size=700, data_page_size=300)
    source = open_source(str(tmp_path / "images.parquet"))
    source.contents()
    rows = np.flatnonzero(splits == "test")
    found = [(row, *np.asarray(load())[0].tolist()) for row, load in source.images(rows)]
    assert found == [(row, row % 256, row // 256) for row in rows.tolist()]


def test_the_format_of_the_schema_may_say_that_pixels_are_raw(tmp_path, cache):
    grey = random_images(3, channels=1)
    table = pa.table({"img": raw_column(grey, pa.binary())})
    pq.write_table(table.replace_schema_metadata({"format": "raw uint8 8x8 row-major"}), tmp_path / "raw.parquet")
    np.testing.assert_array_equal(open_all(tmp_path / "raw.parquet", cache, channels=1).images[:, 0], grey)


def test_a_path_beside_the_parquet_file_may_stand_for_the_bytes(tmp_path, cache):
    (tmp_path / "one.png").write_bytes(png(IMAGES[0]))
    rows = [{"bytes": None, "path": path} for path in ("one.png", "gone.png", None)] + [None]
    pq.write_table(pa.table({"image": pa.array(rows, HUGGING_FACE)}), tmp_path / "paths.parquet")
    found = open_images(str(tmp_path), image_size=8, channels=3, split="all", max_corrupt=1, cache_dir=cache)
    np.testing.assert_array_equal(found.images[0], np.moveaxis(IMAGES[0], 2, 0))
    reasons = " | ".join(skipped.reason for skipped in found.skipped)
    for reason in ("gone.png that the row names is not beside", "neither bytes nor path", "null"):
        assert reason in reasons


def test_a_folder_a_glob_and_an_address_of_parquet_files_are_read_in_order(tmp_path, cache):
    for part in range(3):
        write_encoded(tmp_path / f"part-{part}.parquet", [png(i) for i in IMAGES[4 * part : 4 * part + 4]])
    expected = np.moveaxis(IMAGES, 3, 1)
    for path in (tmp_path, f"{tmp_path}/part-*.parquet", f"file://{tmp_path}", f"file://{tmp_path}/part-*.parquet"):
        np.testing.assert_array_equal(open_all(path, cache).images, expected)
    assert open_all(f"{tmp_path}/part-[12].parquet", cache).rows.tolist() == list(range(8))


def test_any_pyarrow_file_system_will_do(tmp_path):
    write_encoded(tmp_path / "bucket" / "a.parquet", [png(i) for i in IMAGES])
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    source = ParquetSource("s3://bucket", Files(remote, "bucket", (remote.get_file_info("bucket/a.parquet"),)))
    loaded = [np.asarray(load()) for _, load in source.images(np.array([2, 11]))] if source.contents() else []
    np.testing.assert_array_equal(loaded, IMAGES[[2, 11]])


def test_splits_come_from_the_names_of_the_files_where_there_is_no_column(tmp_path, cache):
    write_encoded(tmp_path / "test-00000-of-00001.parquet", [png(i) for i in IMAGES[:4]])
    write_encoded(tmp_path / "train-00000-of-00001.parquet", [png(i) for i in IMAGES[4:]])
    assert open_all(tmp_path, cache, split="train").rows.tolist() == list(range(4, 12))
    assert describe(str(tmp_path)).split_origin == "names of the files"


def test_a_source_without_a_split_holds_out_every_tenth_row_and_says_so(tmp_path, cache):
    file = write_encoded(tmp_path / "images.parquet", [png(i) for i in IMAGES])
    assert open_all(file, cache, split="test").rows.tolist() == [9]
    assert len(open_all(file, cache, split="train")) == 11
    assert "every 10th row is test" in describe(file).split_origin


def test_labels_may_be_null_or_strings(tmp_path, cache):
    images = [png(i) for i in IMAGES[:3]]
    file = write_encoded(tmp_path / "null.parquet", images, labels=[1, None, 2])
    assert open_all(file, cache).labels.tolist() == [1, -1, 2]
    named = open_all(write_encoded(tmp_path / "named.parquet", images, labels=["dog", "cat", "dog"]), cache)
    assert named.labels.tolist() == [1, 0, 1] and named.classes == ("cat", "dog")


def test_folders_are_splits_and_labels(tmp_path, cache):
    places = ["train/cat/0.png", "train/dog/1.png", "test/dog/2.png", "train/cat/deep/3.png", "train/.hidden.png"]
    for place, image in zip(places, IMAGES, strict=False):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "set" / place)
    train = open_all(tmp_path / "set", cache, split="train")
    assert train.labels.tolist() == [0, 0, 1] and train.classes == ("cat", "dog") and train.rows.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(train.images, np.moveaxis(IMAGES[[0, 3, 1]], 3, 1))
    assert describe(str(tmp_path / "set")).splits == {"test": 1, "train": 3}
    Image.fromarray(IMAGES[0]).save(tmp_path / "set" / "astray.png")
    with pytest.raises(UserError, match=r"every file must be in one, but .*astray\.png' is not; move it"):
        open_all(tmp_path / "set", cache)


def test_digits_are_scikit_learns(cache):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    found = open_all("sklearn:digits", cache, channels=1)
    np.testing.assert_array_equal(found.images[:, 0], np.rint(digits.images * 255 / 16))
    np.testing.assert_array_equal(found.labels, digits.target)
    test = open_all("sklearn:digits", cache, channels=1, split="test")
    assert (test.rows % 5 == 4).all() and len(test) == 359


def test_fashion_mnist_through_torchvision(cache, tmp_path):
    pytest.importorskip("torchvision")
    if not FASHION.exists():
        pytest.skip(f"Debian's package dataset-fashion-mnist is absent: {FASHION}")
    folder = tmp_path / "idx"
    folder.mkdir()
    for file in FASHION.glob("t10k-*"):  # the small half, in both places, for the sake of time
        (folder / file.name).symlink_to(file)
        (folder / file.name.replace("t10k", "train")).symlink_to(file)
    found = describe(f"torchvision:FashionMNIST?root={folder}")
    assert found.splits == {"train": 10000, "test": 10000} and found.labels == dict.fromkeys(range(10), 2000)
    assert found.image_sizes == {(28, 28): 64} and found.classes[9] == "Ankle boot"
    assert np.array(found.examples[0]).shape == (28, 28, 1) and np.array(found.examples).std() > 50


def test_svhn_by_name_has_its_two_splits_and_labels(tmp_path, cache, monkeypatch):
    """torchvision's own reader, on made files: the real ones differ in size and in checksum only."""
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    generator, made = np.random.default_rng(0), {}
    for split, num in (("train", 30), ("test", 20)):
        images = generator.integers(256, size=(32, 32, 3, num), dtype=np.uint8)
        labels = 1 + np.arange(num) % 10  # the file calls the digit 0 "10"
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels[:, None].astype(np.uint8)})
        made[split] = np.transpose(images, (3, 2, 0, 1)), labels % 10
    path = f"torchvision:SVHN?root={tmp_path}"
    assert describe(path).splits == {"train": 30, "test": 20}
    for split, (images, labels) in made.items():
        found = open_images(path, image_size=32, channels=3, split=split, cache_dir=cache)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)


def test_a_torchvision_data_set_that_is_not_there_says_where_it_was_looked_for(tmp_path, cache):
    pytest.importorskip("torchvision")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=rf"CIFAR10 was looked for in '{root}' .* add download=1"):
            open_all(f"torchvision:CIFAR10?root={root}", cache)
    with pytest.raises(UserError, match=r"'Nothing' is none; there are .*FashionMNIST"):
        open_all(f"torchvision:Nothing?root={tmp_path}", cache)


def _table(columns: dict, tmp_path: Path) -> str:
    pq.write_table(pa.table(columns), tmp_path / "wrong.parquet")
    return str(tmp_path / "wrong.parquet")


def test_every_mistake_about_a_parquet_file_has_a_sentence(tmp_path, cache):
    image = pa.array([png(IMAGES[0])], pa.binary())
    wrong = {
        r"its columns are x \(int64\); rename": {"x": [1]},
        r"exactly one column of bytes, but its columns are a .*, b ": {"a": image, "b": image},
        "does not say their shape": {"image": raw_column(IMAGES[:1], pa.binary(192))},
        "holds no rows": {"image": image.slice(0, 0)},
        "null in row 0": {"image": image, "split": pa.array([None], pa.string())},
        "whole numbers or strings": {"image": image, "label": [0.5]},
    }
    for sentence, columns in wrong.items():
        with pytest.raises(UserError, match=sentence):
            open_all(_table(columns, tmp_path), cache)


def test_every_mistake_about_a_path_has_a_sentence(tmp_path, cache):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    wrong = {
        tmp_path / "nowhere.parquet": "does not exist",
        f"{tmp_path}/*.nothing": "does not exist",
        tmp_path / "broken.parquet": "cannot be read",
        tmp_path / "texts": "neither Parquet files .* nor images",
        "nosuch://bucket/x": "cannot be read",
        "sklearn:faces": "of scikit-learn there is only 'sklearn:digits'",
    }
    for path, sentence in wrong.items():
        with pytest.raises(UserError, match=sentence) as raised:
            open_all(path, cache)
        assert str(raised.value).startswith("data.path") and "\n" not in str(raised.value)


def test_parquet_files_of_different_data_sets_are_refused(tmp_path, cache):
    write_encoded(tmp_path / "a.parquet", [png(IMAGES[0])], labels=[1])
    write_encoded(tmp_path / "b.parquet", [png(IMAGES[0])])
    with pytest.raises(UserError, match=r"same columns, but .*b\.parquet' has no column 'label'"):
        open_all(tmp_path, cache)


def test_a_file_cut_short_is_a_sentence_not_a_traceback(tmp_path, cache):
    file = Path(write_encoded(tmp_path / "a.parquet", [png(i) for i in IMAGES]))
    whole = file.read_bytes()
    file.write_bytes(whole[:200] + bytes(400) + whole[600:])  # damaged pages under a good footer
    with pytest.raises(UserError, match=r"cannot be read|data\.max_corrupt"):
        open_all(file, cache)
