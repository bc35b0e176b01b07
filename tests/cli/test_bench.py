"""`avq bench`: its arguments, output and refusals; `tests/test_bench.py` has the measures."""

import json

import pytest

from avq import bench

TIMES = {"ms": 2.0, "ms_lower": 1.0, "ms_upper": 3.0, "images_per_s": 4000.0}
REPORT = {
    **{"device": "cpu: some, 2 cores", "jax": "0.10.0", "python": "3.11.0", "data": "photographs"},
    **{"instructions": ["avx2"], "options": {"training": {}, "inference": {"option": True}}},
    **{"batch_size": 8, "image_size": 64, "dtype": "float32", "compile_s": 5.0},
    "train": {"step_ms": 20.0, "step_ms_lower": 19.0, "step_ms_upper": 21.0, "images_per_s": 400.0},
    **{"encode": TIMES, "decode": TIMES, "data_wait": 0.25},
    **{"flops_per_image": 1e9, "achieved_flops": 4e11, "matmul_flops": 8e11, "peak_share": 0.5},
    "peak_memory_bytes": 3 * 2**20,
}


@pytest.fixture
def measured(monkeypatch):
    """Configs and numbers of calls that the measuring was asked for; it returns `REPORT`."""
    calls = []

    def measure(config, runs, on_stage):
        calls.append((config, runs))
        on_stage("timing training")
        return REPORT

    monkeypatch.setattr(bench, "bench", measure)
    return calls


@pytest.mark.parametrize(
    "config", [["ah_vqvae:tiny"], ["configs/ah_vqvae.py:tiny"], ["--config", "ah_vqvae:tiny"]]
)
def test_config_is_the_first_plain_argument_or_a_flag(invoke, measured, config):
    result = invoke("bench", *config, "--config.seed", 5, "--runs", 12, "--config.model.levels=1")
    assert result.exit_code == 0, result.output
    ((loaded, runs),) = measured
    assert (loaded.seed, loaded.model.levels, loaded.data.image_size, runs) == (5, 1, 64, 12)


def test_table_is_printed_json_is_written_and_stages_go_to_stderr(invoke, measured, tmp_path):
    file = tmp_path / "bench.json"
    result = invoke("bench", "ah_vqvae:tiny", "--config.seed=5", "--json", file)
    assert result.exit_code == 0, result.output
    assert "20.0 ms (19.0 .. 21.0), 400.0 images/s" in result.stdout
    assert result.stderr == "timing training ...\n"
    assert json.loads(file.read_text()) == {
        "config": "ah_vqvae:tiny --config.seed=5",
        **REPORT,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/none.py"], "no such file"),
        (["--runs", "20", "--config.seed=1"], "not given as --config=FILE"),
        (["configs/ah_vqvae.py:tiny", "--config.data.batchsize=3"], "data.batch_size"),
        (["configs/ah_vqvae.py:tiny", "--config.data.image_size=30"], "stride"),
        (["configs/ah_vqvae.py:tiny", "--config.data.batch_size=9"], "8 devices"),
        (["configs/ah_vqvae.py:tiny", "--config.data.path=nowhere"], "nowhere"),
        (["configs/ah_vqvae.py:tiny", "--json", "nowhere/bench.json"], "no folder 'nowhere'"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(invoke, one_line, arguments, message, monkeypatch):
    monkeypatch.setattr(bench, "Training", None)  # nothing is compiled
    result = invoke("bench", *arguments)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)
