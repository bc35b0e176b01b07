"""Counts and shapes of the paper's networks, against the paper and counting by hand."""

import functools
import json
import math

import pytest

from avq import config
from avq.describe import as_table, describe


@functools.cache
def report(system, *overrides):
    return describe(config.load([f"--config=configs/{system}.py", *overrides]))


@pytest.mark.parametrize(
    ("system", "total", "of_the_paper"),
    [
        ("ah_vqvae", 12_496_515, 12.496e6),
        ("h_vqvae", 12_430_467, 12.446e6),
        ("a_vqvae", 7_562_883, 7.549e6),
        ("ah3_vqvae", 18_452_611, None),
    ],
)
def test_sizes_of_the_systems_are_those_of_the_paper(system, total, of_the_paper):
    assert report(system)["vqvae"]["total"] == total
    if of_the_paper:
        assert total == pytest.approx(of_the_paper, rel=2e-3)


def test_plus_has_the_paper_s_codes_within_its_parameters():
    plus, paper = report("ah_vqvae_plus"), report("ah_vqvae")
    assert plus["tokens"] == paper["tokens"] == [32 * 32, 16 * 16]
    assert plus["vqvae"]["total"] < paper["vqvae"]["total"]
    assert plus["decoded_levels"] == 2
    parts = sum(row["total"] for row in plus["modules"])
    assert parts == plus["vqvae"]["total"]


def test_size_of_the_discriminator_is_that_of_the_paper():
    discriminator = report("ah_vqvae")["discriminator"]
    assert discriminator["total"] == 412_097 == pytest.approx(0.412e6, rel=2e-3)
    assert discriminator["output"] == [32, 32, 1]


def test_total_is_parameters_and_batch_statistics():
    vqvae = report("ah_vqvae")["vqvae"]
    assert (vqvae["params"], vqvae["batch_stats"]) == (12_474_243, 22_272)
    assert vqvae["params"] + vqvae["batch_stats"] == vqvae["total"]


def test_outputs_are_those_of_table_1():
    modules = {row["name"]: row for row in report("ah3_vqvae")["modules"]}
    expected = {
        "base encoder": [64, 64, 256],
        "AREN 1": [32, 32, 256],
        "AREN 2": [16, 16, 256],
        "AREN 3": [8, 8, 256],
        "codebook 1": [1024, 256],
        "codebook 3": [1024, 256],
        "decoder": [256, 256, 3],
        "discriminator": [32, 32, 1],
    }
    assert {name: modules[name]["output"] for name in expected} == expected


@pytest.mark.parametrize("system", ["ah_vqvae", "h_vqvae", "a_vqvae", "ah3_vqvae"])
def test_totals_of_the_modules_add_up(system):
    described = report(system)
    whole = described["vqvae"]["total"] + described["discriminator"]["total"]
    assert sum(row["total"] for row in described["modules"]) == whole


@pytest.mark.parametrize(
    ("system", "tokens"),
    [
        ("a_vqvae", [32 * 32]),
        ("ah_vqvae", [32 * 32, 16 * 16]),
        ("ah3_vqvae", [32 * 32, 16 * 16, 8 * 8]),
    ],
)
def test_tokens_and_bits_are_those_counted_by_hand(system, tokens):
    described = report(system)
    assert described["tokens"] == tokens
    assert described["decoded_levels"] == 1
    assert described["bits_per_image"] == tokens[0] * 10  # 1,024 codes, the finest level's alone
    assert described["bits_per_pixel"] == pytest.approx(tokens[0] * 10 / 256**2)
    every = report(system, "--config.model.decoder_inputs=all")
    assert every["decoded_levels"] == len(tokens)
    assert every["bits_per_image"] == sum(tokens) * 10


def test_bits_follow_the_codebook_and_the_size_of_the_image():
    described = report(
        "ah_vqvae", "--config.model.codebook_size=300", "--config.data.image_size=128"
    )
    assert described["tokens"] == [16 * 16, 8 * 8]
    assert described["bits_per_pixel"] == pytest.approx(256 * math.log2(300) / 128**2)


def test_forward_pass_takes_twice_the_multiplications_of_the_network():
    assert report("ah_vqvae")["vqvae"]["flops"] == pytest.approx(2 * 127.2e9, rel=0.03)


def test_totals_do_not_depend_on_how_codebooks_are_learned():
    ema, gradient = (
        report("ah_vqvae", f"--config.model.quantizer={how}") for how in ("ema", "gradient")
    )
    for kind in ("total", "params", "batch_stats"):
        assert ema["vqvae"][kind] == gradient["vqvae"][kind]
    assert ema["modules"] == gradient["modules"]


def test_plain_baseline_has_neither_attention_nor_discriminator():
    described = report("vqvae")
    assert described["discriminator"] is None
    assert "discriminator" not in {row["name"] for row in described["modules"]}
    assert described["vqvae"]["total"] < report("a_vqvae")["vqvae"]["total"]


def test_table_and_json_have_the_same_numbers():
    described = report("ah_vqvae")
    table = as_table(described)
    assert json.loads(json.dumps(described)) == described
    for number in ("12,496,515", "12,474,243", "22,272", "412,097", "10,240 per image"):
        assert number in table
    assert "1024 per image, and 256 that act through them alone" in table
    for row in described["modules"]:
        line = next(line for line in table.splitlines() if line.startswith(row["name"]))
        assert line.endswith(f"{row['total']:,}")
