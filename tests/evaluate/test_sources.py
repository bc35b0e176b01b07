"""Results by source."""

import numpy as np
import pytest

from avq.data.dataset import ImageSet
from avq.evaluate.results import Results
from avq.evaluate.sources import by_source, sources


class Named:
    """Source of nothing but names."""

    augment = False

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        raise NotImplementedError

    def name(self, index):
        return self.names[index]


def counts(names):
    return {source: int(chosen.sum()) for source, chosen in sources(names).items()}


def files(pattern, n):
    return [pattern.format(f"{i:04}") for i in range(n)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            files("test/london_neutral_{}.jpg", 12) + files("test/3dsk_{}.jpg", 7),
            {"3dsk": 7, "london_neutral": 12},
        ),
        (files("cats/a{}.png", 5) + files("dogs/{}.png", 6), {"cats": 5, "dogs": 6}),
        (files("val/x/cats/{}.png", 5) + files("val/x/{}.png", 6), {}),  # half are of no source
        (files("set/test/cats/1/{}.png", 5) + files("set/test/dogs/2/{}.png", 5),
         {"cats": 5, "dogs": 5}),
        (files("astronaut.png#{}", 8) + files("camera.png#{}", 8), {"astronaut": 8, "camera": 8}),
        (files("train-00000-of-00002.parquet#{}", 8) + files("train-00001-of-00002.parquet#{}", 8),
         {}),
        (files("{}.jpg", 30), {}),
        (files("human_{}.jpg", 30), {}),
        ([f"kind{chr(97 + k)}_{i}.jpg" for k in range(21) for i in range(5)], {}),  # too many
        (files("a_{}.jpg", 5) + files("b_{}.jpg", 4), {}),
        (files("a_{}.jpg", 20) + files("b_{}.jpg", 20) + files("c_{}.jpg", 4),
         {"a": 20, "b": 20, "other": 4}),
        (files("a_{}.jpg", 20) + files("b_{}.jpg", 20) + [f"{c}.jpg" for c in "pqrstu"], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_sources_are_folders_or_what_stands_before_the_numbers(names, expected):
    assert counts(names) == expected
    assert list(counts(names)) == list(expected)


def test_means_by_source_are_those_of_its_images():
    names = ["b_9.png", *files("a_{}.png", 6), *files("b_{}.png", 6)]
    images = ImageSet(Named(names))
    rows = np.arange(1, 13)  # the first image was unreadable
    psnr = np.linspace(10, 20, 12, dtype=np.float32)
    results = Results({}, {"psnr": psnr}, rows, rows.astype(np.uint32))
    actual = by_source(results, images)
    assert actual["a"] == {"n": 6, "psnr": pytest.approx(psnr[:6].mean())}
    assert actual["b"] == {"n": 6, "psnr": pytest.approx(psnr[6:].mean())}
