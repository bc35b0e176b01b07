"""Configs: what is refused and how it is said, where they are found, and what a run may change."""

import json

import pytest

from avq import config, tasks
from avq.errors import InputError
from avq.settings import settings_of

AH = "--config=configs/ah_vqvae.py"
SYSTEMS = ("vqvae", "a_vqvae", "h_vqvae", "ah_vqvae", "ah3_vqvae", "ah_vqvae_plus")


def refusal(*arguments):
    """The message that arguments are refused with."""
    with pytest.raises(InputError) as error:
        tasks.load(arguments)
    message = str(error.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("model.comitment", "Did you mean --config.model.commitment?"),
        ("modle.levels", "Did you mean --config.model.levels?"),
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
        ("train.eval_every", "0", "between 1 and 2,147,483,647"),
        ("train.steps", 2**31, "between 0 and 2,147,483,647"),
        ("loss.adversarial_start", 2**31, "between 0 and 2,147,483,647"),
        ("model.levels", "0", "between 1 and 8"),
        ("model.levels", 10**30, "between 1 and 8"),
        ("model.decoder_blocks", 10**20, "between 0 and 100"),
        ("model.base_filters", "(0, 4)", "between 1 and 65,536"),
        ("model.base_filters", "(4, 4.5)", "a tuple of one or more whole numbers"),
        ("model.base_filters", "()", "a tuple of one or more whole numbers"),
        ("model.revive_below", "nan", "has to be a number"),
        ("data.image_size", "8", "between 11 and 16,384"),
        ("loss.terms.mae_over_var", "-1.0", "not negative"),
        ("optim.b1", "1.0", "between 0 and 0.999999"),
        ("optim.learning_rate", "-1.0", "not negative"),
        ("optim.ema_decay", "1.5", "between 0 and 1"),
        ("optim.ema_decay", "nan", "has to be a number"),
        ("model.attention_norm", "soft", "is not one of"),
        ("loss.adversarial", "wasserstein", "is not one of non_saturating, hinge"),
        ("model.quantizer", "none", "is not one of ema, gradient"),
        ("task", "nothing", "is not one of autoencoder"),
        ("seed", "-1", "between 0 and 4,294,967,295"),
        ("seed", 2**32, "between 0 and 4,294,967,295"),
    ],
)
def test_value_out_of_its_range_is_refused_with_what_it_has_to_be(setting, value, words):
    message = refusal(AH, f"--config.{setting}={value}")
    assert setting.removesuffix(".mae_over_var") in message
    assert words in message


def test_every_setting_has_a_meaning_and_is_a_key_of_every_config():
    sections = tasks.TASKS["autoencoder"].sections()
    known = config.flatten(tasks.load([AH]).to_dict())
    for section, kinds in sections.items():
        for name, setting in settings_of(*kinds).items():
            assert len(setting.meaning) > 3
            key = f"{section}.{name}" if section else name
            assert any(k == key or k.startswith(key + ".") for k in known)


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
        tasks.load([AH, argument])


def test_overrides_win_and_keep_their_types():
    settings = tasks.load(
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
    settings = tasks.load([AH])
    with pytest.raises(AttributeError):
        settings.train.speed = 3


def test_each_load_gives_a_config_of_its_own():
    first, second = tasks.load([AH]), tasks.load([AH])
    first.train.steps = 1
    assert second.train.steps == 960_000


def test_nested_dicts_become_dotted_keys_and_tuples_lists():
    tree = {"a": 1, "b": {"c": (2, 3), "d": {"e": "x"}}, "f": {}}
    assert config.flatten(tree) == {"a": 1, "b.c": [2, 3], "b.d.e": "x"}


def test_resume_under_the_same_values_is_allowed_whatever_json_makes_of_them():
    saved = {"seed": 0, "model": {"filters": [4, 4]}, "train": {"steps": 5}}
    config.require_same(saved, {**saved, "model": {"filters": (4, 4)}}, [], "runs/a")
    with pytest.raises(InputError, match=r"model\.filters"):
        config.require_same(saved, {**saved, "model": {"filters": (4, 5)}}, [], "runs/a")


def test_what_may_change_on_resume_is_how_long_a_run_goes_and_what_is_written():
    free = config.free_on_resume(tasks.TASKS["autoencoder"].sections())
    assert sorted(free) == [
        *("checkpoint.every", "checkpoint.keep", "checkpoint.keep_best", "data.max_rejected"),
        *("data.path", "data.workers", "loss.lpips_weights", "optim.skip_nonfinite"),
        *("parallel.deterministic", "parallel.devices", "parallel.fsdp"),
        *("train.eval_every", "train.log_every", "train.steps"),
    ]
    saved = config.flatten({"seed": 0, **dict.fromkeys(free, 1)})
    config.require_same(saved, saved | dict.fromkeys(free, 2), free, "runs/a")


def test_every_other_key_that_differs_is_named_with_both_values():
    saved = {"seed": 0, "model": {"codes": 8, "filters": [4, 4]}, "train": {"steps": 5}}
    now = {"seed": 1, "model": {"filters": (4, 5), "new": 2}, "train": {"steps": 6}}
    with pytest.raises(InputError) as error:
        config.require_same(saved, now, ["train.steps"], "runs/a")
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


def test_config_that_lacks_a_section_is_refused_with_its_keys(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from avq.configs import common\n\n\ndef get_config():\n"
        "    config = common.tiny()\n    del config.checkpoint\n    return config\n"
    )
    message = refusal(f"--config={file}")
    assert "lacks the section 'checkpoint' (checkpoint.every, checkpoint.keep" in message


def test_config_that_lacks_a_value_is_refused_with_its_meaning(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from avq.configs import common\n\n\ndef get_config():\n"
        "    config = common.tiny()\n    del config.data.flip\n    return config\n"
    )
    assert "config lacks 'data.flip'" in refusal(f"--config={file}")


@pytest.mark.parametrize("name", ["configs/ah_vqvae.py", "configs/ah_vqvae", "ah_vqvae"])
@pytest.mark.parametrize("variant", ["", ":tiny"])
def test_packaged_config_is_found_from_any_folder(name, variant, tmp_path, monkeypatch):
    here = tasks.load([f"--config=configs/ah_vqvae.py{variant}"]).to_dict()
    monkeypatch.chdir(tmp_path)
    assert tasks.load([f"--config={name}{variant}"]).to_dict() == here


def test_config_of_the_working_folder_comes_before_a_packaged_one(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ah_vqvae.py").write_text(
        "from avq.configs import common\n\n\ndef get_config():\n"
        "    config = common.tiny()\n    config.seed = 77\n    return config\n"
    )
    monkeypatch.chdir(tmp_path)
    assert tasks.load(["--config=ah_vqvae"]).seed == 77
    assert tasks.load(["--config=configs/ah_vqvae.py"]).seed == 77


@pytest.mark.parametrize("name", ["ah_vqvae.txt", "configs/ah_vqvae.json", "ah_vqvae.v2"])
def test_name_with_another_suffix_is_no_packaged_config(name):
    assert f"no such file: {name!r}" in refusal(f"--config={name}")


def test_last_config_given_is_taken():
    both = ["--config=configs/ah_vqvae.py:tiny", "--config=configs/vqvae.py:tiny"]
    assert tasks.load(both).model.levels == 1


def test_packaged_config_is_not_taken_for_a_file_of_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such file: 'elsewhere/ah_vqvae.py'" in refusal("--config=elsewhere/ah_vqvae.py")


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1], "holds no config"),
        ({"model": 3}, "holds no config"),
        ({"format": 9}, "newer than this avq"),
        ({"format": "2"}, "newer than this avq"),
    ],
)
def test_config_json_that_is_none_is_refused(saved, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match=message):
        config.read_config(tmp_path)


def test_config_json_comes_back_as_it_was_written_and_older_names_as_today_s(tmp_path):
    assert config.read_config(tmp_path) is None
    written = {"seed": 1, "model": {"codes": 5}}
    config.write_config(tmp_path, written)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == config.FORMAT
    assert config.read_config(tmp_path) == written
    older = {"codes": 8, "latent_dim": 4, "codebook_update": "ema", "levels": 1}
    (tmp_path / "config.json").write_text(json.dumps({"model": older}))
    newer = {"codebook_size": 8, "code_dim": 4, "quantizer": "ema", "levels": 1}
    assert config.read_config(tmp_path) == {"model": newer}


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (["a:tiny"], ["--config=a:tiny"]),
        (["--config.seed=3", "a", "b"], ["--config.seed=3", "--config=a", "b"]),
        (["--config", "a", "b"], ["--config=a", "b"]),
        (["a", "a"], ["--config=a", "a"]),
        (["--config=a", "--config.seed", "3"], ["--config=a", "--config.seed=3"]),
        (["a", "--config.data.flip", "--json"], ["--config=a", "--config.data.flip", "--json"]),
        (["--config.seed", "-3", "a"], ["--config.seed=-3", "--config=a"]),
        ([], []),
    ],
)
def test_arguments_of_a_verb_become_flags(given, flags):
    assert config.as_flags(given) == flags


def test_values_behind_a_blank_are_joined_to_the_flags_that_take_one():
    given = ["--workdir", "runs/a", "--distributed", "x", "--config.a=1", "y", "--profile"]
    joined = ["--workdir=runs/a", "--distributed", "x", "--config.a=1", "y", "--profile"]
    assert config.joined(given, ("--workdir", "--profile")) == joined
