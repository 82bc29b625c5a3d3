"""Which split a file belongs to, by the ways in which people name splits.

From the most explicit to the least; the first that distinguishes the files is taken:

    KEY=VALUE   split=train/0.parquet, the partitions of Hive, Spark and Arrow
    folders     train/..., test/..., wherever they stand in the path, other names beside them (extra/) included
    words       of a file's or folder's name: NAME_train.parquet, train.parquet/part-0, train2017/, nameTrain.parquet,
                train-00000-of-00002

Pictures are so named by chance more often than tables are (`test1.png`), so words of their own names count only where
all begin with one. Names that give a split to some files only are an error: a guess would train on images
that are held out. So are names that differ by nothing but a split which is no word of its own: Xtrain, Xtest.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distmgcd.errors import UserError

_GROUPS = {
    "train": ("train", "training", "trainset", "trn"),
    "test": ("test", "testing", "testset", "tst", "eval", "evaluation", "holdout", "heldout", "held_out"),
    "val": ("val", "valid", "validation", "valset", "dev"),
    "trainval": ("trainval",),
}
GROUP_OF = {word: group for group, words in _GROUPS.items() for word in words}
_ANY = "|".join(sorted(GROUP_OF, key=len, reverse=True))
_WORD = re.compile(rf"(?<![a-z])(?!dev(?![a-z]))({_ANY})(?![a-z])", re.IGNORECASE)
_PART = re.compile(_ANY, re.IGNORECASE)  # of a word, too
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where a word begins in nameTrain and XTrain
_SHARD = re.compile(r"([\w.-]+)-\d{5}-of-\d{5}\b")  # Hugging Face: NAME is a split, whatever it is called
_NUM_SHOWN = 2


class FileSplits(NamedTuple):
    """The split of every file, in their order, and where it comes from."""

    names: list[str]
    origin: str  # in words
    folders: list[list[str]]  # of every file, from the one below its split on: what is left to mean a label


def splits_of_files(paths: Sequence[str], *, pictures: bool, source: str) -> FileSplits | None:
    """Splits by the names of files, relative to data.path; None where the names say nothing about splits.

    pictures: whether each file is one image rather than a table of them. Raises UserError where names are ambiguous.
    """
    parts = [path.split("/") for path in paths]
    found = (
        _by_partition(parts) or _by_folder(parts, source=source) or _by_word(parts, pictures=pictures, source=source)
    )
    if found is None:
        _check_parts_of_words(parts, pictures=pictures, source=source)
    return found or _of_one_split(parts, pictures=pictures)


def split_named(asked: str, names: Sequence[str]) -> str | None:
    """The name among these that is meant: itself, in another case, or the one other word for it (train, training)."""
    same = [name for name in names if name == asked] or [name for name in names if name.lower() == asked.lower()]
    others = [name for name in names if GROUP_OF.get(name.lower(), "") == GROUP_OF.get(asked.lower())]
    return next((found[0] for found in (same, others) if len(found) == 1), None)


def _by_partition(parts: list[list[str]]) -> FileSplits | None:
    pairs = [[part.partition("=") for part in path[:-1] if "=" in part] for path in parts]
    for key in dict.fromkeys(key for path in pairs for key, _, _ in path):
        values = [next((value for name, _, value in path if name == key), None) for path in pairs]
        known = {value.lower() in GROUP_OF for value in values if value is not None}
        if None not in values and (key.lower() == "split" or known == {True}):
            rest = [[part for part in path[:-1] if "=" not in part] for path in parts]
            return FileSplits([str(value) for value in values], f"folders named {key}=...", rest)
    return None


def _by_folder(parts: list[list[str]], *, source: str) -> FileSplits | None:
    depth = _common_depth(parts)
    exact = [next((i for i in range(depth, len(p) - 1) if p[i].lower() in GROUP_OF), None) for p in parts]
    found = [position for position in exact if position is not None]
    if len(found) == len(parts):
        names = [path[i] for path, i in zip(parts, found, strict=True)]
        folders = [_labelling(path, i, depth) for path, i in zip(parts, found, strict=True)]
        return FileSplits(names, "names of the folders", folders) if _differ(names) else None
    if not any(len(path) - 1 > depth and path[depth].lower() in GROUP_OF for path in parts):
        return None
    outside = next(("/".join(path) for path in parts if len(path) - 1 <= depth), None)
    if outside is not None:
        raise UserError(
            f"data.path {source!r} has folders for splits, so every file must be in one, but "
            f"{outside!r} is not; move it into one of them."
        )
    return FileSplits([p[depth] for p in parts], "names of the folders", [p[depth + 1 : -1] for p in parts])


def _labelling(path: list[str], at: int, depth: int) -> list[str]:
    """The folders that may be labels: those below the split, else those above it, as in cat/train/0.png."""
    return path[at + 1 : -1] or path[depth:at]


def _by_word(parts: list[list[str]], *, pictures: bool, source: str) -> FileSplits | None:
    depth = _common_depth(parts)
    end = -1 if pictures else None
    words = [_only_word(path[depth:end]) for path in parts]
    if pictures and not _differ(words):
        return _by_beginning(parts)
    if None not in words:
        if not _differ(words):
            return None
        at = [next(i for i in range(depth, len(path)) if _words(path[i])) for path in parts]
        folders = [_labelling(path, i, depth) for path, i in zip(parts, at, strict=True)]
        return FileSplits(list(map(str, words)), f"names of the {'folders' if pictures else 'files'}", folders)
    if not any(words) or (pictures and _are_few(words)):
        return None
    if (shards := _by_shard(parts)) is not None:
        return shards
    raise _ambiguous(parts, words, source)


def _by_beginning(parts: list[list[str]]) -> FileSplits | None:
    """Of pictures beside one another: train_0.png, test_0.png."""
    begin = [_WORD.match(path[-1]) for path in parts]
    words = [match[1].lower() for match in begin if match]
    if len(words) < len(parts) or not _differ(words):
        return None
    return FileSplits(words, "names of the files", [path[:-1] for path in parts])


def _by_shard(parts: list[list[str]]) -> FileSplits | None:
    found = [_SHARD.match(path[-1]) for path in parts]
    return FileSplits([m[1] for m in found if m], "names of the files", [p[:-1] for p in parts]) if all(found) else None


def _of_one_split(parts: list[list[str]], *, pictures: bool) -> FileSplits | None:
    """All files in one folder called like a split, or beginning so; NAME_train.parquet alone is just a file's name."""
    depth = 1 if pictures else max(map(len, parts))
    folders = [next((part for part in path[:-1][:depth] if part.lower() in GROUP_OF), None) for path in parts]
    if None not in folders:
        return FileSplits([str(name) for name in folders], "names of the folders", [path[1:-1] for path in parts])
    begin = [_WORD.match(path[-1]) for path in parts]
    if pictures or not all(begin):
        return None
    return FileSplits([match[1].lower() for match in begin if match], "names of the files", [[] for _ in parts])


def _are_few(words: Sequence[str | None]) -> bool:
    """Among classes of pictures some may be called test_tube and train_station."""
    return 2 * sum(word is not None for word in words) < len(words)


def _words(component: str) -> list[str]:
    return _WORD.findall(_CAPITAL.sub("_", component))


def _only_word(components: Iterable[str]) -> str | None:
    """The split that these names speak of, if it is one."""
    words = [word.lower() for component in components for word in _words(component)]
    return words[0] if len({GROUP_OF[word] for word in words}) == 1 else None


def _differ(names: Iterable[str | None]) -> bool:
    return len({GROUP_OF.get(name.lower(), name) for name in names if name is not None}) > 1


def _common_depth(parts: list[list[str]]) -> int:
    """How many folders, from the top, all files share."""
    columns = zip(*(path[:-1] for path in parts), strict=False)
    return next((depth for depth, names in enumerate(columns) if len(set(names)) > 1), min(len(p) - 1 for p in parts))


def _check_parts_of_words(parts: list[list[str]], *, pictures: bool, source: str) -> None:
    """Raises UserError where names differ by nothing but a split that is part of a word: Xtrain and Xtest.

    Pictures: by the names of folders, if half of the files lie in such ones, or of all files.
    """
    depth = _common_depth(parts)
    frames = [_frames(path[depth:]) for path in parts]
    groups: dict[tuple[int, str], set[str]] = {}
    for frame, group in (item for of_file in frames for item in of_file):
        groups.setdefault(frame, set()).add(group)
    pairs = {frame for frame, found in groups.items() if "train" in found and len(found) > 1}
    of_pairs = [[(at, group) for (at, name), group in of_file if (at, name) in pairs] for of_file in frames]
    if not any(of_pairs):
        return
    in_folders = sum(
        any(at < len(path) - depth - 1 for at, _ in found) for path, found in zip(parts, of_pairs, strict=True)
    )
    if pictures and 2 * in_folders < len(parts) and not all(of_pairs):
        return
    raise _ambiguous(parts, [found[0][1] if found else None for found in of_pairs], source)


def _frames(components: Sequence[str]) -> list[tuple[tuple[int, str], str]]:
    """((which component, it without the split and its numbers), group of the split), of every split in these names."""
    return [
        (
            (at, re.sub(r"\d+", "0", f"{name[: match.start()]}*{name[match.end() :]}".lower())),
            GROUP_OF[match[0].lower()],
        )
        for at, name in enumerate(components)
        for match in _PART.finditer(name)
    ]


def _ambiguous(parts: list[list[str]], words: list[str | None], source: str) -> UserError:
    paths, counts = ["/".join(path) for path in parts], []
    for word in dict.fromkeys(words):
        of_word = [path for path, its in zip(paths, words, strict=True) if its == word]
        shown = ", ".join(map(repr, of_word[:_NUM_SHOWN])) + (", ..." if len(of_word) > _NUM_SHOWN else "")
        counts.append(f"{word or 'no split, or several'}: {len(of_word)} ({shown})")
    return UserError(
        f"Either all files of data.path {source!r} or none must name a split, or held-out images could be trained on, "
        f"but the names say {'; '.join(counts)}; put every file into a folder train or test, name them "
        "NAME_train and NAME_test, or let data.path name the files of one split only, with a "
        "glob such as DIR/*train*."
    )
