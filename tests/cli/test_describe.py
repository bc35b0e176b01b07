"""`avq describe`: config as a plain argument or a flag, table or JSON, refusals."""

import json

import pytest

from avq import describe


def test_describe_prints_json(invoke, smoke):
    result = invoke("describe", *smoke, "--json")
    assert result.exit_code == 0, result.output
    described = json.loads(result.stdout)
    assert described["tokens"] == [16, 4]
    assert {"total", "params", "batch_stats"} <= set(described["vqvae"])
    assert described["discriminator"]["total"] > 0
    assert all({"name", "output", "total"} <= set(row) for row in described["modules"])


def test_describe_prints_a_table(invoke, smoke):
    result = invoke("describe", *smoke)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("module")
    assert "16 per image, and 4 that act through them alone" in result.stdout


def test_describe_refuses_a_wrong_key_in_one_line(invoke, one_line):
    result = invoke("describe", "--config=configs/ah_vqvae.py", "--config.model.kode_dim=3")
    assert result.exit_code == 2
    assert "Did you mean --config.model.code_dim?" in one_line(result.stderr)


def test_describe_refuses_a_size_that_the_stride_does_not_divide(invoke, one_line):
    result = invoke("describe", "ah_vqvae:tiny", "--config.data.image_size=60")
    assert result.exit_code == 2
    message = "data.image_size=60 is not a multiple of the model's stride 8. Use 56 or 64."
    assert message in one_line(result.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ah_vqvae:tiny", "--config.model.levels=3"],
        ["ah_vqvae:tiny", "--config.model.levels", "3"],
        ["configs/ah_vqvae.py:tiny", "--config.model.levels=3"],
        ["--config=ah_vqvae:tiny", "--config.model.levels=3"],
        ["--config", "ah_vqvae:tiny", "--config.model.levels", 3],
        ["--config.model.levels=3", "ah_vqvae:tiny"],
        ["--config.model.levels", "3", "ah_vqvae:tiny"],
    ],
)
def test_config_is_the_first_plain_argument_or_a_flag(invoke, monkeypatch, arguments):
    monkeypatch.setattr(describe, "describe", lambda config: config.to_dict())
    result = invoke("describe", "--json", *arguments)
    assert result.exit_code == 0, result.output
    described = json.loads(result.stdout)
    assert (described["model"]["levels"], described["data"]["image_size"]) == (3, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_config"], "no such file: 'no_such_config'"),
        (["ah_vqvae:huge"], "there are: paper, tiny"),
        (["ah_vqvae:tiny", "vqvae:tiny"], "unknown argument 'vqvae:tiny'"),
        (["--config=ah_vqvae:tiny", "vqvae:tiny"], "unknown argument 'vqvae:tiny'"),
        (["--config.model.levels=3"], "not given as --config=FILE"),
    ],
)
def test_arguments_that_name_no_config_or_two_are_refused_in_one_line(
    invoke, one_line, arguments, message
):
    result = invoke("describe", *arguments)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
