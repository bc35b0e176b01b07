"""`avq tokenize` and `avq export`: what they print and refuse, and that they fit together."""

import json

import numpy as np
import pytest
import yaml

import avq
from avq.apply import tokenize as module
from avq.apply.code_shards import read
from avq.errors import InputError
from avq.report.report import saved_report


@pytest.fixture(scope="module")
def released(invoke, run, image_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released") / "ah"
    result = invoke("export", run, folder, "--images", image_folder)
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def figures(**changes):
    values = {
        "n": 4, "psnr": 21.5, "interval": {"psnr": [20.0, 23.0]}, "image_size": 16, "step": 2,
        "bits_per_pixel": 0.1875, "split": "test", "data": "/home/me/faces.zip", "trained_on": 0,
        "crop": "centre square", "weights": {},
    }  # fmt: skip
    return json.dumps({key: v for key, v in (values | changes).items() if v is not None})


def front(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_run_and_what_was_exported_of_it_give_the_same_codes(
    invoke, run, image_folder, released, tokenizer, tmp_path
):
    outputs = []
    for model, name in ((run, "a"), (released[0], "b")):
        result = invoke("tokenize", model, image_folder, tmp_path / name)
        assert result.exit_code == 0, result.output
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert outputs[0] == outputs[1]
    assert "16 training and 4 test images, 4x4 of 8 codes each, 0 left out" in result.stdout
    assert "split: folders train/ and test/" in result.stdout
    assert " img/s on cpu: " in result.stdout
    again = invoke("tokenize", released[0], image_folder, tmp_path / "b")
    assert again.stdout == result.stdout.splitlines(keepends=True)[0]
    assert read(tmp_path / "a", "test").about["model"] == tokenizer.digest
    shared = ("tokenize", released[0], image_folder, tmp_path / "c")
    result = invoke(*shared, "--worker", "0/1")
    assert "worker 0/1 is done; after all are, run this with --finish" in result.stdout
    result = invoke(*shared, "--finish")
    assert result.stdout.replace(str(tmp_path / "c"), str(tmp_path / "b")) == again.stdout
    assert outputs[0] == {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}


def test_what_was_left_out_is_printed(invoke, released, image_folder, tmp_path):
    for path in image_folder.rglob("*.png"):
        target = tmp_path / "in" / path.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "in" / "train" / "words.jpg").write_bytes(b"words")
    (tmp_path / "in" / "a.cr2").touch()
    arguments = ("tokenize", released[0], tmp_path / "in", tmp_path / "codes.npz")
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "1 of 17 images are unreadable" in refused.stderr
    assert not (tmp_path / "codes.npz").exists()
    result = invoke(*arguments, "--max-rejected", 0.1)
    assert result.exit_code == 0, result.output
    assert "left out train/words.jpg: 5 bytes: no known image format" in result.stderr
    assert "not used: 1 .cr2 files" in result.stderr
    with np.load(tmp_path / "codes.npz") as arrays:
        assert len(arrays["names"]) == 20


def test_interrupted_one_says_that_it_continues(
    invoke, released, image_folder, tmp_path, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "tokenize", interrupted)
    result = invoke("tokenize", released[0], image_folder, tmp_path / "codes")
    assert result.exit_code == 130
    assert "stopped; the same command continues" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("tokenize", "{tmp}/none", "{images}", "{tmp}/codes"),
            "no such run, folder, file or model",
        ),
        (("tokenize", "{model}", "{tmp}/none", "{tmp}/codes"), "no such file or folder"),
        (("tokenize", "{model}", "{images}", "{tmp}/no/codes.npz"), "there is no folder"),
        (("tokenize", "{model}", "{images}", "{images}"), "is not an empty folder"),
        (("eval", "{model}"), "has no images. Give --data PATH"),
        (("export", "{tmp}", "{tmp}/out"), "is not a run"),
        (("export", "{run}", "{run}"), "neither an empty folder"),
        (("export", "{run}", "{run}/config.json"), "neither an empty folder"),
        (("export", "{model}", "{tmp}/out", "--eval", "{tmp}/none.json"), "there is no file"),
        (("export", "{model}", "{tmp}/out", "--images", "{tmp}/none"), "no such file or folder"),
    ],
)
def test_what_cannot_be_done_gets_one_line(
    invoke, one_line, run, released, image_folder, tmp_path, arguments, message
):
    places = {"run": run, "model": released[0], "images": image_folder, "tmp": tmp_path}
    result = invoke(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
    assert not any(tmp_path.iterdir())


def test_images_of_a_shard_are_decoded_to_a_file_each(invoke, released, image_folder, tmp_path):
    prepared = ("prepare", image_folder, tmp_path / "set", "--size", 16, "--workers", 1)
    for arguments in (
        prepared,
        ("tokenize", released[0], tmp_path / "set", tmp_path / "codes.npz"),
        ("decode", released[0], tmp_path / "codes.npz", "-o", tmp_path / "out"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(names) == 20
    assert "test-00000-of-00001.array_record#3.png" in names


def test_export_without_figures_has_a_card_with_a_picture(released, tokenizer):
    folder, printed = released
    assert f"model {tokenizer.digest} of step 2, card without figures" in printed
    text = (folder / "README.md").read_text()
    assert front(folder)["library_name"] == "avq"
    assert (
        "Discrete autoencoder of RGB images of 16x16 pixels with 2 levels of codes, 0.1875" in text
    )
    assert "![images above their reconstructions](samples.png)" in text
    assert (folder / "samples.png").is_file()
    assert avq.load(folder).digest == tokenizer.digest


def test_figures_of_an_evaluation_are_in_the_card(invoke, run, tmp_path):
    (tmp_path / "eval.json").write_text(figures())
    result = invoke("export", run, tmp_path / "out", "--eval", tmp_path / "eval.json")
    assert result.exit_code == 0, result.output
    assert "card with figures" in result.stdout
    (model,) = front(tmp_path / "out")["model-index"]
    (measured,) = model["results"]
    assert {metric["type"]: metric["value"] for metric in measured["metrics"]} == {
        "psnr": 21.5, "bits_per_pixel": 0.1875
    }  # fmt: skip
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| psnr | 21.5000 | 20.0000 to 23.0000 |" in text
    assert "2 steps of 8 images" in text
    assert "/home" not in text
    assert "Measured with" not in text


def test_figures_beside_the_model_are_found_and_those_of_another_are_not_taken(
    invoke, released, tmp_path
):
    invoke("export", released[0], tmp_path / "ah")
    for values, kind in ((figures(), "with"), (figures(step=3), "without")):
        (tmp_path / "ah" / "eval.json").write_text(values)
        result = invoke("export", tmp_path / "ah", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert f"card {kind} figures" in result.stdout
    assert "is of another model: step 3, not 2" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (figures(step=3), "is of another model: step 3, not 2"),
        (figures(bits_per_pixel=1.0), "is of another model: bits_per_pixel 1.0, not 0.1875"),
        (figures(n=None, crop=None), "holds no figures of avq eval: it lacks crop, n"),
        ("[]", "holds no figures of avq eval"),
        ("{", "is damaged"),
    ],
)
def test_file_of_no_figures_of_this_model_is_refused(run, tokenizer, tmp_path, content, message):
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(InputError, match=message):
        saved_report(run, tokenizer.trained, tmp_path / "eval.json")
