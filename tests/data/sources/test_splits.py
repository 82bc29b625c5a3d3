"""Splits by the names of files: every usual way of writing them, and no guess where names are ambiguous."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_images import png, random_images, write_encoded

from distmgcd.data import describe, open_images
from distmgcd.data.sources.splits import split_named, splits_of_files
from distmgcd.errors import UserError

IMAGES = [png(image) for image in random_images(30)]
TABLES = {  # layouts of tables: names of the files, and the split of each
    "hive": ("split=train/0.pq split=test/0.pq", "train test"),
    "hive below another key": ("year=1/split=train/0.pq year=1/split=test/0.pq", "train test"),
    "hive of another key": ("subset=train/0.pq subset=valid/0.pq", "train valid"),
    "hive with names of its own": ("split=fold0/0.pq split=fold1/0.pq", "fold0 fold1"),
    "hive of one split": ("split=train/0.pq split=train/1.pq", "train train"),
    "folders": ("train/0.pq test/0.pq test/1.pq", "train test test"),
    "folders in a folder": ("data/train/0.pq data/test/0.pq", "train test"),
    "folders below their own kind": ("a/train/0.pq b/test/0.pq", "train test"),
    "folders with an extra one": ("train/0.pq extra/0.pq test/0.pq", "train extra test"),
    "folders in a folder called test": ("test/train/0.pq test/val/0.pq", "train val"),
    "files": ("train.parquet test.parquet", "train test"),
    "files in capitals": ("Train.parquet TEST.parquet", "train test"),
    "directories of Spark": ("train.parquet/part-0 train.parquet/part-1 test.parquet/part-0", "train train test"),
    "names before": ("fm_train.parquet fm_test.parquet", "train test"),
    "names around": ("mnist-train-v1.pq mnist-test-v1.pq", "train test"),
    "years": ("train2017.pq val2017.pq", "train val"),
    "shards of Hugging Face": ("data/train-00000-of-00002.parquet data/test-00000-of-00001.parquet", "train test"),
    "shards with a name": ("cifar10-train-00000-of-00001.parquet cifar10-test-00000-of-00001.parquet", "train test"),
    "shards with a split of its own": (
        "train-00000-of-00001.parquet unsupervised-00000-of-00001.parquet",
        "train unsupervised",
    ),
    "Hugging Face's conversion": ("default/train/0000.parquet default/test/0000.parquet", "train test"),
    "files of one split": ("train-0.pq train-1.pq", "train train"),
    "short words": ("trn.pq tst.pq", "trn tst"),
    "capitals": ("fashionTrain.pq fashionTest.pq", "train test"),
    "a capital behind": ("fashion-trainX.pq fashion-testX.pq", "train test"),
    "a capital before": ("XTrain/part-0 XTest/part-0", "train test"),
    "a word about both, on top": ("train_test_split/train.pq train_test_split/test.pq", "train test"),
}
PICTURES = {
    "folders": ("train/cat/0.png train/dog/0.png test/cat/0.png", "train train test", "cat dog cat"),
    "in an archive's folder": ("archive/train/cat/0.png archive/val/dog/0.png", "train val", "cat dog"),
    "below the classes": ("cat/train/0.png dog/test/0.png", "train test", "cat dog"),
    "with a name": ("cifar_train/cat/0.png cifar_test/dog/0.png", "train test", "cat dog"),
    "hive": ("split=train/cat/0.png split=test/dog/0.png", "train test", "cat dog"),
    "beside one another": ("train_0.png train_1.png test_0.png", "train train test", "- - -"),
    "one split": ("train/cat/0.png train/dog/0.png", "train train", "cat dog"),
}
NOTHING = [
    *(
        "a.pq b.pq",
        "constraints.pq latest.pq",
        "contest.pq restrained.pq",
        "Xtrain.pq Ytest.pq",
        "Xtrain0.pq Xtrain1.pq",
    ),
    *("part-0.pq sub/part-1.pq", "x_train.pq", "mnist_train/0.pq", "trainX.pq", "interval.pq strain.pq"),
]
NOTHING_OF_PICTURES = [
    "cat/0.png dog/test1.png",
    "test1.png photo.png",
    "cat/0.png cat/test/1.png dog/0.png",
    "cat/0.png dog/0.png owl/0.png test_tube/0.png train_station/0.png",
    "test_1.png test_2.png",
    "latest.png training_day.jpg protest.jpg contest/1.png",
    "contest/0.png strain/0.png greatest/1.png",
    "cat/0.png dog/0.png owl/0.png trainers/0.png testers/0.png",
    "Xtrain.png Xtest.png photo.png",
]


@pytest.mark.parametrize("layout", TABLES)
def test_the_splits_of_tables_are_read_from_their_names(layout):
    names, splits = (text.split() for text in TABLES[layout])
    assert splits_of_files(names, pictures=False, source="x").names == splits


@pytest.mark.parametrize("layout", PICTURES)
def test_the_splits_of_pictures_are_read_from_their_names_and_leave_the_labels(layout):
    names, splits, labels = (text.split() for text in PICTURES[layout])
    found = splits_of_files(names, pictures=True, source="x")
    assert found.names == splits and [folders[0] if folders else "-" for folders in found.folders] == labels


@pytest.mark.parametrize("names", NOTHING)
def test_names_of_tables_that_speak_of_no_split_are_just_names(names):
    assert splits_of_files(names.split(), pictures=False, source="x") is None


@pytest.mark.parametrize("names", NOTHING_OF_PICTURES)
def test_names_of_pictures_that_speak_of_no_split_are_just_names(names):
    assert splits_of_files(names.split(), pictures=True, source="x") is None


@pytest.mark.parametrize(
    ("names", "pictures", "said"),
    [
        ("fm.pq fm_test.pq", False, r"no split, or several: 1 \('fm\.pq'\); test: 1 \('fm_test\.pq'\)"),
        ("train_0.pq test_0.pq more.pq", False, r"train: 1 .* test: 1 .* no split, or several: 1 \('more\.pq'\)"),
        ("a_train.pq a_test.pq a_train_test.pq", False, r"several: 1 \('a_train_test\.pq'\)"),
        ("Xtrain.pq Xtest.pq", False, r"train: 1 \('Xtrain\.pq'\); test: 1 \('Xtest\.pq'\)"),
        ("Xtrain1.pq Xtrain12.pq Xval3.pq", False, r"train: 2 \('Xtrain1\.pq', 'Xtrain12\.pq'\); val: 1"),
        ("mytraining/a.pq mytest/b.pq readme.pq", False, r"train: 1 .* test: 1 .* no split, or several: 1 "),
        ("data/Xtrain/cat/0.png data/Xtest/cat/0.png", True, r"train: 1 .* test: 1 "),
        ("digittrain1.png digittest1.png", True, r"train: 1 .* test: 1 "),
        ("digit_train_1.png digit_test_1.png", True, r"train: 1 .* test: 1 "),
        ("a_train/0.png a_test/0.png b/0.png", True, r"train: 1 .* test: 1 .* no split"),
    ],
)
def test_names_of_which_only_some_speak_of_a_split_are_an_error_that_shows_them(names, pictures, said):
    with pytest.raises(UserError, match=rf"^Either all files of data\.path 'x' or none .*{said}.*; put every file"):
        splits_of_files(names.split(), pictures=pictures, source="x")


def test_another_word_for_a_split_or_another_case_is_the_same_split():
    assert split_named("train", ("training", "testing")) == "training"
    assert split_named("test", ("Train", "Test")) == "Test"
    assert split_named("val", ("validation",)) == "validation"
    assert split_named("test", ("train", "val")) is None
    assert split_named("test", ("testing", "eval")) is None  # which of both nobody can say
    assert split_named("fold0", ("fold1",)) is None


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("split=train/0.parquet", "split=test/0.parquet"),
        ("train.parquet/part-0.parquet", "test.parquet/part-0.parquet"),
        ("fm_train.parquet", "fm_test.parquet"),
    ],
)
def test_no_test_image_is_trained_on_whatever_layout_names_it(train, test, tmp_path, cache):
    write_encoded(tmp_path / "set" / train, IMAGES[:20])
    write_encoded(tmp_path / "set" / test, IMAGES[20:])
    opened = {
        split: open_images(str(tmp_path / "set"), image_size=8, channels=3, split=split, cache_dir=cache)
        for split in ("train", "test")
    }
    assert (len(opened["train"]), len(opened["test"])) == (20, 10)
    assert not np.isin(opened["test"].hashes, opened["train"].hashes).any()


def test_a_split_that_is_called_otherwise_is_opened_and_named_as_it_is(tmp_path, cache):
    write_encoded(tmp_path / "training" / "0.parquet", IMAGES[:20])
    write_encoded(tmp_path / "testing" / "0.parquet", IMAGES[20:])
    opened = open_images(str(tmp_path), image_size=8, channels=3, split="test", cache_dir=cache)
    assert len(opened) == 10 and opened.split == "testing"


def test_a_column_of_another_name_that_holds_nothing_but_splits_is_taken(tmp_path):
    for name, values in (("subset", ["train", "valid"]), ("Split", ["a", "b"]), ("set", ["train", "blue"])):
        pq.write_table(pa.table({"image": pa.array(IMAGES[:2], pa.binary()), name: values}), tmp_path / f"{name}.pq")
    assert describe(str(tmp_path / "subset.pq")).splits == {"train": 1, "valid": 1}
    assert describe(str(tmp_path / "Split.pq")).splits == {"a": 1, "b": 1}
    assert describe(str(tmp_path / "set.pq")).split_origin.startswith("made here")


def test_a_set_without_the_held_out_split_names_the_setting_and_the_way_out(tmp_path, cache):
    for name, way_out in (
        ("train", "set data.validation=0.2, which"),
        ("val", "set data.held_out=val, or set data.val"),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        for number in range(3):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
        with pytest.raises(UserError, match=rf"^data\.held_out='test' is not in .* train \(3 images\).*; {way_out}"):
            open_images(str(tmp_path), image_size=4, channels=1, split="test", setting="data.held_out", cache_dir=cache)
