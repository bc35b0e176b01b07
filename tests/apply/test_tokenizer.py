"""Encoding and decoding with a trained model, against its forward pass."""

from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import avq
from avq.errors import InputError
from avq.pixels import to_float


def test_package_hands_out_the_tokenizer_and_no_other_name():
    assert avq.Tokenizer.__module__ == avq.load.__module__ == "avq.apply.tokenizer"
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = avq.lode


def test_run_is_loaded_by_its_path_as_text_or_by_step_without_a_word(run, tokenizer, caplog):
    again = avq.load(str(run), step=2)
    assert caplog.text == ""
    assert again.trained.step == tokenizer.trained.step == 2
    chex.assert_trees_all_equal(again.trained.variables, tokenizer.trained.variables)


def test_bytes_and_floats_are_encoded_alike_finest_level_first(tokenizer, images):
    codes = tokenizer.encode(images)
    floats = images.astype(np.float32) / 127.5 - 1
    assert [grid.shape for grid in codes] == [(4, 4, 4)]  # those that decoding reads
    assert all(grid.dtype == jnp.int32 for grid in codes)
    assert all(int(grid.min()) >= 0 and int(grid.max()) < 8 for grid in codes)
    chex.assert_trees_all_equal(codes, tokenizer.encode(floats))
    chex.assert_trees_all_equal(codes, tokenizer.encode(jnp.asarray(images)))


def test_each_image_is_encoded_by_itself(tokenizer, images):
    codes = tokenizer.encode(images)
    backwards = tokenizer.encode(images[::-1])
    chex.assert_trees_all_equal(codes, tuple(grid[::-1] for grid in backwards))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 64])
def test_codes_and_pixels_of_an_image_do_not_depend_on_the_batch(tokenizer, images, n):
    rng = np.random.default_rng(n)
    batch = np.concatenate([images, rng.integers(0, 256, (64, *images.shape[1:]), np.uint8)])[:n]
    (together,) = tokenizer.encode(batch)
    alone = np.concatenate([tokenizer.encode(image)[0] for image in batch])
    chex.assert_trees_all_equal(np.asarray(together), alone)
    decoded = np.asarray(tokenizer.decode([together]), np.int64)
    apart = np.concatenate([tokenizer.decode([grid[None]]) for grid in alone]).astype(np.int64)
    assert np.abs(decoded - apart).max() <= 1  # rounding at a half


def test_reconstruction_is_the_decoded_codes(tokenizer, images):
    codes = tokenizer.encode(images)
    decoded = tokenizer.decode(codes)
    chex.assert_shape(decoded, images.shape)
    assert decoded.dtype == jnp.uint8
    chex.assert_trees_all_equal(decoded, tokenizer.reconstruct(images))
    chex.assert_trees_all_equal(decoded, tokenizer.decode([np.asarray(c).tolist() for c in codes]))


def test_decoding_is_the_models_forward_pass(tokenizer, images):
    trained = tokenizer.trained
    variables = jax.tree.map(jnp.asarray, trained.variables)
    out = trained.model.apply(variables, jnp.asarray(images / 127.5 - 1, jnp.float32))
    expected = np.clip(np.round((np.asarray(out.images, np.float64) + 1) * 127.5), 0, 255)
    difference = np.abs(np.asarray(tokenizer.reconstruct(images), np.float64) - expected)
    assert difference.max() <= 1  # rounding at a half
    assert np.mean(difference > 0) < 0.01


@pytest.mark.parametrize("size", [(24, 32), (1, 1), (9, 61), (16, 100)])
def test_image_of_any_size_has_grids_that_cover_it(tokenizer, size):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    (codes,) = tokenizer.encode(images)
    (grid,) = tokenizer.grids(*size)
    assert codes.shape == (2, *grid)
    assert 4 * grid[0] - 8 < size[0] <= 4 * grid[0]  # multiples of the stride 8
    assert 4 * grid[1] - 8 < size[1] <= 4 * grid[1]
    chex.assert_trees_all_equal(tokenizer.decode([codes], size), tokenizer.reconstruct(images))
    chex.assert_shape(tokenizer.decode([codes]), (2, 4 * grid[0], 4 * grid[1], 3))


def test_images_of_several_sizes_are_computed_together_and_give_what_each_gives_alone(tokenizer):
    rng = np.random.default_rng(0)
    sizes = [(16, 16), (40, 17), (5, 5), (16, 16), (33, 64), (30, 20), (70, 130), (16, 9)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    codes = list(tokenizer.encode_each(images))
    decoded = list(tokenizer.decode_each(codes, sizes))
    pairs = zip(images, codes, decoded, tokenizer.reconstruct_each(iter(images)), strict=True)
    for image, (grid,), pixels, reconstructed in pairs:
        chex.assert_trees_all_equal(grid[None], tokenizer.encode(image)[0])
        chex.assert_trees_all_equal(pixels, reconstructed)
        chex.assert_equal_shape([pixels, image])


def test_any_number_of_sizes_compiles_eight_programs(run):
    fresh: Any = avq.load(run)
    for side in range(9, 120, 7):
        fresh.reconstruct(np.zeros((1 + side % 2, side, side - 1, 3), np.uint8))
    assert fresh._encode._cache_size() == fresh._decode._cache_size() == 4


def test_tiles_of_a_larger_image_show_no_seams(tokenizer):
    """The step between neighbouring pixels at the tiles' borders is as at other codes' borders."""
    x = np.linspace(0, 255, 128).astype(np.uint8)
    image = np.broadcast_to(x[None, :, None], (64, 128, 3))
    steps = np.abs(np.diff(tokenizer.reconstruct(image)[0].astype(float), axis=1)).mean((0, 2))
    columns = tokenizer._tiling(64, 128).columns
    assert {middle % 4 for middle in columns.middles} == {0}
    at_borders = steps[[middle - 1 for middle in columns.middles]]
    assert len(at_borders) == 2
    assert at_borders.max() <= 1.1 * np.median(steps[3::4])


def test_words_that_describe_a_model(tokenizer):
    assert (tokenizer.image_size, tokenizer.levels, tokenizer.codebook_sizes) == (16, 1, (8,))
    (table,) = tokenizer.codebooks
    assert table.shape[0] == 8
    assert tokenizer.bits_per_pixel == 3 / 16
    text = "Tokenizer(step 2, 16 pixels to 4x4 of 8 codes, 0.188 bits a pixel)"
    assert repr(tokenizer) == text


def test_vectors_are_rows_of_the_codebook(tokenizer, images):
    (codes,), (vectors,) = tokenizer.encode(images), tokenizer.embed(images)
    chex.assert_trees_all_equal(vectors, tokenizer.codebooks[0][codes])


def test_files_are_read_and_others_refused(tokenizer, images, tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(images[0]).save(file)
    for name in (file, str(file)):
        chex.assert_trees_all_equal(tokenizer.encode(name), tokenizer.encode(images[0]))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"b\.png' is no image that can be read"):
        tokenizer.encode(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"c\.png' cannot be read \(No such file"):
        tokenizer.encode(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"2 images given in place of one"):
        list(tokenizer.encode_each([images[:2]]))


def test_transform_is_the_centre_square(tokenizer):
    image = np.random.default_rng(0).integers(0, 256, (16, 48, 3), np.uint8)
    np.testing.assert_array_equal(tokenizer.transform(image), image[:, 16:32])


def test_images_of_other_channels_become_those_of_the_model(tokenizer):
    rng = np.random.default_rng(0)
    grey, alpha = rng.integers(0, 256, (2, 16, 16), np.uint8), rng.integers(2, size=(2, 16, 16, 1))
    rgb = np.repeat(grey[..., None], 3, -1)
    codes = tokenizer.encode(rgb)
    for batch in (grey, grey[..., None]):
        chex.assert_trees_all_equal(tokenizer.encode(batch), codes)
        chex.assert_trees_all_equal(tokenizer.encode(to_float(batch)), codes)
    first = tuple(grid[:1] for grid in codes)
    wide = Image.fromarray(grey[0].astype(np.uint16) * 257)
    for image in (grey[0], grey[0, ..., None], Image.fromarray(grey[0]), wide):
        chex.assert_trees_all_equal(tokenizer.encode(image), first)
    four = np.concatenate([rgb, 255 * alpha], -1).astype(np.uint8)
    on_white = tokenizer.encode(np.where(alpha, rgb, 255).astype(np.uint8))
    chex.assert_trees_all_equal(tokenizer.encode(four), on_white)
    chex.assert_trees_all_equal(tokenizer.encode(to_float(four)), on_white)
    np.testing.assert_array_equal(tokenizer.transform(Image.fromarray(grey[0])), rgb[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(16, np.uint8), r"\(16,\); give \[b, h, w, c\] of 1, 3 or 4 channels"),
        (np.zeros((1, 3, 16, 16), np.uint8), r"\(1, 3, 16, 16\), channels first; give"),
        (np.zeros((1, 16, 16, 5), np.uint8), r"\(1, 16, 16, 5\); give"),
        (np.zeros((16, 16, 2), np.uint8), r"\(16, 16, 2\); give"),
        (Image.new("F", (16, 16)), r"PIL image is no image that can be read: floating-point"),
        (np.full((1, 16, 16, 3), 255.0), r"floats from 255 to 255; give floats in \[-1, 1\]"),
        (np.full((1, 16, 16, 3), 1.01, np.float32), r"from 1\.01 to 1\.01"),
        (np.full((1, 16, 16, 3), -2.0), r"floats from -2 to -2"),
        (jnp.full((1, 16, 16, 3), jnp.nan), r"floats from nan to nan"),
        (np.where(np.arange(768).reshape(1, 16, 16, 3) == 5, np.inf, 0.0), r"from 0 to inf"),
        (np.zeros((1, 0, 16, 3), np.uint8), r"\(1, 0, 16, 3\); give"),
        (np.zeros((1, 16, 16, 3), np.int32), r"int32; give uint8, or floats in \[-1, 1\]"),
        (np.zeros((1, 16, 16, 3), bool), r"bool; give uint8"),
    ],
)
def test_images_of_another_shape_type_or_range_are_refused(tokenizer, wrong, message):
    with pytest.raises(InputError, match=message):
        tokenizer.encode(wrong)


def test_one_image_is_a_batch_of_one(tokenizer, images):
    expected = tokenizer.encode(images[:1])
    for one in (images[0], Image.fromarray(images[0]), [Image.fromarray(images[0])]):
        chex.assert_trees_all_equal(tokenizer.encode(one), expected)


def test_no_images_have_no_codes(tokenizer):
    for kind in (np.uint8, np.float32):
        (codes,) = tokenizer.encode(np.zeros((0, 16, 16, 3), kind))
        chex.assert_shape(codes, (0, 4, 4))
    chex.assert_shape(tokenizer.decode([codes]), (0, 16, 16, 3))


def test_floats_without_a_negative_one_are_taken_with_one_warning(run, images, caplog):
    tokenizer, floats = avq.load(run), images / 255
    assert floats.min() >= 0
    assert floats.max() <= 1
    for _ in range(2):
        actual = tokenizer.encode(floats)
    assert caplog.text.count("in [0, 1], give 2 * images - 1") == 1
    dark = np.round((floats + 1) * 127.5).astype(np.uint8)  # the pixels that they stand for
    close = np.mean(np.asarray(actual[0]) == np.asarray(tokenizer.encode(dark)[0]))
    assert close > 0.8


def test_bfloat16_keeps_most_codes_and_another_type_is_refused(run, tokenizer, images):
    narrow = avq.load(run, dtype="bfloat16")
    same = np.asarray(narrow.encode(images)[0]) == np.asarray(tokenizer.encode(images)[0])
    assert same.mean() > 0.7
    assert narrow.trained.model.dtype == "bfloat16"
    with pytest.raises(InputError, match="'float16' is not one of float32, bfloat16"):
        avq.load(run, dtype="float16")


def grids(*shapes, value=0):
    return [np.full(shape, value, np.int32) for shape in shapes]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], r"0 grids of codes given; this model decodes 1"),
        (grids((1, 4, 4), (1, 2, 2)), r"2 grids of codes given; this model decodes 1"),
        (grids((4, 4)), r"not grids \[b, h, w\] of integers"),
        ([np.zeros((1, 4, 4))], r"not grids \[b, h, w\] of integers"),
        (grids((1, 4, 4), value=8), r"level 1 are not all in 0\.\.7"),
        (grids((1, 4, 4), value=-1), r"level 1 are not all in 0\.\.7"),
    ],
)
def test_codes_that_the_model_does_not_have_are_refused(tokenizer, codes, message):
    with pytest.raises(InputError, match=message):
        tokenizer.decode(codes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (grids((1, 4, 4)), r"1 grids of codes given; this model decodes 2"),
        (grids((1, 4, 4), (1, 4, 4)), r"level 2 are \(1, 4, 4\), not \(1, 2, 2\)"),
        (grids((1, 2, 2), (1, 4, 4)), r"level 2 are \(1, 4, 4\), not \(1, 1, 1\)"),
        (grids((2, 4, 4), (1, 2, 2)), r"level 2 are \(1, 2, 2\), not \(2, 2, 2\)"),
        ([*grids((1, 4, 4)), *grids((1, 2, 2), value=8)], r"level 2 are not all in 0\.\.7"),
    ],
)
def test_grids_of_several_levels_have_to_fit_together(tokenizer, codes, message):
    trained = tokenizer.trained
    model = trained.model.clone(decoder_inputs="all")  # its variables are not needed to refuse
    with pytest.raises(InputError, match=message):
        avq.Tokenizer(replace(trained, model=model)).decode(codes)
