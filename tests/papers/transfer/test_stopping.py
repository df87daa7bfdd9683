"""What an end before the budget's saves and loses."""

import numpy as np

from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.shipped import LIGHT
from papers.transfer.rivals import pasts_of, sources_of
from papers.transfer.stopping import PRICES, ends


def test_the_dearer_a_training_the_earlier_the_end():
    meta = full_grid(MetaDataset.load(LIGHT))
    task = meta.tasks[0]
    found = ends(meta, task, pasts_of(sources_of(meta))[task], 2)
    assert found.shape == (len(PRICES) + 1, 2)
    spent, regret = found.T
    assert (np.diff(spent[:-1]) <= 0).all() and (spent[:-1] <= spent[-1]).all()
    assert spent[-1] == 2 * meta.max_epoch and (regret[:-1] >= regret[-1]).all()
