"""The meta-dataset: four files in a folder, dense curves, what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.space.catalogue import hyperrec_space
from foretune.space.space import Space


def values(tasks=2, n=3, epochs=4):
    """Different everywhere: task, configuration and epoch can be read off a value."""
    t, i, e = np.indices((tasks, n, epochs))
    return 0.1 * t + 0.01 * i + 0.001 * e


def test_curves_are_dense_and_in_the_order_of_configs(table):
    want = values()
    meta = table(want)
    np.testing.assert_allclose(meta.Y(), want)
    np.testing.assert_allclose(meta.curves("t1"), want[1])
    np.testing.assert_allclose(meta.best(["t1", "t0"]), want[[1, 0]].max(axis=2))
    assert (
        meta.config_ids == [0, 10, 20]
        and len(meta) == 3
        and meta.max_epoch == 4
        and meta.tasks == ["t0", "t1"]
    )
    np.testing.assert_array_equal(meta.X.ravel(), [0, 0.5, 1])


def test_losses_are_turned_at_the_border(table):
    want = values()
    meta = table(want, "minimize")
    np.testing.assert_allclose(meta.Y(), -want)
    np.testing.assert_allclose(meta.best(), -want.min(axis=2))
    assert meta.sign == -1.0


def test_missing_diverged_and_start_are_told_apart(table):
    rows = table(values()).table
    rows.loc[(rows["task"] == "t0") & (rows["config_id"] == 10) & (rows["epoch"] == 3), "score"] = (
        np.inf
    )
    rows = rows[~((rows["task"] == "t0") & (rows["config_id"] == 20))]
    first = pd.DataFrame([{"task": "t0", "config_id": 10, "seed": 0, "epoch": 0, "score": 0.25}])
    base = table(values())
    meta = MetaDataset.build(
        base.space,
        dict(zip(base.config_ids, base.configs, strict=True)),
        pd.concat([rows, first]),
        metric="score",
        goal="maximize",
        max_epoch=4,
    )
    assert np.isnan(meta.curves("t0")[1]).tolist() == [
        False,
        False,
        True,
        False,
    ]  # an infinity is a divergence, not a record
    assert meta.failed("t0")[1].tolist() == [False, False, True, False]
    assert np.isnan(meta.curves("t0")[2]).all() and not meta.failed("t0")[2].any()  # never trained
    assert meta.start("t0").tolist()[1] == 0.25 and np.isnan(meta.start("t0")[[0, 2]]).all()
    assert np.isnan(meta.best()[0, 2]) and meta.best()[0, 1] == pytest.approx(0.013)


def test_seeds_are_kept_apart(table):
    one = table(values())
    rows = pd.concat([one.table, one.table.assign(seed=1, score=one.table["score"] + 0.5)])
    meta = MetaDataset.build(
        one.space,
        dict(zip(one.config_ids, one.configs, strict=True)),
        rows,
        metric="score",
        goal="maximize",
    )
    assert meta.seeds("t0") == [0, 1] and meta.seeds("t1") == [0, 1]
    np.testing.assert_allclose(meta.curves("t1", seed=1), values()[1] + 0.5)
    assert np.isnan(meta.curves("t1", seed=2)).all()


def test_other_metrics_can_be_asked_for(meta):
    assert meta.curves("t0", metric="seconds")[0, 0] == 0.5
    with pytest.raises(BadInput, match=r"unknown metric 'loss'.*valid_accuracy, seconds"):
        meta.curves("t0", metric="loss")


def test_saving_and_loading_keeps_everything_and_equal_content_gives_equal_files(meta, tmp_path):
    meta.save(tmp_path / "a")
    again = MetaDataset.load(tmp_path / "a")
    assert (
        again.configs == meta.configs
        and again.config_ids == meta.config_ids
        and again.space == meta.space
    )
    assert again.about["source"] == meta.about["source"] and again.tasks == meta.tasks
    np.testing.assert_array_equal(again.Y(), meta.Y())
    np.testing.assert_array_equal(again.start("t1"), meta.start("t1"))
    np.testing.assert_array_equal(again.failed("t2"), meta.failed("t2"))
    shuffled = MetaDataset(
        meta.space,
        meta.config_ids,
        meta.configs,
        type(meta.rows).of(meta.table.sample(frac=1, random_state=0)),
        meta.about,
    )
    shuffled.save(tmp_path / "b")
    for name in ("about.json", "space.json", "configs.parquet", "curves.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "about.json",
        "configs.parquet",
        "curves.parquet",
        "space.json",
    ]


def test_values_keep_their_types_where_other_cells_are_empty(tmp_path):
    space = Space(hyperrec_space())
    configs = space.sample(30, np.random.default_rng(0))
    for config in configs:
        for name, p in space.parameters.items():
            if name in config and p.numeric and not p.integer and p.lower <= 1.0 <= p.upper:
                config[name] = 1.0  # a whole float must not come back as an integer
    meta = MetaDataset.build(
        space,
        dict(enumerate(configs)),
        [],
        metric="accuracy",
        goal="maximize",
        max_epoch=3,
        tasks=["t"],
    )
    meta.save(tmp_path)
    again = MetaDataset.load(tmp_path).configs
    assert again == configs
    assert [[type(v) for v in c.values()] for c in again] == [
        [type(v) for v in c.values()] for c in configs
    ]


def test_select_holds_nothing_of_the_other_tasks(meta):
    part = meta.select(["t3", "t1", "t3"])
    assert (
        part.tasks == ["t3", "t1"]
        and set(part.table["task"]) == {"t1", "t3"}
        and part.max_epoch == meta.max_epoch
    )
    np.testing.assert_array_equal(part.Y(), meta.Y(["t3", "t1"]))
    with pytest.raises(BadInput, match="unknown task 't0'; synthetic has t3, t1"):
        part.curves("t0")
    assert meta.select([]).Y().shape == (0, 40, 9)


def test_rows_of_finds_configurations_by_content(meta):
    unknown = {**meta.configs[3], "learning_rate": 0.123456}
    assert meta.rows_of(
        [meta.configs[7], unknown, dict(reversed(meta.configs[2].items()))]
    ).tolist() == [7, -1, 2]


def test_equal_configurations_keep_their_own_rows(table):
    made = table(values())
    configs = dict(zip(made.config_ids, made.configs, strict=True))
    configs[made.config_ids[2]] = dict(made.configs[0])
    meta = made.build(made.space, configs, made.table, **made.about)
    assert meta.rows_of(meta.configs).tolist() == [0, 1, 2] and meta.rows_of(
        [{}, meta.configs[0]]
    ).tolist() == [-1, 0]


def broken(folder, change):
    """Damage a meta-dataset folder."""
    about = json.loads((folder / "about.json").read_text())
    match change:
        case "gone":
            shutil.rmtree(folder)
        case "no curves":
            (folder / "curves.parquet").unlink()
        case "no parquet":
            (folder / "curves.parquet").write_text("task,config_id\n")
        case "torn parquet":
            data = (folder / "configs.parquet").read_bytes()
            (folder / "configs.parquet").write_bytes(data[: len(data) // 2])
        case "no json":
            (folder / "about.json").write_text("{")
        case "list":
            (folder / "about.json").write_text("[1]")
        case "no metric":
            (folder / "about.json").write_text(
                json.dumps({k: v for k, v in about.items() if k != "metric"})
            )
        case "wrong goal":
            (folder / "about.json").write_text(json.dumps({**about, "goal": "max"}))
        case "other metric":
            (folder / "about.json").write_text(json.dumps({**about, "metric": "f1"}))
        case "no task column":
            pd.read_parquet(folder / "curves.parquet").drop(columns="task").to_parquet(
                folder / "curves.parquet"
            )
        case "no hyperparameter":
            pd.read_parquet(folder / "configs.parquet").drop(columns="learning_rate").to_parquet(
                folder / "configs.parquet"
            )
        case "no ids":
            pd.read_parquet(folder / "configs.parquet").drop(columns="config_id").to_parquet(
                folder / "configs.parquet"
            )
        case "no space":
            (folder / "space.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gone", "no meta-dataset folder"),
        ("no curves", r"lacks curves\.parquet"),
        ("no parquet", "cannot be read"),
        ("torn parquet", "cannot be read"),
        ("no json", "cannot be read"),
        ("list", "names the metric"),
        ("no metric", "names the metric"),
        ("wrong goal", "goal='max' must be 'maximize' or 'minimize'"),
        ("other metric", "lacks the columns f1; it has task, config_id"),
        ("no task column", "lacks the column task"),
        ("no hyperparameter", "lacks the columns learning_rate"),
        ("no ids", "lacks the columns config_id"),
        ("no space", "a ConfigSpace JSON file is an object"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_name_of_what_is_wrong(
    meta_folder, tmp_path, change, message
):
    folder = tmp_path / "m"
    shutil.copytree(meta_folder, folder)
    broken(folder, change)
    with pytest.raises(BadInput, match=message):
        MetaDataset.load(folder)


def test_build_refuses_a_goal_that_is_none(table):
    with pytest.raises(BadInput, match="goal='up'"):
        table(values(), "up")


def test_published_tables_load_whole(shared):
    sizes = {"hyperrec": (25, 100, 75), "lcbench": (25, 100, 51), "taskset": (6, 1000, 51)}
    for name, (tasks, n, epochs) in sizes.items():
        meta = MetaDataset.load(shared / "data" / "curves" / name)
        assert (len(meta.tasks), len(meta), meta.max_epoch) == (tasks, n, epochs)
        frame = pd.read_parquet(shared / "data" / "curves" / name / "curves.parquet")
        frame = frame[
            (frame["task"] == meta.tasks[-1]) & (frame["seed"] == 0) & (frame["epoch"] > 0)
        ]
        want = (
            frame.pivot(index="config_id", columns="epoch", values=meta.metric)
            .loc[meta.config_ids]
            .to_numpy()
            * meta.sign
        )
        got = meta.curves(meta.tasks[-1])
        assert (
            np.isnan(got[~np.isfinite(want)]).all()
            and (got[np.isfinite(want)] == want[np.isfinite(want)]).all()
        )


def test_epochs_beyond_the_last_one_are_refused(meta, tmp_path):
    meta.save(tmp_path / "t")
    table = pd.read_parquet(tmp_path / "t" / "curves.parquet")
    table["epoch"] += 99
    table.to_parquet(tmp_path / "t" / "curves.parquet")
    with pytest.raises(BadInput, match="rows of epoch .*, beyond max_epoch"):
        MetaDataset.load(tmp_path / "t")


@pytest.mark.parametrize("task", [3, None])
def test_a_task_that_is_no_text_is_refused(meta, tmp_path, task):
    meta.save(tmp_path / "t")
    table = pd.read_parquet(tmp_path / "t" / "curves.parquet").assign(task=task)
    table.to_parquet(tmp_path / "t" / "curves.parquet")
    with pytest.raises(BadInput, match="curves.parquet|cannot be read: column task"):
        MetaDataset.load(tmp_path / "t")
