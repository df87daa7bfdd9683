"""The collector as a Prefect flow."""

from pathlib import Path

import numpy as np
import pytest

from foretune.history.meta_dataset import MetaDataset
from foretune.running.collection import order
from foretune.space.catalogue import transfer_pool
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from foretune.training.trial import train

from .conftest import TINY


@pytest.mark.slow
def test_the_flow_trains_the_missing_cells_and_only_those(prefect_server: None, data: Path) -> None:
    from meta_dataset import meta_dataset

    given = {"data": str(data), "params": str(data / "params.yaml"), "workers": 1}
    assert meta_dataset(**given) == 4
    found = MetaDataset.load(data / "meta" / "tiny")
    ids = order(transfer_pool())[:2]
    assert sorted(set(found.table["config_id"])) == sorted(ids)
    expected = train(
        Task.load(data / "images" / "b.npz"),
        found.configs[ids[1]],
        0,
        2,
        settings=Settings(**TINY),
        seed=0,
    )
    np.testing.assert_allclose(
        found.curves("b")[ids[1]], [row["valid_accuracy"] for row in expected], rtol=1e-6
    )
    assert meta_dataset(**given) == 0


def test_bad_input_is_said_before_a_server_starts(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from meta_dataset import main

    assert main(["--data", str(data), "--params", str(data / "params.yaml"), "--tasks", "c"]) == 2
    assert capsys.readouterr().err == f"error: c is not prepared in {data}/images; there are a, b\n"
