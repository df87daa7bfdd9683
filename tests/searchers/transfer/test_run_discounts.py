"""What runs of other settings count."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.searchers.transfer.run_discounts import discounts
from foretune.searchers.transfer.run_surrogate import RunSurrogate


def runs_where(changes: bool) -> pd.DataFrame:
    """Runs at two image sizes; where the size `changes` things, the best x is elsewhere at 384."""
    rng = np.random.default_rng(0)
    rows = []
    for t in range(8):
        for _ in range(12):
            x, size = rng.uniform(), int(rng.choice([224, 384]))
            best = 0.8 if changes and size == 384 else 0.2
            value = 1 - (x - best) ** 2 + 0.01 * rng.normal()
            rows.append({"task": f"t{t}", "x": x, "image_size": size, "score": value})
    return pd.DataFrame(rows)


def test_a_size_that_changes_what_is_best_is_discounted_and_another_is_not():
    shares = {}
    for changes in (True, False):
        runs = runs_where(changes)
        (found,) = discounts(RunSurrogate(runs), runs, {"image_size": 384})
        assert (found.column, found.mine, found.theirs) == ("image_size", 384, 224)
        shares[changes] = found.share
    assert shares[True] < 0.5
    assert shares[False] > 0.9


def test_it_reads_as_a_sentence_and_an_unknown_setting_is_named():
    runs = runs_where(True)
    surrogate = RunSurrogate(runs)
    (found,) = discounts(surrogate, runs, {"image_size": 384})
    said = f"runs at image_size 224 count {found.share:.1f} of yours at 384"
    assert str(found) == said
    with pytest.raises(BadInput, match="'px' is no column"):
        discounts(surrogate, runs, {"px": 1})
