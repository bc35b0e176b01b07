"""`avq sample`: the images do not depend on their number, devices or interruptions."""

import numpy as np
import pytest
from PIL import Image

from avq import parallel
from avq.apply.prior import load_prior
from avq.apply.sample import GROUP, Sampler, sample
from avq.errors import InputError
from avq.models.prior import Drawing


def pixels(folder, count):
    return [np.asarray(Image.open(folder / f"{number:05d}.png")) for number in range(count)]


@pytest.fixture(scope="module")
def prior(prior_run):
    return load_prior(prior_run)


@pytest.fixture(scope="module")
def twenty(invoke, prior_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "twenty"
    result = invoke("sample", prior_run, "-n", 20, "--seed", 3, "-o", folder)
    assert result.exit_code == 0, result.output
    assert "20 images of step" in result.stdout
    return folder


def test_images_are_the_same_whatever_their_number_and_devices(prior, twenty, tmp_path):
    expected = pixels(twenty, 20)
    for count, devices in ((3, 1), (20, 2)):
        folder = tmp_path / f"{count}"
        sample(prior, folder, count, seed=3, mesh=parallel.make_mesh(devices))
        np.testing.assert_array_equal(pixels(folder, count), expected[:count])
    assert len({image.tobytes() for image in expected}) > 15


def test_images_are_decoded_codes_of_the_prior(prior, twenty):
    sampler = Sampler(prior.module, prior.tokenizer, Drawing(), parallel.make_mesh(1))
    (codes,) = sampler.codes(prior.variables, [0], 3, np.zeros(GROUP, int))
    np.testing.assert_array_equal(pixels(twenty, GROUP), prior.tokenizer.decode(codes))
    grid = np.asarray(Image.open(twenty / "grid.png"))
    assert grid.shape == (3 * 16, 8 * 16, 3)
    np.testing.assert_array_equal(grid[16:32, 16:32], pixels(twenty, 20)[9])


def test_interrupted_sampling_continues(invoke, prior_run, twenty, tmp_path):
    folder = tmp_path / "again"
    assert invoke("sample", prior_run, "-n", 3, "--seed", 3, "-o", folder).exit_code == 0
    (folder / "00001.png").unlink()
    kept = (folder / "00000.png").read_bytes()
    result = invoke("sample", prior_run, "-n", 20, "--seed", 3, "-o", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "00000.png").read_bytes() == kept
    np.testing.assert_array_equal(pixels(folder, 20), pixels(twenty, 20))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", 4], "drawn with another seed"),
        (["--temperature", 0.5, "--seed", 3], "drawn with another temperature"),
        (["--label", "cat"], "the prior has no class 'cat'"),
        (["--guidance", 2], "has no classes"),
        (["--steps", 4], "one code after another"),
        (["--step", 3], "no checkpoint of step 3"),
        (["--tokenizer", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    invoke, one_line, prior_run, twenty, arguments, words
):
    result = invoke("sample", prior_run, "-o", twenty, *arguments)
    assert result.exit_code == 2
    assert words in one_line(result.stderr)


def test_no_other_folder_is_filled_and_no_other_run_sampled(
    invoke, one_line, run, prior_run, image_folder, tmp_path
):
    result = invoke("sample", run, "-o", tmp_path / "out")
    assert "is not the run of a prior" in one_line(result.stderr)
    result = invoke("encode", prior_run, image_folder, "-o", tmp_path / "codes.npz")
    assert "is the run of a prior" in one_line(result.stderr)
    result = invoke("sample", prior_run, "-o", image_folder / "test")
    assert "holds other pictures" in one_line(result.stderr)


def test_guidance_needs_classes(prior, tmp_path):
    with pytest.raises(InputError, match="has no classes"):
        sample(prior, tmp_path / "out", 1, how=Drawing(guidance=2.0))
