"""The accounting of epochs that peers are held to, and the table's lines."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from foretune.evaluation.replay import Score

BENCH = Path(__file__).resolve().parents[2] / "bench"


def module(path: Path):
    """A script of bench/, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


POOL = module(BENCH / "peers" / "pool.py")


@pytest.fixture
def pool(tmp_path):
    """Three configurations, three epochs, a budget of six."""
    path = tmp_path / "pool.json"
    curves = [[0.1, 0.3, 0.2], [0.2, None, 0.4], [0.5, 0.6, 0.7]]
    path.write_text(json.dumps({"x": [[0, 0], [1, 0], [1, 1]], "curves": curves}))
    return POOL.Pool(str(path), seed=0, budget=6)


def test_a_proposal_stands_for_the_nearest_configuration(pool):
    assert pool.nearest([0.9, 0.2]) == 1 and pool.nearest({"x0": 0.8, "x1": 0.9}) == 2


def test_epochs_are_paid_once(pool):
    assert pool.train(0, 1) == 0.1 and pool.spent == 1
    assert pool.train(0, 3) == 0.2 and pool.spent == 3  # goes on from its checkpoint
    assert pool.train(0, 2) == 0.3 and pool.spent == 3  # known already
    assert pool.train(1, 2) == 0.1 and pool.spent == 5  # diverged: the worst of the pool
    with pytest.raises(POOL.Spent):
        pool.train(2, 3)
    assert [(s, b) for s, b, _ in pool.trace] == [
        (1, 0.1),
        (3, 0.3),
        (5, 0.3),
        (6, 0.5),
    ]  # one epoch of the last step was paid for


def test_a_line_of_the_table(table):
    score = Score(table(np.array([[[0.0, 0.0], [0.5, 1.0]]])), "t0")
    line = module(BENCH / "run.py").row(
        "m", [(score, [(2, 0.25, 0.01), (4, 0.75, 0.03)])], (1, 3, 4)
    )
    assert (
        (line["1"], line["3"], line["4"]) == (1.0, 0.75, 0.25)
        and line["ms"] == 20
        and line["runs"] == 1
    )
