"""`avq eval` by workers: what one call prints and writes."""

import pytest

from avq.data import pipeline


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(pipeline, "IMAGES_PER_SHARD", 8)


def test_worker_and_finish_print_and_write_what_one_call_does(
    released, invoke, image_folder, small_shards, tmp_path
):
    flags = ("--data", image_folder, "--split", "all", "--batch-size", 8, "--compare", released)
    command = ("eval", released, *flags, "--json", tmp_path / "eval.json")
    shards = tmp_path / "eval.json.shards"
    result = invoke(*command, "--card", tmp_path / "card.md", "--worker", "0/1")
    assert result.exit_code == 0, result.output
    said = f"{tmp_path}/eval.json: worker 0/1 is done; after all are, run this with --finish"
    assert result.stdout.startswith(said)
    assert [path.name for path in tmp_path.iterdir()] == [shards.name]
    finished = invoke(*command, "--finish")
    assert finished.exit_code == 0, finished.output
    written = (tmp_path / "eval.json").read_bytes()
    (tmp_path / "eval.json").unlink()
    assert invoke(*command).stdout == finished.stdout
    assert (tmp_path / "eval.json").read_bytes() == written
    late = invoke(*command, "--worker", "0/3")
    assert late.exit_code == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--worker", "0/2"), "--worker and --finish need --json FILE: shards wait in FILE.shards"),
        (("--finish",), "--worker and --finish need --json FILE"),
        (("--worker", "2/2"), "worker 2 is none of 2"),
        (("--worker", "0/2", "--finish"), "--worker and --finish are for calls of their own"),
    ],
)
def test_eval_refuses_wrong_workers_in_one_line(released, invoke, one_line, flags, message):
    result = invoke("eval", released, *flags)
    assert result.exit_code == 2
    assert message in one_line(result.stderr)


def test_finish_before_any_worker_names_the_shards_and_writes_nothing(
    run, invoke, one_line, tmp_path
):
    result = invoke("eval", run, "--json", tmp_path / "eval.json", "--finish")
    assert result.exit_code == 2
    assert "1 of 1 shards are missing: test-00000-of-00001" in one_line(result.stderr)
    assert not list(tmp_path.iterdir())
