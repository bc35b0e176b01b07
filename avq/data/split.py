"""Split of a set into training and test images: the one it comes with, else one drawn by name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from avq.data.names import hash_names
from avq.data.rows import ChosenRows, Rows
from avq.data.settings import Data
from avq.data.sources import Source, Subset, open_path
from avq.data.sources.base import Divided, Placed
from avq.data.sources.files import Files
from avq.errors import InputError

KINDS = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
OLDER = "as drawn by an earlier avq"
HELD_OUT_OLDER = ("test", "val", "valid", "validation")  # the first that there is
SUFFIXES_LISTED = 8
HASHED = 1 << 16  # names that are hashed at a time; a multiple of 8
Place = tuple[str, ...]


@dataclass
class Split:
    """Rows of training and test images.

    Attributes:
        rows: of 'train' and 'test', ascending; ranges where a source is so divided.
        rule: how they were chosen, in words.
        unused: number of images in neither, by reason.
    """

    rows: Mapping[str, Rows]
    rule: str
    unused: dict[str, int] = field(default_factory=dict)


@dataclass
class Splits:
    """Training and test images of a path.

    Attributes:
        train, test: the images.
        rule: how they were chosen, in words.
        unused: number of images and other files in neither, by kind.
    """

    train: Source
    test: Source
    rule: str
    unused: dict[str, int]


def open_splits(data: Data, *, older: bool = False) -> Splits:
    """Opens the training and test images of a config.

    Args:
        data: the config's section.
        older: whether for a run of `split_of_older_run`.

    Raises:
        InputError: for a `data.path` that is not set or cannot be opened, or whose folders look
            like a split and are none.
    """
    if not data.path:
        raise InputError(
            "data.path is not set: this config trains on your own images. Give "
            "--config.data.path=PATH (README, 'Training on CelebA-HQ'), or add :tiny to the "
            "config, which trains on embedded photographs."
        )
    try:
        opened = open_path(data)
        if isinstance(opened, Mapping):
            return Splits(opened["train"], opened["test"], "as the set comes", {})
        if older:
            split = split_of_older_run(opened, data.split, data.split_seed)
        else:
            split = split_rows(opened, data.split, data.split_seed, random=data.random_split)
    except InputError as error:
        raise InputError(f"data.path: {error}") from error
    train, test = (Subset(opened, split.rows[part]) for part in ("train", "test"))
    return Splits(train, test, split.rule, split.unused | other_files(opened))


def other_files(source: Source) -> dict[str, int]:
    """Number of files beside the images of a folder or zip, by suffix: the most frequent ones."""
    if not isinstance(source, Files):
        return {}
    listed = source.others.most_common(SUFFIXES_LISTED)
    files = {f"{suffix or 'suffixless'} files": count for suffix, count in listed}
    rest = source.others.total() - sum(files.values())
    return files | ({"further files": rest} if rest else {})


def split_rows(source: Source, share: float, seed: int, *, random: bool = False) -> Split:
    """Splits a source by the names of its folders or shards where two of them, on the same level,
    differ in a word such as 'train' and 'test' alone; else by a hash of each image's name, so that
    no image changes sides when others come or go.

    'val', 'valid', 'validation', 'dev' and 'eval' are the test images where there is no 'test',
    and unused where there is. A set that is 'test' alone has no training images.

    Args:
        source: of images.
        share: of the training images in a split by hash.
        seed: of the hash.
        random: whether to split by hash whatever the names of folders.

    Raises:
        InputError: when names look like a split and are none.
    """
    if not random and isinstance(source, Divided) and all(source.own_split.values()):
        return Split(source.own_split, "files train* and test*")
    if not random and isinstance(source, Placed):
        rows_by_place = _rows_by_place(source)
        own = _own_split(rows_by_place)
        if own is not None:
            return own
        _require_no_names_of_a_split(rows_by_place)
    rule = f"hash of names, {100 * share:g} % / {100 * (1 - share):g} %"
    return Split(_drawn(source, share, seed), rule)


def split_of_older_run(source: Source, share: float, seed: int) -> Split:
    """Splits a source as runs did whose `dataset.json` has no `split_rule`: by 'train/' and 'test/'
    at the top, else by row number.
    """
    by_place = _rows_by_place(source) if isinstance(source, Placed) else {}
    places = list(by_place)
    common = [len(set(level)) == 1 for level in zip(*places, strict=False)]
    top = (*common, False).index(False)
    groups: dict[str, list[range]] = {}
    for place, rows in by_place.items():
        groups.setdefault(place[top].rstrip("/*") if len(place) > top else "", []).extend(rows)
    held_out = next((name for name in HELD_OUT_OLDER if name in groups), None)
    if "train" in groups and held_out:
        own = {"train": groups["train"], "test": groups[held_out]}
        return Split({name: _all_of(part, len(source)) for name, part in own.items()}, OLDER)
    order = np.random.default_rng(seed).permutation(len(source))
    cut = round(len(order) * share)
    return Split({"train": np.sort(order[:cut]), "test": np.sort(order[cut:])}, OLDER)


def _rows_by_place(source: Placed) -> dict[Place, list[range]]:
    """Rows of each place, as ranges: images of one place nearly always follow one another."""
    rows: dict[Place, list[range]] = {}
    start = 0
    for place, following in groupby(range(len(source)), source.places):
        stop = start + sum(1 for _ in following)
        rows.setdefault(place, []).append(range(start, stop))
        start = stop
    return rows


def _all_of(ranges: Iterable[range], images: int) -> ChosenRows:
    """Rows of ranges of a source of so many images."""
    chosen = np.zeros(images, bool)
    for part in ranges:
        chosen[part.start : part.stop] = True
    return ChosenRows(np.packbits(chosen))


def _kind(name: str) -> tuple[str, str] | None:
    """Kind of split that a name has a word of, and the rest of the name; None without one."""
    for word in WORD.finditer(name):
        if kind := KINDS.get(word[0].lower()):
            return kind, (name[: word.start()] + name[word.end() :]).lower()
    return None


def _kinds(places: Iterable[Place], level: int) -> dict[Place, tuple[str, str]]:
    """`_kind` of the names of one level, where there is one."""
    of_names = ((place, _kind(place[level])) for place in places if len(place) > level)
    return {place: kind for place, kind in of_names if kind is not None}


def _own_split(rows_by_place: Mapping[Place, list[range]]) -> Split | None:
    """The split that the names of a level are, from the outermost on; None where there is none."""
    levels = [_kinds(rows_by_place, level) for level in range(max(map(len, rows_by_place)))]
    for level, kinds in enumerate(levels):
        by_rest: dict[str, set[str]] = {}
        for kind, rest in kinds.values():
            by_rest.setdefault(rest, set()).add(kind)
        pairs = {rest for rest, there in by_rest.items() if "train" in there and len(there) > 1}
        if pairs:
            chosen = {place: kind for place, (kind, rest) in kinds.items() if rest in pairs}
            return _split_by_kind(rows_by_place, chosen, level)
    for level, kinds in enumerate(levels):
        chosen = {place: kind for place, (kind, _) in kinds.items() if kind != "train"}
        if len(chosen) == len(rows_by_place):
            return _split_by_kind(rows_by_place, chosen, level)
    return None


def _split_by_kind(
    rows_by_place: Mapping[Place, list[range]], kinds: Mapping[Place, str], level: int
) -> Split:
    held_out = "test" if "test" in kinds.values() else "validation"
    images = sum(len(part) for rows in rows_by_place.values() for part in rows)
    by_kind: dict[str, list[range]] = {"train": [], held_out: []}
    for place, rows in rows_by_place.items():
        by_kind.setdefault(kinds.get(place, "outside of these"), []).extend(rows)
    names = [
        ", ".join(sorted({place[level] for place, kind in kinds.items() if kind == wanted}))
        for wanted in ("train", held_out)
    ]
    where = "folders" if names[1].endswith("/") else "files"
    rule = f"{where} {' and '.join(filter(None, names))}"
    parts = {"train": by_kind.pop("train"), "test": by_kind.pop(held_out)}
    return Split(
        {name: _all_of(part, images) for name, part in parts.items()},
        rule if names[0] else f"{rule} alone",
        {kind: sum(map(len, part)) for kind, part in by_kind.items()},
    )


def _require_no_names_of_a_split(rows_by_place: Mapping[Place, list[range]]) -> None:
    """Refuses names of a split that are none; one where all images are of 'train' is no split."""
    for level in range(max(map(len, rows_by_place))):
        kinds = _kinds(rows_by_place, level)
        trains = sum(kind == "train" for kind, _ in kinds.values())
        if kinds and trains < len(rows_by_place):
            there = ", ".join(sorted({place[level] for place in kinds})[:4])
            raise InputError(
                f"names look like a split ({there}), but there is no pair such as train/ and "
                "test/. Rename them, or draw a split over all images with data.random_split=True "
                "(--random-split)."
            )


def _drawn(source: Source, share: float, seed: int) -> dict[str, Rows]:
    """Rows of the images that train, those whose hash of the name, as a number from 0 to 1, is
    below the share, and of the others. Neither side of at least two images is left empty.
    """
    bits, nearest = [], []
    for start in range(0, len(source), HASHED):
        rows = range(start, min(start + HASHED, len(source)))
        numbers = (hash_names(map(source.name, rows), str(seed)) >> np.uint64(11)) / 2.0**53
        bits.append(np.packbits(numbers < share))
        distances = np.abs(numbers - share)
        nearest.append((distances.min(), start + int(np.argmin(distances))))
    train = np.concatenate(bits)
    count = int(np.bitwise_count(train).sum())
    if 0 < share < 1 and len(source) > 1 and count in (0, len(source)):
        _, row = min(nearest)
        train[row // 8] ^= 128 >> row % 8
    test = ~train
    test[-1] &= 256 - (1 << -len(source) % 8)  # no rows behind the last
    return {"train": ChosenRows(train), "test": ChosenRows(test)}
