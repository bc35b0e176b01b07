"""Numbers of workers: as given, as Slurm and Kubernetes tell them, and what is refused."""

import pytest

from avq.errors import InputError
from avq.workers import Worker, worker_of


def slurm(task, first, last, count):
    numbers = {"ID": task, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_item_is_in_the_share_of_one_worker(count):
    items = list("abcdefg")
    shares = [Worker(index, count).share(items) for index in range(count)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("0/1", {}, (0, 1)),
        ("2/3", slurm(7, 0, 7, 8), (2, 3)),
        ("auto", slurm(0, 0, 7, 8), (0, 8)),
        ("auto", slurm(8, 1, 8, 8), (7, 8)),
        ("auto/8", slurm(5, 3, 5, 2), (5, 8)),  # --array=3,5 runs two of eight again
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, (3, 4)),
    ],
)
def test_number_is_the_given_or_the_scheduler_s(text, environ, expected):
    worker = worker_of(text, environ)
    assert (worker.index, worker.count) == expected
    assert str(worker) == f"{expected[0]}/{expected[1]}"


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("3/3", {}, "worker 3 is none of 3, whose numbers go from 0 on"),
        ("0/0", {}, "worker 0 is none of 0"),
        ("auto/8", slurm(8, 1, 8, 8), "worker 8 is none of 8"),
        ("1", {}, "is not I/N"),
        ("-1/3", {}, "is not I/N"),
        ("1/3/5", {}, "is not I/N"),
        ("", {}, "is not I/N"),
        ("auto", {}, "this is no task of an array of Slurm"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, "Give auto/N in an Indexed Job"),
        ("auto", slurm(5, 3, 5, 2), "3 to 5 with gaps. Give auto/N"),
        ("auto/3", {}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
    ],
)
def test_other_numbers_are_refused_in_one_line(text, environ, message):
    with pytest.raises(InputError, match=message) as error:
        worker_of(text, environ)
    assert str(error.value).startswith(f"--worker={text}")
    assert "\n" not in str(error.value)
