"""The whole model: the paper's sizes, exact decoding, and gradients everywhere."""

import math
from functools import cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from avq.models.quantizers import EMAQuantizer, GradientQuantizer
from avq.models.vqvae import VQVAE

from .model_helpers import normal, random_variables, sharded, size

PAPER: dict[str, dict[str, Any]] = {
    "AH": {},
    "H": {"attention_norm": "off"},
    "A": {"levels": 1},
    "AH3": {"levels": 3},
}


def tiny(**fields):
    small: dict[str, Any] = {
        "make_quantizer": partial(EMAQuantizer, codebook_size=8, code_dim=4),
        "base_filters": (3, 4),
        "aren_filters": 4,
        "decoder_filters": (4, 3, 3),
        "encoder_blocks": 1,
        "attention_dim": 4,
    }
    return VQVAE(**(small | fields))


@cache
def traced(name):
    """Shapes of a paper model's reconstruction and variables, with every module's output."""
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    model = VQVAE(**PAPER[name])
    return jax.eval_shape(
        lambda x: model.init_with_output(
            jax.random.key(0), x, capture_intermediates=True, mutable=True
        ),
        images,
    )


def total(variables):
    """Parameters and batch statistics, each codebook counted once wherever it lies."""
    codebooks = variables.get("codebook", {}).get("encoder", {})
    tables = {k: v["embedding"] for k, v in codebooks.items() if "embedding" in v}
    return size([variables["params"], variables["batch_stats"], tables])


def follow(tree, path):
    for name in path:
        tree = tree.get(name, {})
    return tree


@pytest.mark.parametrize(
    ("name", "expected", "batch_stats"),
    [
        ("AH", 12_496_515, 22_272),
        ("H", 12_430_467, 22_272),
        ("A", 7_562_883, 15_104),
        ("AH3", 18_452_611, 32_000),
    ],
)
def test_model_has_the_size_that_the_papers_counts_imply(name, expected, batch_stats):
    reconstruction, variables = traced(name)
    chex.assert_shape(reconstruction.images, (1, 256, 256, 3))
    assert total(variables) == expected
    assert size(variables["batch_stats"]) == batch_stats


def test_attention_costs_66048_values_in_two_levels():
    (_, with_attention), (_, without) = traced("AH"), traced("H")
    assert total(with_attention) - total(without) == 66_048
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(without["params"])]
    assert not [p for p in paths if "attention" in p]


@pytest.mark.parametrize(
    ("name", "path", "shape", "expected"),
    [
        ("AH", ("encoder", "base"), (64, 64, 256), 1_949_952),
        ("AH", ("encoder", "arens_0"), (32, 32, 256), 3_059_200),
        ("AH", ("encoder", "arens_0", "attention"), (32, 32, 128), 33_024),
        ("AH", ("encoder", "arens_1"), (16, 16, 256), 4_015_872),
        ("AH", ("encoder", "arens_1", "attention"), (16, 16, 128), 33_024),
        ("AH3", ("encoder", "arens_2"), (8, 8, 256), 4_972_544),
        ("AH", ("encoder", "resize2"), (32, 32, 256), 590_080),
        ("AH", ("encoder", "combine1"), (32, 32, 256), 131_328),
        ("A", ("encoder", "combine1"), (32, 32, 256), 65_792),
        ("AH", ("decoder",), (256, 256, 3), 2_225_795),
    ],
    ids=lambda v: v[-1] if isinstance(v, tuple) and isinstance(v[-1], str) else None,
)
def test_module_has_the_size_and_output_of_the_papers_table(name, path, shape, expected):
    variables = dict(traced(name)[1])
    output, *trees = (
        follow(variables[k], path) for k in ("intermediates", "params", "batch_stats")
    )
    chex.assert_shape(output["__call__"][0], (1, *shape))
    assert size(trees) == expected


def test_codebooks_have_1024_codes_of_256():
    _, variables = traced("AH3")
    tables = [v["embedding"] for v in variables["codebook"]["encoder"].values()]
    assert len(tables) == 3
    chex.assert_shape(tables, (1024, 256))


@pytest.mark.parametrize(
    "fields",
    [
        {"attention_norm": "paper"},
        {"attention_norm": "mean"},
        {"attention_norm": "bias"},
        {"make_quantizer": partial(GradientQuantizer, codebook_size=8, code_dim=4)},
        {"stride_at": "first"},
    ],
    ids=["paper", "mean", "bias", "gradient", "first"],
)
def test_size_does_not_depend_on(fields):
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    reference, other = (
        jax.eval_shape(lambda x, m=m: m.init(jax.random.key(0), x), images)
        for m in (tiny(), tiny(**fields))
    )
    assert total(other) == total(reference)


@pytest.mark.parametrize("inputs", ["finest", "all"])
def test_decoding_the_codes_is_the_reconstruction_exactly(inputs):
    chex.clear_trace_counter()
    model = tiny(base_filters=(3,), decoder_filters=(4, 3), decoder_inputs=inputs)
    images = normal(2, 8, 12, 3)
    variables = random_variables(model, images)
    # In parts, as users have it: in one piece LLVM rounds a sum otherwise in one of the programs.
    parts = {"xla_cpu_parallel_codegen_split_count": 32}
    encode, decode, reconstruct = (
        jax.jit(chex.assert_max_traces(f, n=1), compiler_options=parts)
        for f in (
            lambda x: model.apply(variables, x, method="encode"),
            lambda codes: model.apply(variables, codes, method="decode"),
            lambda x: model.apply(variables, x),
        )
    )
    for batch in (images, 2 * images):
        codes, expected = encode(batch), reconstruct(batch)
        read = 1 if inputs == "finest" else 2
        chex.assert_shape(codes, [(2, 4, 6), (2, 2, 3)][:read])
        chex.assert_type(codes, jnp.int32)
        chex.assert_trees_all_equal(codes, tuple(level.codes for level in expected.levels[:read]))
        chex.assert_equal_shape([expected.images, images])
        chex.assert_trees_all_equal(decode(codes), expected.images)


def test_every_grid_of_codes_reaches_the_image_where_the_decoder_takes_all():
    model = tiny(base_filters=(3,), decoder_filters=(4, 3), decoder_inputs="all")
    variables = random_variables(model, normal(1, 8, 8, 3))
    decode = jax.jit(lambda codes: model.apply(variables, codes, method="decode"))
    fine = jnp.arange(16, dtype=jnp.int32).reshape(1, 4, 4) % 8
    coarse = jnp.zeros((1, 2, 2), jnp.int32)
    before, after = decode((fine, coarse)), decode((fine, coarse + 3))
    assert np.min(np.max(np.abs(before - after), axis=-1)) > 0
    assert np.max(np.abs(before - decode((fine[:, ::-1], coarse)))) > 1e-3


@pytest.mark.parametrize(("inputs", "sides"), [("finest", [4]), ("all", [4, 2])])
def test_bits_are_those_of_the_codes_that_decoding_reads(inputs, sides):
    model = tiny(base_filters=(3,), decoder_filters=(4, 3), decoder_inputs=inputs)
    bits = sum(side**2 for side in sides) * math.log2(model.codebook_sizes()[0])
    assert model.bits_per_pixel(8) == pytest.approx(bits / 8**2)


def test_codebooks_are_the_tables_by_level():
    model = tiny(base_filters=(3,), decoder_filters=(4, 3))
    variables = random_variables(model, normal(1, 8, 8, 3))
    tables = [level["embedding"] for level in variables["codebook"]["encoder"].values()]
    assert len(tables) == 2
    chex.assert_trees_all_equal(list(model.apply(variables, method="codebooks")), tables)


@pytest.mark.parametrize("halvings", [1, 2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_grids_and_stride_foretell_the_codes(levels, halvings, key):
    filters = (3,) * (halvings + 1)
    model = tiny(levels=levels, base_filters=filters, decoder_filters=(3, *filters))
    side = 2 * model.stride()
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    result, _ = jax.eval_shape(lambda x: model.init_with_output(key, x), images)
    assert side == 2 * 2 ** (halvings + levels)
    assert [level.codes.shape[1] for level in result.levels] == list(model.grids(side))
    chex.assert_shape(result.levels[-1].codes, (1, 2, 2))
    chex.assert_shape(result.images, images.shape)


def test_decoder_filters_must_match_the_encoders_halvings(key):
    with pytest.raises(ValueError, match="decoder_filters has 2 entries, must have 3"):
        tiny(decoder_filters=(4, 4)).init(key, normal(1, 16, 16, 3))


def test_training_reaches_every_parameter_and_statistic(key):
    model = tiny(base_filters=(3,), decoder_filters=(4, 3))
    images, weight = normal(2, 8, 8, 3, mean=1.0), normal(2, 8, 8, 3, seed=1)
    variables = random_variables(model, images)
    state = {k: variables[k] for k in ("batch_stats", "codebook")}

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def train(params):
        rngs = {"codebook": key}
        result, after = model.apply(
            {"params": params} | state, images, True, mutable=[*state], rngs=rngs
        )
        _, updated = model.apply(
            {"params": params} | after,
            [level.statistics for level in result.levels],
            mutable=["codebook"],
            method="update_codebooks",
        )
        loss = jnp.sum(weight * result.images) + sum(q.loss for q in result.levels)
        return loss, after | updated

    gradients, after = train(variables["params"])
    changes = jax.tree.map(lambda a, b: np.asarray(a) - b, after, state)
    chex.assert_tree_all_finite((gradients, after))
    # a batch norm takes out the constant that the bias of the convolution before it adds
    free = ("to_rgb", "combine1", "resize2", "attention", "arens_0/project", "arens_1/project")
    for path, leaf in jax.tree.leaves_with_path([gradients, changes]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        before_norm = name.endswith("bias") and "norm" not in name
        if not before_norm or any(part in name for part in free):
            assert np.max(np.abs(leaf)) > 1e-4, name


def test_evaluation_changes_nothing(key):
    model = tiny(base_filters=(3,), decoder_filters=(4, 3))
    images = normal(2, 8, 8, 3, mean=1.0)
    variables = random_variables(model, images)
    state = {k: variables[k] for k in ("batch_stats", "codebook")}
    apply = jax.jit(lambda x: model.apply(variables, x, mutable=[*state])[1])
    chex.assert_trees_all_equal(apply(images), state)


def test_remat_has_the_same_variables_and_gradients_and_takes_less_memory():
    images = normal(8, 32, 32, 3)
    variables = random_variables(tiny(levels=1), images)
    gradients, memory = [], []
    for remat in (False, True):
        model = tiny(levels=1, remat=remat, axis_name="data")
        alone = model.clone(axis_name=None)
        chex.assert_trees_all_equal_shapes_and_dtypes(random_variables(alone, images), variables)

        def gradient(params, images, model=model):
            params = jax.lax.pcast(params, "data", to="varying")

            def loss(params):
                out, _ = model.apply(
                    {**variables, "params": params},
                    images,
                    train=True,
                    mutable=["batch_stats", "codebook"],
                    rngs={"codebook": jax.random.key(0)},
                )
                return jnp.mean(out.images**2) + sum(level.loss for level in out.levels)

            return jax.lax.psum(jax.grad(loss)(params), "data")

        step: Any = sharded(gradient, 1, (P(), P("data")), P())
        compiled = step.lower(variables["params"], images).compile()
        gradients.append(compiled(variables["params"], images))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    chex.assert_trees_all_close(*gradients, rtol=1e-3, atol=1e-5)
    assert memory[1] < 0.8 * memory[0]


def test_images_of_a_batch_do_not_meet_under_rms_norm():
    x, model = normal(3, 16, 16, 3), tiny(norm="rms")
    variables = random_variables(model, x)
    assert "batch_stats" not in variables
    fixed = {**variables, "codebook": jax.tree.map(jnp.ones_like, variables["codebook"])}

    @jax.jit
    def train(x):
        rngs = {"codebook": jax.random.key(0)}
        return model.apply(fixed, x, train=True, mutable=["codebook"], rngs=rngs)[0].images

    chex.assert_trees_all_close(train(x)[:1], train(x[:1]), rtol=1e-4, atol=1e-5)
