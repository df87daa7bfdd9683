"""The gate on made-up tables whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.catalogue import transfer_space
from foretune.space.space import Space
from papers.light2.gate import (
    CROSSED,
    LIST,
    ORACLE,
    Estimate,
    Table,
    gain,
    judged,
    main,
    noise_parts,
    noise_share,
    report,
    settled_best,
)
from papers.light2.subtasks import configurations

RNG = np.random.default_rng(0)
EXACT = 10**9  # validation images: no noise of theirs
CONFIGS = np.linspace(0.3, 0.9, 24)


def table(values: np.ndarray, again: np.ndarray | None = None, images: int = EXACT) -> Table:
    """Tasks (T, n) in sources of four."""
    names = tuple(f"t{i}" for i in range(len(values)))
    sources = np.array([f"s{i // 4}" for i in range(len(values))])
    twice = values if again is None else again
    return Table(names, sources, values, twice, np.full(len(values), images))


def two_kinds() -> np.ndarray:
    """In every source two tasks rank the configurations one way and two the other way round."""
    kinds = np.tile([1, -1, 1, -1], 6)[:, None]
    # what all share is too little to matter to a single task
    return 0.5 + kinds * (CONFIGS - 0.6) * 0.5 + 0.001 * RNG.random(24)


def test_an_oracle_gains_where_tasks_are_of_two_kinds() -> None:
    world = table(two_kinds())
    rows = judged(world)
    mean = rows.groupby("method")[["AP@10", "AP@5", "regret"]].mean()
    assert mean.loc[ORACLE].tolist() == [1.0, 1.0, 0.0]
    assert mean.loc["oracle, 1 nearest", "AP@10"] == 1.0
    assert mean.loc[LIST, "AP@10"] < 0.6
    # one of each kind opens the portfolio: its first two places are as good as it gets
    assert mean.loc["portfolio", "AP@10"] < 1.0
    gained = gain(rows, ORACLE, "AP@10")
    assert gained.value == pytest.approx(1 - mean.loc[LIST, "AP@10"])
    assert mean.loc[CROSSED, "AP@10"] == 1.0
    assert noise_share(world, 20).value < 0.01
    assert report(world).endswith("PASS (with the plain oracle: PASS)")


def test_nobody_gains_where_tasks_agree() -> None:
    """Levels and scales differ, the order does not."""
    levels, scales = RNG.uniform(0, 0.2, (24, 1)), RNG.uniform(0.3, 0.8, (24, 1))
    world = table(levels + scales * CONFIGS)
    rows = judged(world)
    assert (
        rows[rows["method"].isin([LIST, ORACLE, CROSSED, "list, raw mean"])]["AP@10"] == 1.0
    ).all()
    assert gain(rows, ORACLE, "AP@10") == Estimate(0.0, 0.0, 6)
    assert report(world).endswith("FAIL (with the plain oracle: FAIL)")


def test_pure_noise_is_all_noise_and_nothing_to_gain() -> None:
    def draw() -> np.ndarray:
        return 0.5 + 0.05 * RNG.normal(size=(400, 24))

    world = table(draw(), draw())
    assert noise_share(world, 24).value == pytest.approx(1.0, abs=0.05)
    few = [table(draw()[:24], draw()[:24]) for _ in range(2)]
    # chosen by what it is judged on, the nearest task looks like knowledge
    assert np.mean([gain(judged(one), ORACLE, "AP@10").value for one in few]) > 0.1
    assert abs(np.mean([gain(judged(one), CROSSED, "AP@10").value for one in few])) < 0.06
    assert report(few[0]).endswith("FAIL (with the plain oracle: FAIL)")


def test_tasks_that_share_nothing_but_the_list_do_not_pass() -> None:
    """No noise at all, but what is left beside the list is each task's own."""
    common = RNG.normal(size=24)
    few = [table((common + RNG.normal(size=(24, 24))) / 10 + 0.5) for _ in range(2)]
    rows = [judged(one) for one in few]
    plain, crossed = (
        np.mean([gain(r, method, "AP@10").value for r in rows]) for method in (ORACLE, CROSSED)
    )
    assert crossed < 0.02 < plain
    assert "\nFAIL (" in report(few[0])


def test_the_share_of_noise_is_what_was_put_in() -> None:
    """Interaction of deviation .04, seeds .03, images of a binomial: variances add up."""
    truth = 0.6 + 0.04 * RNG.normal(size=(800, 24))
    seeds = [truth + 0.03 * RNG.normal(size=truth.shape) for _ in range(2)]
    left, by_seeds, by_images = noise_parts(table(seeds[0], seeds[1]), 24)
    assert left == pytest.approx(0.0016 + 0.0009, rel=0.05)
    assert by_seeds == pytest.approx(0.0009, rel=0.05)
    assert by_images < 1e-8
    counted = RNG.binomial(300, truth.clip(0, 1)) / 300
    left, by_seeds, by_images = noise_parts(table(counted, images=300), 24)
    assert by_images == pytest.approx(0.6 * 0.4 / 300, rel=0.05)
    assert left == pytest.approx(0.0016 + by_images, rel=0.05)
    assert by_seeds == 0.0
    # a tenth of the cells trained twice says the same, less surely
    part = np.where(RNG.random(truth.shape) < 0.1, seeds[1], np.nan)
    assert noise_parts(table(seeds[0], part), 24)[1] == pytest.approx(0.0009, rel=0.1)


def test_only_the_first_of_the_list_count() -> None:
    """Configurations at the end of the list may be as noisy as they like."""
    values = np.tile(np.linspace(0.9, 0.3, 24), (24, 1))
    noisy = values.copy()
    noisy[:, 20:] += 0.01 * RNG.normal(size=(24, 4))
    assert noise_parts(table(noisy, values), 20)[:2] == (pytest.approx(0, abs=1e-12), 0.0)
    assert noise_parts(table(noisy, values), 24)[1] > 0


def test_errors_are_over_sources() -> None:
    """Four copies of a task are one source, not four: .1 and .3 by source, whatever the number."""
    rows = judged(table(two_kinds()))
    rows = rows[rows["method"].isin([LIST, ORACLE])].copy()
    rows["source"] = np.where(rows["task"] == "t0", "a", "b")
    rows["AP@10"] = np.where(rows["method"] == LIST, 0.0, np.where(rows["source"] == "a", 0.1, 0.3))
    found = gain(rows, ORACLE, "AP@10")
    assert (found.value, found.error) == (pytest.approx(0.2), pytest.approx(0.1))
    low, high = found.interval()  # t of one degree of freedom at 97.5 %: 12.706
    assert (low, high) == (pytest.approx(0.2 - 1.2706, abs=1e-4), pytest.approx(1.4706, abs=1e-4))


def test_the_held_out_source_does_not_help() -> None:
    """Each source has an order of its own: its sisters would make any task's AP 1, others do not."""
    orders = np.stack([RNG.permutation(24) for _ in range(6)]).repeat(4, axis=0)
    mean = judged(table(orders / 24)).groupby("method")["AP@10"].mean()
    assert (mean < 0.75).all()


def test_the_best_epoch_is_averaged_with_its_neighbours() -> None:
    nan = np.nan
    curves = np.array(
        [
            [0.1, 0.5, 0.9, 0.7],
            [0.9, 0.5, 0.1, 0.1],
            [0.1, 0.2, 0.3, nan],
            [0.4, nan, nan, nan],
            [nan] * 4,
        ]
    )
    np.testing.assert_allclose(settled_best(curves), [0.7, 0.7, 0.25, 0.4, nan])


def collected(folder: Path, configs: int) -> MetaDataset:
    """Four tasks of two sources with epochs of their own; the last configuration diverges on b."""
    rows = []
    for task, end in (("a", 2), ("b", 3), ("c", 2), ("d", 2)):
        for config in range(configs):
            for epoch in range(1, end + 1):
                value = 0.2 + 0.02 * config + 0.01 * epoch
                broken = task == "b" and config == configs - 1 and epoch == 2
                if not (task == "b" and config == configs - 1 and epoch > 2):
                    row = {"task": task, "config_id": config, "seed": 0, "epoch": epoch}
                    rows.append(row | {"valid_accuracy": np.nan if broken else value})
    rows.append({"task": "a", "config_id": 1, "seed": 1, "epoch": 1, "valid_accuracy": 0.5})
    rows.append({"task": "a", "config_id": 1, "seed": 1, "epoch": 2, "valid_accuracy": 0.7})
    # not yet at its end
    rows.append({"task": "b", "config_id": 1, "seed": 1, "epoch": 2, "valid_accuracy": 0.7})
    about = {
        "factors": {task: {"validation_images": 100} for task in "abcd"},
        "epochs": {"a": 2, "b": 3, "c": 2, "d": 2},
        "sources": {"a": "x", "b": "y", "c": "x", "d": "y"},
    }
    meta = MetaDataset.build(
        Space(transfer_space()),
        dict(enumerate(configurations())),
        rows,
        metric="valid_accuracy",
        goal="maximize",
        **about,
    )
    meta.save(folder)
    return MetaDataset.load(folder)


def test_a_table_that_grows_is_read_and_the_verdict_stays_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Table.of(collected(tmp_path, 12))
    assert found.values.shape == (4, 12)
    np.testing.assert_allclose(found.values[0], 0.215 + 0.02 * np.arange(12))  # epochs 1 and 2
    # epochs 2 and 3; the diverged one is as bad as the worst
    np.testing.assert_allclose(found.values[1, :11], 0.225 + 0.02 * np.arange(11))
    assert found.values[1, 11] == found.values[1, 0]
    assert np.argwhere(~np.isnan(found.again)).tolist() == [[0, 1]]
    assert found.again[0, 1] == pytest.approx(0.6)
    assert [found.scaled(k) for k in (10, 5, 20)] == [5, 2, 10]
    main(["--meta", str(tmp_path)])
    assert "OPEN (with the plain oracle: OPEN)" in capsys.readouterr().out
    with pytest.raises(BadInput, match="2 configurations are on every task, 3 are needed"):
        Table.of(collected(tmp_path / "few", 2))
