"""Programs of a model: run by JAX alone, as the model card says."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from avq.apply import stablehlo
from avq.apply.stablehlo import DECODER, ENCODER, HEADER, differences, programs, section
from avq.errors import InputError


@pytest.fixture(scope="module")
def files(tokenizer):
    return programs(tokenizer.trained, tokenizer.image_size)


def test_programs_are_as_near_to_the_model_as_a_rounding(files, tokenizer):
    wrong, largest = differences(files, tokenizer.trained, tokenizer.image_size)
    print(f"codes that differ: {wrong}; largest difference of a pixel: {largest} of 255")
    assert wrong <= 1
    assert largest <= 1


def test_difference_of_another_model_is_seen(files, tokenizer):
    trained = tokenizer.trained
    moved = {
        **trained.variables,
        "params": jax.tree.map(lambda x: x + 0.3, trained.variables["params"]),
    }
    wrong, largest = differences(files, type(trained)(trained.model, moved, {}, {}, 0), 16)
    assert wrong > 1
    assert largest > 1


def test_loader_of_the_card_needs_neither_flax_nor_avq(files, tokenizer, images, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "images.npy", images)
    (loader,) = re.findall(r"```python\n(.*?)```", section(tokenizer.image_size, 3), re.DOTALL)
    loader = loader.replace('"FOLDER"', repr(str(tmp_path)))
    zeros = re.search(r"np\.zeros\(.*\)", loader)
    assert zeros
    loader = loader.replace(zeros[0], "np.load(FOLDER / 'images.npy')")
    program = (
        "import sys\nsys.modules.update(dict.fromkeys(('avq', 'flax', 'orbax', 'optax')))\n"
        f"{loader}\nnp.savez(FOLDER / 'out.npz', *codes, images=images)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as out:
        for level, codes in enumerate(tokenizer.encode(images)):
            assert (out[f"arr_{level}"] != codes).sum() <= 1
        pixels = np.asarray(tokenizer.decode([out[f"arr_{i}"] for i in range(tokenizer.levels)]))
        assert np.abs(out["images"].astype(int) - pixels.astype(int)).max() <= 1


def test_header_says_what_the_programs_take_and_what_wrote_them(files, tokenizer):
    about = json.loads(files[HEADER])
    assert about["jax"] == jax.__version__
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["model"] == tokenizer.digest
    assert about[ENCODER]["arguments"] == ["uint8[b,16,16,3]"]
    assert about[ENCODER]["results"] == about[DECODER]["arguments"] == ["int32[b,4,4]"]
    assert about[DECODER]["results"] == ["uint8[b,16,16,3]"]


def test_size_is_that_of_the_programs(tokenizer):
    about = json.loads(programs(tokenizer.trained, 24)[HEADER])
    assert about[ENCODER]["arguments"] == about[DECODER]["results"] == ["uint8[b,24,24,3]"]
    with pytest.raises(InputError, match=r"25 pixels are no multiple of the model's stride, 8"):
        programs(tokenizer.trained, 25)


def test_missing_flatbuffers_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(InputError, match=r"pip install 'avq\[stablehlo\]'"):
        stablehlo.require_flatbuffers()


def test_command_writes_programs_card_and_difference(invoke, one_line, run, tmp_path):
    result = invoke("export", run, tmp_path / "out", "--stablehlo")
    assert result.exit_code == 0, result.stderr
    assert re.match(r"programs: [01] codes, and [01] of 255", result.stdout)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {ENCODER, DECODER, HEADER}
    assert "## Without avq" in (tmp_path / "out" / "README.md").read_text()
    assert invoke("export", run, tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / ENCODER).exists()
    result = invoke("export", run, tmp_path / "out", "--size", 16)
    assert "Give that, too" in one_line(result.stderr)
