"""What a report shows of a model, against the model taken apart by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq import parallel
from avq.data.views import CLEAN, Degradation
from avq.evaluate.ablation import ablate, with_codes
from avq.evaluate.attention_maps import attention_maps, projections
from avq.evaluate.evaluation import Evaluator
from avq.evaluate.inside import PLACES, choose, look_inside

from .evaluation_helpers import SUMMARY, image_set


@pytest.fixture(scope="module")
def trained(tokenizer):
    return tokenizer.trained


def psnr_of(made, images):
    error = np.square(np.asarray(made, float) - images).mean((1, 2, 3))
    return np.mean(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def ablation(trained, images):
    return ablate(trained.model, trained.variables, images, images)


def test_unchanged_codes_give_the_models_own_quality(ablation, tokenizer, images):
    made = np.asarray(tokenizer.reconstruct(images))
    assert ablation.n == len(images) == 4
    assert ablation.unchanged.psnr == pytest.approx(psnr_of(made, images), abs=1e-3)
    mae = np.abs(made.astype(float) - images).mean() / 127.5
    assert ablation.unchanged.mae == pytest.approx(mae, rel=1e-4)


def test_sent_codes_are_replaced_at_decoding(ablation, tokenizer, images):
    (codes,) = map(np.asarray, tokenizer.encode(images))
    np.testing.assert_array_equal(ablation.codes[0], codes)
    level = ablation.levels[0]
    others = tokenizer.decode([codes[[2, 3, 0, 1]]])
    most_used = np.argmax([np.sum(codes == code) for code in range(8)])
    constant = tokenizer.decode([np.full_like(codes, most_used)])
    assert level.sent
    assert level.shuffled.psnr == pytest.approx(psnr_of(others, images), abs=1e-3)
    assert level.constant.psnr == pytest.approx(psnr_of(constant, images), abs=1e-3)


def test_codes_that_are_not_sent_are_replaced_inside_the_encoder(ablation, trained, images):
    # One code everywhere is what a codebook of equal vectors gives, whatever is chosen.
    grids = ablation.codes[1]
    code = np.argmax([np.sum(grids == code) for code in range(8)])
    codebook = trained.variables["codebook"]["encoder"]
    table = codebook["quantizers_1"]["embedding"]
    same = {**codebook["quantizers_1"], "embedding": jnp.tile(table[code], (8, 1))}
    variables = {**trained.variables, "codebook": {"encoder": {**codebook, "quantizers_1": same}}}
    pixels = jnp.asarray(images, jnp.float32) / 127.5 - 1
    expected = jax.jit(trained.model.apply)(variables, pixels)
    codes = jnp.full(grids.shape, code, jnp.int32)
    replaced = jax.jit(partial(with_codes, trained.model, 1))(trained.variables, pixels, codes)
    np.testing.assert_allclose(replaced.images, expected.images, atol=1e-5)
    made = np.round((np.clip(expected.images, -1, 1) + 1) * 127.5)
    assert not ablation.levels[1].sent
    assert ablation.levels[1].constant.psnr == pytest.approx(psnr_of(made, images), abs=1e-2)


def test_rows_of_attention_are_those_that_the_model_adds_up(trained, images):
    def captured(variables, pixels):
        options = {"mutable": ["intermediates"]}
        keep = {"capture_intermediates": lambda module, _: module.name == "attention"}
        return trained.model.apply(variables, pixels, **options, **keep)[1]["intermediates"]

    pixels = jnp.asarray(images, jnp.float32) / 127.5 - 1
    outputs = jax.jit(captured)(trained.variables, pixels)["encoder"]
    levels = attention_maps(trained.model, trained.variables, images, PLACES)
    pairs = projections(trained.model, trained.variables, images)
    for index, (level, (queries, keys)) in enumerate(zip(levels, pairs, strict=True)):
        output = outputs[f"arens_{index}"]["attention"]["__call__"][0]
        side = output.shape[1]
        assert level.maps.shape == (4, len(PLACES), side, side)
        for place, (down, across) in enumerate(PLACES):
            row, column = int(down * side), int(across * side)
            added = np.einsum("bhw,bhwc->bc", level.maps[:, place], keys)
            expected = np.asarray(queries)[:, row, column] + added
            np.testing.assert_allclose(output[:, row, column], expected, atol=1e-5)
        assert level.row_sums.shape == (4, side**2)
        centre = int(0.5 * side) * side + int(0.5 * side)
        np.testing.assert_allclose(
            level.row_sums[:, centre], level.maps[:, 0].sum((1, 2)), rtol=1e-5
        )


def test_model_without_attention_has_no_maps(trained, images):
    plain = trained.model.clone(attention_norm="off")
    assert attention_maps(plain, trained.variables, images, PLACES) == ()


@pytest.mark.parametrize("degradation", [CLEAN, Degradation(noise=40.0)], ids=str)
def test_examples_are_the_best_median_and_worst_images(trained, image_folder, degradation):
    images = image_set(image_folder)
    evaluator = Evaluator(trained.model, parallel.make_mesh(1), degradation=degradation)
    results = evaluator.evaluate(trained.variables, images, SUMMARY, 4)
    inside = look_inside(trained.model, trained.variables, images, results, 16, degradation)
    assert [example.group for example in inside.examples] == [
        group for group in ("best", "median", "worst") for _ in range(3)
    ]
    shown = [example.figures["psnr"] for example in inside.examples]
    order = np.sort(results.per_image["psnr"])[::-1]
    np.testing.assert_array_equal(shown, order[[0, 1, 2, 9, 10, 11, 17, 18, 19]])
    for example in inside.examples:
        made, original = (x.astype(float) for x in (example.reconstruction, example.image))
        assert example.figures["psnr"] == pytest.approx(psnr_of(made[None], original), abs=1e-3)
        assert example.name.endswith(".png")
    assert inside.ablation.n == 16  # the last whole batch


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, {"best": [0]}),
        (2, {"best": [1], "worst": [0]}),
        (3, {"best": [2], "median": [1], "worst": [0]}),
        (7, {"best": [6, 5], "median": [3, 2], "worst": [1, 0]}),
    ],
)
def test_few_images_are_not_shown_twice(n, expected):
    assert choose(np.arange(n, dtype=np.float32)) == expected
