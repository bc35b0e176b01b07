"""Loading a prior."""

import json
import shutil

import pytest

from avq.apply.prior import load_prior
from avq.errors import InputError


def test_parameters_that_the_config_does_not_ask_for_are_refused(prior_run, tmp_path):
    run = tmp_path / "prior"
    shutil.copytree(prior_run, run)
    config = json.loads((run / "config.json").read_text())
    config["model"]["width"] += 2
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"has other parameters than its config\.json asks for"):
        load_prior(run)
