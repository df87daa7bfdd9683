"""Tables of curves keep what they are given, and refuse what they could only guess at."""

import json

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from foretune.errors import BadInput
from foretune.history.meta_dataset import JSON_COLUMNS, MetaDataset
from foretune.space.space import Space

LR = Space(ConfigurationSpace({"lr": Float("lr", (1e-4, 0.1), log=True)}))


def row(config_id=0, seed=0, epoch=1, v=0.5, task="t", **rest):
    return {"task": task, "config_id": config_id, "seed": seed, "epoch": epoch, "v": v, **rest}


def table(rows, space=LR, configs=None, metric="v"):
    configs = {0: {"lr": 0.01}, 1: {"lr": 0.02}} if configs is None else configs
    return MetaDataset.build(space, configs, rows, metric=metric, goal="maximize", name="m")


def test_large_seeds_epochs_and_ids_come_back(tmp_path):
    big = [0, 32767, 32768, 65536, 123456, 2**31, 2**40, -5]
    configs = {2**33: {"lr": 0.01}}
    rows = [row(2**33, seed, epoch) for seed in big for epoch in (1, 70000)]
    table(rows, configs=configs).save(tmp_path)
    back = MetaDataset.load(tmp_path)
    assert back.seeds("t") == sorted(big)
    assert back.config_ids == [2**33]
    assert back.max_epoch == 70000
    assert all(back.curves("t", seed)[0, 69999] == 0.5 for seed in big)


def test_small_keys_stay_small(tmp_path):
    table([row()]).save(tmp_path)
    kinds = pd.read_parquet(tmp_path / "curves.parquet").dtypes
    assert [str(kinds[c]) for c in ("config_id", "seed", "epoch")] == ["int32", "int16", "int16"]


FAULTS = [
    ([row(v="abc")], "column v has 'abc' of type str"),
    ([row(v="0.5")], "column v has '0.5' of type str"),
    ([row(epoch="1")], "column epoch has '1' of type str"),
    ([row(epoch=1.5)], r"column epoch has 1\.5; it must hold whole numbers"),
    ([row(epoch=None)], "column epoch has nan"),
    ([row(epoch=-1)], "has epoch -1"),
    ([row(seed=None), row(seed=1)], "column seed has nan"),
    ([row(seed=True)], "column seed has truth values"),
    ([row(config_id="0")], "column config_id has '0' of type str"),
    ([row(config_id=7)], "rows of config_id 7, which is no configuration's"),
    (
        [row(v=0.5), row(v=0.6)],
        r"two values, 0\.5 and 0\.6, of task t, config_id 0, seed 0, epoch 1",
    ),
    ([row(task="b"), row(v=0.5), row(v=0.5), row(v=float("nan"))], "two values, 0.5 and nan"),
    ([row(task=None), row()], "rows without a task"),
]


@pytest.mark.parametrize(("rows", "named"), FAULTS)
def test_rows_at_fault_are_refused_by_column_and_type(rows, named):
    with pytest.raises(BadInput, match=named):
        table(rows)


@pytest.mark.parametrize(("rows", "named"), FAULTS)
def test_files_at_fault_are_refused_by_file_column_and_type(rows, named, tmp_path):
    table([row()]).save(tmp_path)
    pd.DataFrame(rows).to_parquet(tmp_path / "curves.parquet")
    with pytest.raises(BadInput, match=named) as refused:
        MetaDataset.load(tmp_path)
    assert str(tmp_path / "curves.parquet") in str(refused.value)


@pytest.mark.parametrize("missing", ["task", "config_id", "seed", "epoch", "v"])
def test_a_missing_column_is_named(missing):
    rows = [{k: v for k, v in row().items() if k != missing}]
    with pytest.raises(BadInput, match=f"lack.* {missing}"):
        table(rows)


@pytest.mark.parametrize("name", ["task", "seed", "epoch", "config_id", "run_id"])
def test_a_metric_has_no_name_of_the_tables(name):
    with pytest.raises(BadInput, match="cannot be named 'run_id'|column task|lacks the col"):
        table([row(run_id=1)], metric=name)


@pytest.mark.parametrize(
    ("ids", "values", "named"),
    [
        (["0", "1"], [0.01, 0.02], "config_id '0' is of type str"),
        ([0, 0], [0.01, 0.02], "config_id 0 is given to two configurations"),
        ([0, 1], [0.01, 5.0], r"entry 1: lr=5\.0 must be a number from"),
        ([0, 1], ["a", "b"], "entry 0: lr='a' must be a number"),
        ([0, 1], [0.01, None], "entry 1: the configuration lacks lr"),
    ],
)
def test_configurations_at_fault_are_refused(ids, values, named, tmp_path):
    table([row()]).save(tmp_path)
    pd.DataFrame({"config_id": ids, "lr": values}).to_parquet(tmp_path / "configs.parquet")
    with pytest.raises(BadInput, match=named) as refused:
        MetaDataset.load(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_equal_rows_and_whole_floats_are_no_fault(tmp_path):
    meta = table(
        [row(epoch=2.0), row(epoch=2.0), row(epoch=1, v=np.float32(0.25), seed=np.int8(0))]
    )
    assert meta.curves("t")[0].tolist() == [0.25, 0.5]


def nested():
    """`aug` may be None, `size` is of several types, `p` is active where `aug` is not None."""
    space = ConfigurationSpace()
    aug = Categorical("aug", [None, "flip", "none", "0"])
    flag, level = Categorical("flag", [False, True]), Categorical("level", [0, 1])
    size, p = Categorical("size", ["auto", 1, 0.5, None]), Categorical("p", [None, 0, 1])
    space.add(aug, flag, level, size, p)
    space.add(EqualsCondition(p, aug, "flip"))
    return Space(space)


CONFIGS = [
    {"aug": None, "flag": False, "level": 0, "size": "auto"},
    {"aug": "flip", "flag": True, "level": 1, "size": 1, "p": None},
    {"aug": "flip", "flag": False, "level": 0, "size": 0.5, "p": 0},
    {"aug": "none", "flag": True, "level": 0, "size": None},
    {"aug": "0", "flag": False, "level": 1, "size": 1},
]


def test_none_zero_false_and_inactive_stay_apart(tmp_path):
    meta = table([row(i) for i in range(5)], nested(), dict(enumerate(CONFIGS)))
    meta.save(tmp_path)
    back = MetaDataset.load(tmp_path)
    assert back.configs == CONFIGS
    kinds = [[type(v) for v in c.values()] for c in back.configs]
    assert kinds == [[type(v) for v in c.values()] for c in CONFIGS]
    assert np.array_equal(back.X, meta.X)
    assert len(np.unique(back.X, axis=0)) == 5
    about = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    assert about[JSON_COLUMNS] == ["aug", "size", "p"]


def test_a_table_written_without_json_texts_still_reads(tmp_path):
    space = ConfigurationSpace()
    aug, p = Categorical("aug", [None, "flip"]), Categorical("p", [None, "a"])
    space.add(aug, p)
    space.add(EqualsCondition(p, aug, "flip"))
    configs = [{"aug": None}, {"aug": "flip", "p": None}, {"aug": "flip", "p": "a"}]
    table([row(i) for i in range(3)], Space(space), dict(enumerate(configs))).save(tmp_path)
    old = pd.DataFrame(
        {"config_id": [0, 1, 2], "aug": [None, "flip", "flip"], "p": [None, None, "a"]}
    )
    old.to_parquet(tmp_path / "configs.parquet")
    about = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    del about[JSON_COLUMNS]
    (tmp_path / "about.json").write_text(json.dumps(about), encoding="utf-8")
    assert MetaDataset.load(tmp_path).configs == configs
