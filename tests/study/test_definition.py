"""Study files: what they ask for, and what is refused before any work."""

import pytest

from avq.errors import InputError
from avq.losses import TERMS
from avq.study import Study
from avq.study.definition import jobs_of, read_study

AH, H = "ah_vqvae:tiny", "h_vqvae:tiny"


def study(**changes):
    fields = {"systems": {"AH": [AH], "H": [H]}, "baseline": "AH"}
    return Study(**(fields | changes))


def test_first_seeds_of_all_systems_and_data_come_first():
    jobs = jobs_of(study(seeds={"AH": 2}, data={"one": "a", "two": "b"}))
    assert [(job.seed, job.data, job.system) for job in jobs] == [
        (0, "one", "AH"),
        (0, "one", "H"),
        (0, "two", "AH"),
        (0, "two", "H"),
        (1, "one", "AH"),
        (1, "two", "AH"),
    ]
    assert "--config.data.path=b" in jobs[2].arguments
    assert len({job.folder for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ("length", "steps"),
    [({}, 700), ({"steps": 5}, 5), ({"images": 83}, 10), ({"seconds": 3.0}, 12)],
)
def test_length_is_in_steps_images_or_seconds(length, steps):
    job, _ = jobs_of(study(evaluations=5, **length), lambda system, arguments: 0.25)
    assert job.steps == steps
    assert f"--config.train.eval_every={steps // 5}" in job.arguments


def test_systems_whose_seeds_are_not_named_have_one():
    assert [(job.system, job.seed) for job in jobs_of(study(seeds={}))] == [("AH", 0), ("H", 0)]


def test_digest_changes_with_any_setting_but_the_path_of_the_data():
    base, _ = jobs_of(study())
    elsewhere, _ = jobs_of(study(data={"photographs": "somewhere.zip"}))
    other, _ = jobs_of(study(systems={"AH": [AH, "--config.optim.b1=0.7"], "H": [H]}))
    assert base.digest == elsewhere.digest != other.digest


def test_setting_that_a_later_version_adds_changes_no_digest_until_it_is_chosen(monkeypatch):
    def digests():
        with_it = [AH, "--config.loss.terms.later=0.5"] if "later" in TERMS else [AH]
        return [job.digest for job in jobs_of(study(systems={"AH": [AH], "H": with_it}))]

    before, _ = digests()
    monkeypatch.setitem(TERMS, "later", lambda *_: 0.0)
    after, chosen = digests()
    assert before == after != chosen


def test_paths_of_data_are_replaced_by_name(tmp_path):
    file = tmp_path / "s.py"
    file.write_text(
        "from avq.study import Study\n"
        f"STUDY = Study({{'AH': ['{AH}']}}, 'AH', data={{'faces': 'f.zip', 'cats': 'c.zip'}})\n"
    )
    assert read_study(file, {"cats": "there.zip"}).data == {"faces": "f.zip", "cats": "there.zip"}
    with pytest.raises(InputError, match="no such data, but: faces, cats"):
        read_study(file, {"dogs": "d.zip"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "is no file"),
        ("STUDY = 3", "defines no STUDY"),
        ("raise ValueError('a\\nb')", "ValueError: a b"),
        ("import no_such_module", "no_such_module"),
        ("S({'AH': ['no_such_config']}, 'AH')", "system 'AH': .*no such file"),
        (f"S({{'AH': ['{AH}', '--config.optim.b3=1']}}, 'AH')", "system 'AH': .*optim.b3"),
        (f"S({{'AH': ['{AH}', '--config.optim.b1=7']}}, 'AH')", "system 'AH': optim.b1=7"),
        (f"S({{'AH': ['{AH}']}}, 'H')", "baseline 'H' is not one of AH"),
        (f"S({{'AH': ['{AH}']}}, 'AH', seeds={{'H': 2}})", "seeds of 'H', which is no system"),
        (f"S({{'AH': ['{AH}']}}, 'AH', steps=1, images=2)", "one of steps, images and seconds"),
    ],
)
def test_bad_file_is_refused_in_one_line(tmp_path, text, named):
    file = tmp_path / "s.py"
    if text is not None:
        text = text.replace("S(", "STUDY = Study(") if text.startswith("S(") else text
        file.write_text(f"from avq.study import Study\n{text}\n")
    with pytest.raises(InputError, match=named) as refused:
        read_study(file, {})
    assert "\n" not in str(refused.value)
