"""The term lpips, and the files that it needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq import main
from avq.errors import InputError
from avq.losses.perceptual import lpips, read_lpips
from avq.models.vqvae import Reconstruction


def test_term_is_0_for_equal_images_and_pulls_others_together(weight_file):
    frozen = {"lpips": read_lpips(str(weight_file("alex")), 32)}
    rng = np.random.default_rng(0)
    images, targets = (jnp.asarray(rng.uniform(-1, 1, (2, 32, 32, 3)), jnp.float32) for _ in "12")

    @jax.jit
    @jax.value_and_grad
    def term(images):
        return lpips(Reconstruction(images, ()), targets, frozen)

    distance, gradient = term(images)
    assert distance > 0.01
    assert term(images - 0.1 * gradient / jnp.max(jnp.abs(gradient)))[0] < distance
    assert float(term(targets)[0]) == pytest.approx(0, abs=1e-6)


def test_grey_images_are_seen_as_rgb_and_alpha_over_white(weight_file):
    frozen = {"lpips": read_lpips(str(weight_file("alex")), 32)}
    rng = np.random.default_rng(0)
    pair = rng.uniform(-1, 1, (2, 2, 32, 32, 4)).astype(np.float32)
    share = (pair[..., 3:] + 1) / 2
    on_white = 1 + (pair[..., :3] - 1) * share

    def distance(images, targets):
        return float(lpips(Reconstruction(jnp.asarray(images), ()), jnp.asarray(targets), frozen))

    assert distance(*pair) == pytest.approx(distance(*on_white), rel=1e-4)
    grey = pair[..., :1]
    assert distance(*grey) == pytest.approx(distance(*grey.repeat(3, -1)), rel=1e-6)


@pytest.mark.parametrize(
    ("files", "size", "message"),
    [
        ("", 64, "needs --config.loss.lpips_weights=FILE"),
        ("no.pth", 64, "no.pth cannot be read"),
        ("{file}", 16, "AlexNet needs images of 31 pixels, data.image_size is 16"),
    ],
)
def test_missing_files_and_small_images_are_refused(files, size, message, weight_file):
    with pytest.raises(InputError, match=message):
        read_lpips(files.format(file=weight_file("alex")), size)


def test_unfit_weights_are_refused_before_the_run_has_a_folder(tmp_path, capsys):
    arguments = ["--config=vqvae:tiny", "--config.loss.terms.lpips=0.1"]
    files = ["--config.loss.lpips_weights=no.pth", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*arguments, *files]) == 2
    assert "no.pth cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
