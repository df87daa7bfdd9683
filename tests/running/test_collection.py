"""The meta-dataset as it grows."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running import collection as module
from foretune.running.collection import BLOCK, COLUMNS, METRIC, Block, Collection, order
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.training.recipe import Settings

SETTINGS = Settings(max_epoch=3)
SPACE = Space(transfer_space())
POOL = transfer_pool()


def cell(
    task: str, config_id: int, epochs: int = 3, seconds: float = 1.0, diverged: bool = False
) -> list[dict[str, Any]]:
    """Rows of a trial; accuracy 0.1 per epoch."""
    rows = [
        {"task": task, "config_id": config_id, "seed": 0, "epoch": e}
        | dict.fromkeys(COLUMNS, 0.1 * e)
        for e in range(1, epochs + 1)
    ]
    if diverged:
        rows[-1] |= dict.fromkeys(COLUMNS, math.nan)
    return [row | {"seconds": seconds} for row in rows]


def collection(folder: Path, **options: Any) -> Collection:
    made = Collection(folder, SPACE, POOL, options.pop("settings", SETTINGS), **options)
    for task in ("a", "b"):
        made.describe(task, f"hash of {task}", f"source of {task}", "CC0")
    return made


def test_order_is_fixed_and_mixes_depths() -> None:
    ids = order(POOL)
    assert sorted(ids) == list(range(108))
    assert ids == order(POOL) != order(POOL, seed=1)
    depths = np.array([POOL[i]["finetune"] for i in ids])
    # 40 % of the way: all cheap trials are done, of the others as many of each
    first = list(depths[:43])
    assert (depths == "head").sum() == first.count("head") + (depths[43:] == "head").sum() == 36
    assert first.count("head") >= 24
    for stop in range(12, 109, 12):
        counts = [list(depths[:stop]).count(d) for d in sorted(set(depths) - {"head"})]
        assert max(counts) - min(counts) <= 1


def test_blocks_go_round_the_tasks(tmp_path: Path) -> None:
    blocks = collection(tmp_path / "m").missing(["a", "b"], 30)
    assert [(b.task, len(b.config_ids)) for b in blocks] == [
        ("a", 12),
        ("b", 12),
        ("a", 12),
        ("b", 12),
        ("a", 6),
        ("b", 6),
    ]
    assert [i for b in blocks if b.task == "a" for i in b.config_ids] == order(POOL)[:30]
    assert blocks[0].config_ids == blocks[1].config_ids
    assert BLOCK == 12


def test_only_missing_cells_are_left(tmp_path: Path) -> None:
    made, ids = collection(tmp_path / "m"), order(POOL)
    made.add(
        cell("a", ids[0]) + cell("a", ids[1], epochs=2, diverged=True) + cell("a", ids[2], epochs=2)
    )
    made.save()
    # a diverged trial is over, a partly trained one is not
    assert made.finished() == {("a", ids[0]), ("a", ids[1])}
    assert made.missing(["a"], 4) == [Block("a", (ids[2], ids[3]))]


def test_a_folder_is_taken_up(tmp_path: Path) -> None:
    made = collection(tmp_path / "m")
    made.add(cell("a", 5, seconds=2.0) + cell("b", 7, epochs=1, diverged=True))
    made.save()
    found = MetaDataset.load(tmp_path / "m")
    assert found.tasks == ["a", "b"]
    assert found.configs == POOL
    np.testing.assert_allclose(found.curves("a")[5], [0.1, 0.2, 0.3], rtol=1e-6)
    assert found.failed("b")[7].tolist() == [True, False, False]
    assert np.isnan(found.curves("a")[6]).all()
    assert found.about["cost"] == {"epochs": 3, "seconds": 7.0}
    assert found.about["settings"]["max_epoch"] == 3
    assert "device" not in found.about["settings"]
    assert found.about["hashes"] == {"a": "hash of a", "b": "hash of b"}
    assert found.table[METRIC].dtype == np.float32

    again = collection(tmp_path / "m")
    again.add(cell("a", 6))
    again.save()
    assert again.finished() == {("a", 5), ("a", 6), ("b", 7)}
    assert MetaDataset.load(tmp_path / "m").about["cost"] == {"epochs": 6, "seconds": 10.0}


def test_tasks_may_end_at_epochs_of_their_own(tmp_path: Path) -> None:
    made = collection(tmp_path / "m", epochs={"a": 5})
    assert [made.settings_of(t).max_epoch for t in ("a", "b")] == [5, 3]
    made.add(cell("a", 1) + cell("a", 2, epochs=5) + cell("b", 1))
    made.save()
    assert made.finished() == {("a", 2), ("b", 1)}
    found = MetaDataset.load(tmp_path / "m")
    assert (found.max_epoch, found.about["epochs"]) == (5, {"a": 5})
    assert collection(tmp_path / "m", epochs={"a": 5}).finished() == made.finished()
    for other in ({}, {"a": 4}):
        with pytest.raises(BadInput, match=r"epochs \{'a': 5\}"):
            collection(tmp_path / "m", epochs=other)


@pytest.mark.parametrize("where", ["kind_of_machine", "describe_machine"])
def test_ctrl_c_in_a_save_doubles_no_row(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule: whatever a save was at when it was stopped, the next one holds each cell once."""
    made, real = collection(tmp_path / "m"), getattr(module, where)
    made.add(cell("a", 1))
    made.add(cell("b", 2))

    def stop(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, where, stop)
    with pytest.raises(KeyboardInterrupt):
        made.save()
    monkeypatch.setattr(module, where, real)
    made.save()
    table = MetaDataset.load(tmp_path / "m").table
    assert len(table) == 6 and not table.duplicated(["task", "config_id", "seed", "epoch"]).any()


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    collection(tmp_path / "m").save()
    assert not (tmp_path / "m").exists()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    made = collection(tmp_path / "m")
    made.add(cell("a", 1))
    made.save()
    # another machine is no other curve
    collection(tmp_path / "m", settings=replace(SETTINGS, device="cpu", threads=2))
    with pytest.raises(
        BadInput, match=r"collected with image_size=48, but training.image_size is 64"
    ):
        collection(tmp_path / "m", settings=replace(SETTINGS, image_size=64))
    with pytest.raises(BadInput, match="another pool"):
        Collection(tmp_path / "m", SPACE, POOL[:50], SETTINGS)


def test_other_images_are_a_warning_and_the_record_stays(tmp_path: Path) -> None:
    made = collection(tmp_path / "m")
    assert made.describe("a", "hash of a", "source of a", "CC0") == ""
    assert "hash of a" in made.describe("a", "another", "source of a", "CC0")
    assert made.about["hashes"]["a"] == "hash of a"


def test_estimate_of_what_is_left(tmp_path: Path) -> None:
    made = collection(tmp_path / "m")
    heads = [i for i, c in enumerate(POOL) if c["finetune"] == "head"]
    most = [i for i, c in enumerate(POOL) if c["finetune"] == "most"]
    assert math.isnan(made.seconds_left([Block("a", (0,))], 2))
    made.add(
        cell("a", heads[0], seconds=1.0)
        + cell("a", most[0], seconds=10.0)
        + cell("b", most[0], seconds=20.0)
    )
    made.save()
    # 3, 3 (as the other head), 45, 45 (mean of two tasks)
    left = [Block("b", (heads[0], heads[1], most[0], most[1]))]
    assert made.seconds_left(left, workers=2) == pytest.approx((3 + 3 + 45 + 45) / 2)


def test_the_rank_is_a_column_where_it_is_asked_for(tmp_path: Path) -> None:
    ranked = collection(tmp_path / "m", rank=True)
    ranked.add([row | {"zero_share": 0.25} for row in cell("a", 1)])
    ranked.add(cell("a", 2))  # no convolution of it is trained
    ranked.save()
    table = MetaDataset.load(tmp_path / "m").table
    assert table.groupby("config_id")["zero_share"].mean().to_dict() == {
        1: 0.25,
        2: pytest.approx(math.nan, nan_ok=True),
    }
    assert "zero_share" not in MetaDataset.load(tmp_path / "m").about["settings"]
    goes_on = collection(tmp_path / "m")
    assert goes_on.rank and goes_on.finished() == {("a", 1), ("a", 2)}
    without = collection(tmp_path / "n")
    without.add(cell("a", 1))
    without.save()
    assert "zero_share" not in MetaDataset.load(tmp_path / "n").table
    with pytest.raises(BadInput, match="collected without zero_share"):
        collection(tmp_path / "n", rank=True)


def test_a_write_that_stopped_before_about_json_is_completed(tmp_path: Path) -> None:
    """Curves and about.json are two files: a kill between them must not hide the tasks that the
    curves hold already.
    """
    made = collection(tmp_path)
    made.add(cell("a", 0))
    made.save()
    before = (tmp_path / "about.json").read_bytes()
    made.add(cell("b", 0))
    made.save()
    whole = (tmp_path / "about.json").read_bytes()
    (tmp_path / "about.json").write_bytes(before)
    assert MetaDataset.load(tmp_path).tasks == ["a"]
    collection(tmp_path).save()
    assert (tmp_path / "about.json").read_bytes() == whole
    assert MetaDataset.load(tmp_path).about["cost"] == {"epochs": 6, "seconds": 6.0}


def test_the_photographs_configurations_are_the_first_to_be_collected_as_their_page_says():
    root = Path(__file__).resolve().parents[2]
    meta = MetaDataset.load(root / "data/meta/photos")
    seen = np.unique(meta.rows.columns["config_id"]).tolist()
    assert sorted(order(POOL)[:36]) == seen
    depths = [
        sum(POOL[i]["finetune"] == depth for i in seen) for depth in ("head", "last_blocks", "most")
    ]
    page = " ".join((root / "docs/notes/recommenders.md").read_text().split())
    assert (
        f"scattered from {seen[0]} to {seen[-1]}" in page and "the first 36 of the 108" not in page
    )
    assert (
        "{} train the head alone, {} the last blocks and {} most of the network".format(*depths)
        in page
    )
