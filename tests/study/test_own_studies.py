"""Own studies as past tasks, and that the next study starts better for them."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.join import PREFIX
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.replay import Replay
from foretune.searchers.registry import searcher
from foretune.study.notes import Notes
from foretune.study.own_studies import own_studies, read_history, with_own_studies
from foretune.study.study import Plan, Study

SETTINGS = {"network": "n", "max_epoch": 9, "device": "cpu", "threads": 1}


def own_study(
    folder, meta, task, *, settings=None, task_hash="h", configs=None, method="random", budget=None
):
    """A finished study of `task`, as `foretune tune` would have left it."""
    pool = meta.configs if configs is None else configs
    notes = Notes(task_hash=task_hash, settings=SETTINGS if settings is None else settings)
    plan = Plan(
        task=task,
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        budget=budget or len(pool) * meta.max_epoch,
        method=method,
        notes=notes,
    )
    study = Study(meta.space, pool, plan, folder=folder)
    for _ in replay(study, Replay(meta, task), searcher(method), Score(meta, task)):
        pass
    study.save_tables()
    return study


def test_studies_of_the_same_images_are_one_past_task(meta, tmp_path):
    own_study(tmp_path / "a", meta, meta.tasks[0], configs=meta.configs[:5])
    own_study(tmp_path / "b", meta, meta.tasks[0], configs=meta.configs[5:8])
    own_study(tmp_path / "a" / "compare-random", meta, meta.tasks[0], configs=meta.configs[8:10])
    own_study(tmp_path / "c", meta, meta.tasks[1], task_hash="other", configs=meta.configs[:5])
    own_study(
        tmp_path / "d", meta, meta.tasks[2], task_hash="x", settings={**SETTINGS, "network": "m"}
    )
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "study.json").write_text("{")
    found = own_studies(tmp_path, {**SETTINGS, "device": "cuda"})
    assert [s.tasks for s in found] == [[f"{PREFIX}a"], [f"{PREFIX}c"]]
    assert len(found[0]) == 10 and np.isfinite(found[0].curves(f"{PREFIX}a")[:, 0]).sum() >= 9
    joined, left_out = with_own_studies(meta, tmp_path, SETTINGS)
    assert left_out == {"d": "network 'm', now 'n'"}
    assert joined.tasks == [*meta.tasks, f"{PREFIX}a", f"{PREFIX}c"] and len(joined) == len(meta)
    np.testing.assert_array_equal(joined.curves(f"{PREFIX}c")[:5], meta.curves(meta.tasks[1])[:5])
    assert joined.about["hashes"][f"{PREFIX}a"] == "h"
    assert with_own_studies(meta, tmp_path / "nothing", SETTINGS) == (meta, {})
    assert with_own_studies(None, tmp_path / "nothing", SETTINGS) == (None, {})
    assert with_own_studies(None, tmp_path, SETTINGS)[0].tasks == [f"{PREFIX}a", f"{PREFIX}c"]


def test_folder_of_studies_reads_as_a_meta_dataset(meta, tmp_path):
    with pytest.raises(BadInput):
        read_history(tmp_path)
    own_study(tmp_path / "a", meta, meta.tasks[0], configs=meta.configs[:5])
    own_study(tmp_path / "c", meta, meta.tasks[1], task_hash="other", configs=meta.configs[:5])
    assert read_history(tmp_path).tasks == [f"{PREFIX}a", f"{PREFIX}c"]
    meta.save(tmp_path / "m")
    assert read_history(tmp_path / "m").tasks == meta.tasks


def test_next_study_of_a_like_task_starts_better_for_a_finished_one(tmp_path):
    """The past knows only tasks with another best region; a short study of a task like the new one
    mends that.
    """
    meta = synthetic_meta(tasks=1, configs=60, epochs=9, seed=4)
    curves = meta.curves(meta.tasks[0])
    table = meta.table[meta.table.epoch > 0].copy()
    opposite = table.copy()
    opposite[meta.metric] = table[meta.metric].max() + table[meta.metric].min() - table[meta.metric]
    like = table.copy()
    like[meta.metric] += np.random.default_rng(0).normal(0, 0.02 * np.nanstd(curves), len(like))
    rows = [table.assign(task="new"), like.assign(task="like")]
    rows += [opposite.assign(task=f"far{k}") for k in range(3)]
    import pandas as pd

    world = MetaDataset.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        pd.concat(rows, ignore_index=True),
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=9,
        tasks=["new", "like", "far0", "far1", "far2"],
    )
    far = world.select(["far0", "far1", "far2"])
    own_study(tmp_path / "mine", world, "like", method="hyperband", budget=120)
    regrets = {}
    for name, past in (("before", far), ("after", with_own_studies(far, tmp_path, SETTINGS)[0])):
        study, objective = replay_study(
            world, "new", budget=27, sources=["far0"], method="curve-transfer"
        )
        study = Study(world.space, world.configs, study.plan, past=past)
        steps = list(replay(study, objective, searcher("curve-transfer"), Score(world, "new")))
        regrets[name] = steps[-1]["normalized_regret"]
    print(regrets)
    assert regrets["before"] > 0.05 and regrets["after"] < 0.5 * regrets["before"]


def test_a_study_of_another_space_hides_no_other_study_of_the_same_images(meta, table, tmp_path):
    other = table(np.random.default_rng(0).random((1, 4, 9)))
    notes = Notes(task_hash="h", settings=SETTINGS)
    plan = Plan(task="t0", metric="score", goal="maximize", max_epoch=9, budget=9, notes=notes)
    study = Study(other.space, other.configs, plan, folder=tmp_path / "a")
    for _ in replay(study, Replay(other, "t0"), searcher("random"), Score(other, "t0")):
        pass
    study.save_tables()
    own_study(tmp_path / "b", meta, meta.tasks[0], configs=meta.configs[:5])
    own_study(tmp_path / "c", meta, meta.tasks[1], task_hash="i", configs=meta.configs[:5])
    assert with_own_studies(meta, tmp_path, SETTINGS)[0].tasks == [
        *meta.tasks,
        f"{PREFIX}b",
        f"{PREFIX}c",
    ]
    assert read_history(tmp_path).tasks == [f"{PREFIX}b", f"{PREFIX}c"]
