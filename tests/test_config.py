"""Configs: what is refused and how it is said, and that every system builds and trains."""

from functools import partial

import chex
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from avq import config, parallel
from avq.errors import InputError
from avq.train.system import build, make_step

AH = "--config=configs/ah_vqvae.py"
SYSTEMS = ["vqvae", "h_vqvae", "ah_vqvae", "a_vqvae", "ah3_vqvae"]


def refusal(*arguments):
    """The message that arguments are refused with."""
    with pytest.raises(InputError) as error:
        config.load(arguments)
    message = str(error.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("model.comitment", "Did you mean --config.model.commitment?"),
        ("modle.codes", "Did you mean --config.model.codes?"),
        ("train.step", "Did you mean --config.train.steps?"),
        ("optim.lr", "optim.learning_rate"),
        ("nothing_like_it", "checkpoint, data, discriminator"),
    ],
)
def test_wrong_key_is_refused_with_the_right_one(key, right):
    message = refusal(AH, f"--config.{key}=1")
    assert f"no value {key!r}" in message
    assert right in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.steps", "many"),
        ("train.steps", "1.5"),
        ("loss.adversarial_weight", "a lot"),
        ("model.base_filters", "(4,"),
    ],
)
def test_value_of_the_wrong_type_is_refused_with_key_and_value(setting, value):
    message = refusal(AH, f"--config.{setting}={value}")
    assert setting in message
    assert value in message


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("train.eval_every", "0", "at least 1"),
        ("model.levels", "0", "at least 1"),
        ("model.base_filters", "(0, 4)", "at least 1"),
        ("model.base_filters", "(4, 4.5)", "whole numbers"),
        ("optim.learning_rate", "-1.0", "not negative"),
        ("optim.ema_decay", "1.5", "between 0 and 1"),
        ("optim.ema_decay", "nan", "between 0 and 1"),
    ],
)
def test_value_out_of_its_range_is_refused_with_what_it_has_to_be(setting, value, words):
    message = refusal(AH, f"--config.{setting}={value}")
    assert setting in message
    assert words in message


def test_every_range_is_of_a_value_that_there_is():
    known = config.flatten(config.load([AH]).to_dict())
    assert known.keys() >= {*config.COUNTS, *config.NOT_NEGATIVE, *config.SHARES}


def test_unknown_variant_is_refused_with_the_known_ones():
    assert "unknown variant 'huge'; there are: paper, tiny" in refusal(f"{AH}:huge")


def test_missing_file_is_refused_with_the_ones_there_are():
    message = refusal("--config=configs/no_vqvae.py")
    assert "no such file: 'configs/no_vqvae.py'" in message
    for system in SYSTEMS:
        assert f"configs/{system}.py" in message


def test_file_that_is_no_config_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("these are words")
    assert "words.txt" in refusal(f"--config={tmp_path / 'words.txt'}")


def test_no_config_at_all_is_refused():
    assert refusal().startswith("--config")


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("--seed=3", r"Did you mean --config\.seed\?"),
        ("--conifg.seed=3", r"Did you mean --config\.seed\?"),
        ("extra", r"--config\.KEY=VALUE"),
    ],
)
def test_argument_that_is_no_flag_is_refused_with_advice(argument, advice):
    with pytest.raises(InputError, match=f"unknown argument '{argument}'.*{advice}"):
        config.load([AH, argument])


def test_overrides_win_and_keep_their_types():
    settings = config.load(
        [
            AH,
            "--config.train.steps=7",
            "--config.loss.adversarial_weight=0",
            "--config.model.base_filters=(4,5,6)",
            "--config.data.path=some/where",
            "--config.train.steps=8",
        ]
    )
    assert settings.train.steps == 8
    assert isinstance(settings.loss.adversarial_weight, float)
    assert settings.loss.adversarial_weight == 0.0
    assert settings.model.base_filters == (4, 5, 6)
    assert settings.data.path == "some/where"
    assert settings.data.batch_size == 10


def test_loaded_config_takes_no_new_keys():
    settings = config.load([AH])
    with pytest.raises(AttributeError):
        settings.train.speed = 3


def test_each_load_gives_a_config_of_its_own():
    first, second = config.load([AH]), config.load([AH])
    first.train.steps = 1
    assert second.train.steps == 960_000


def test_nested_dicts_become_dotted_keys_and_tuples_lists():
    tree = {"a": 1, "b": {"c": (2, 3), "d": {"e": "x"}}, "f": {}}
    assert config.flatten(tree) == {"a": 1, "b.c": [2, 3], "b.d.e": "x"}


def test_resume_under_the_same_values_is_allowed_whatever_json_makes_of_them():
    saved = {"seed": 0, "model": {"filters": [4, 4]}, "train": {"steps": 5}}
    config.require_same(saved, {**saved, "model": {"filters": (4, 4)}}, "runs/a")
    with pytest.raises(InputError, match=r"model\.filters"):
        config.require_same(saved, {**saved, "model": {"filters": (4, 5)}}, "runs/a")


@pytest.mark.parametrize(
    "free",
    [
        {"train": {"steps": 9, "log_every": 1, "eval_every": 2}},
        {"checkpoint": {"every": 9, "keep": 9}},
        {"parallel": {"devices": 4}},
    ],
)
def test_what_may_change_on_resume_is_ignored(free):
    saved = {
        "seed": 0,
        "train": {"steps": 5, "log_every": 5, "eval_every": 5},
        "checkpoint": {"every": 1, "keep": 1},
        "parallel": {"devices": 0},
    }
    config.require_same(saved, saved | free, "runs/a")


def test_every_other_key_that_differs_is_named_with_both_values():
    saved = {"seed": 0, "model": {"codes": 8, "filters": [4, 4]}, "train": {"steps": 5}}
    now = {"seed": 1, "model": {"filters": (4, 5), "new": 2}, "train": {"steps": 6}}
    with pytest.raises(InputError) as error:
        config.require_same(saved, now, "runs/a")
    message = str(error.value)
    assert message.startswith("runs/a holds a run with another config: ")
    for difference in (
        "model.codes (8 there, None now)",
        "model.filters ([4, 4] there, [4, 5] now)",
        "model.new (None there, 2 now)",
        "seed (0 there, 1 now)",
    ):
        assert difference in message
    assert "steps" not in message


def test_lists_become_tuples_as_module_fields():
    fields = config.module_fields({"filters": [4, 4], "strides": (2, 2), "codes": 8, "norm": "off"})
    assert fields == {"filters": (4, 4), "strides": (2, 2), "codes": 8, "norm": "off"}
    hash(tuple(fields.items()))  # a module is a static argument


@pytest.mark.parametrize("variant", ["paper", "tiny"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_config_builds_with_a_discriminator_where_it_plays(system, variant):
    settings = config.load([f"--config=configs/{system}.py:{variant}"])
    built = build(settings)
    state = jax.eval_shape(partial(built.init, 0, settings.data.image_size))
    assert (state.discriminator is not None) == (settings.loss.adversarial_weight > 0)
    assert (state.discriminator is None) == (system == "vqvae")
    levels = {"vqvae": 1, "a_vqvae": 1, "h_vqvae": 2, "ah_vqvae": 2, "ah3_vqvae": 3}[system]
    assert built.vqvae.levels == levels
    chex.assert_type(jax.tree.leaves(state.vqvae.params), np.float32)


@pytest.mark.parametrize("system", SYSTEMS)
def test_paper_is_the_variant_when_none_is_named(system):
    named, unnamed = (config.load([f"--config=configs/{system}.py{v}"]) for v in (":paper", ""))
    assert named.to_dict() == unnamed.to_dict()


@pytest.mark.parametrize("system", SYSTEMS)
def test_tiny_variant_trains_two_steps(system):
    settings: ConfigDict = config.load([f"--config=configs/{system}.py:tiny"])
    built = build(settings)
    mesh = parallel.make_mesh(1)
    step = parallel.compile_step(make_step(built, settings, pixel_variance=0.3), mesh)
    size, rng = settings.data.image_size, np.random.default_rng(0)
    # Drawn by numpy: to compile the initial state takes half as long as to compile the step.
    shapes = jax.eval_shape(partial(built.init, settings.seed, size))
    state = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    for player in filter(None, (state.vqvae, state.discriminator)):
        player.params.update(
            jax.tree.map(lambda a: rng.normal(0, 0.1, a.shape).astype(a.dtype), player.params)
        )
    state = jax.device_put(state, parallel.replicated(mesh))
    images = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    for _ in range(2):
        state, metrics = step(state, parallel.place(images, mesh))
    chex.assert_tree_all_finite((state, metrics))
    assert int(state.step) == 2
