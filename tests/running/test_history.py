"""What a study learns from runs of other spaces, settings and tools, and what it keeps of them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Float

from foretune.errors import BadInput
from foretune.history.runs import FACTS, NUMBERS, RunStore, run_id
from foretune.running.history import (
    FILE,
    Question,
    Source,
    alike,
    described,
    in_one_unit,
    in_vocabulary,
    keep,
    kept,
    lessons,
    sources_of,
    stored,
)
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.study import Plan, Study


def store(task="flowers", rates=(0.1, 0.01, 0.001), values=(0.5, 0.7, 0.6), **more):
    """A store of complete runs of one task that differ in the learning rate."""
    rows = []
    for k, (rate, value) in enumerate(zip(rates, values, strict=True)):
        facts = {fact: math.nan if fact in NUMBERS else "" for fact in FACTS}
        facts |= {"run_id": run_id(task, k), "task": task, "state": "complete", "source": "csv:s"}
        facts |= {"source_id": f"{k}", "metric": "valid_accuracy", "goal": "maximize"}
        facts |= {"split": "valid", "value": value, "last": value, "learning_rate": rate}
        facts |= {"epochs_planned": 5.0, "epochs_done": 5.0, "optimizer": "adam"}
        rows.append({**facts, **more})
    curves = pd.DataFrame({"run_id": pd.Series(dtype=object), "epoch": pd.Series(dtype=float)})
    return RunStore(pd.DataFrame(rows), curves, {"sources": ["csv:s"]})


def space(*more):
    """A rate under another tool's name, and more."""
    found = ConfigurationSpace()
    found.add([Float("lr", (1e-4, 1.0), log=True), *more])
    return Space(found)


def question(**more):
    """A study of that space at 96 px."""
    given = {"space": space(), "settings": {"image_size": 96}, "metric": "valid_accuracy"}
    return Question(**{**given, **more})


def test_imported_runs_come_under_the_studys_names_and_values(tmp_path):
    store().add_to(tmp_path / "history" / "mine")
    (source,) = [s for s in sources_of(tmp_path) if s.name == "mine"]
    asked = question(space=space(Categorical("opt", ["SGD", "Adam"])))
    found, told = lessons([source], asked)
    assert found.table["lr"].tolist() == [0.1, 0.01, 0.001] and told == []
    assert set(found.table["opt"]) == {"Adam"} and "learning_rate" not in found.table
    assert found.table["score"].rank().tolist() == [1, 3, 2]
    assert not {"value", "state", "run_id", "epochs_done", "metric"} & set(found.table)
    assert found.counts == {"mine": (3, 1)}


def test_what_is_said_names_sources_columns_and_likeness(tmp_path):
    store(image_size=48.0).add_to(tmp_path / "history" / "mine")
    (source,) = [s for s in sources_of(tmp_path) if s.name == "mine"]
    asked = question(space=space(Float("mixup", (0.0, 1.0))))
    found, _ = lessons([source], asked)
    leans, like = described(found, asked)
    assert leans == "leaning on 3 runs of 1 task: mine (3 of 1); they varied lr; new to them: mixup"
    assert like == "how like: image_size 96 in none (most have 48)"


def test_runs_of_the_same_task_are_no_history_by_name_or_content():
    table = stored_table("roses", "tulips")
    source = Source("mine", table, {"roses": "abc", "tulips": "def"})
    found, told = lessons([source], question(task="roses", task_hash="other"))
    assert set(found.table["task"]) == {"tulips"} and "roses" in told[0]
    found, told = lessons([source], question(task="photos", task_hash="def"))
    assert set(found.table["task"]) == {"roses"}
    assert told == ["3 runs of this very task left out: tulips"]
    own = Source("own studies", stored_table("studies/roses"), {"studies/roses": "abc"})
    assert len(lessons([own], question(task="roses", task_hash="x"))[0].table) == 3


def stored_table(*tasks):
    """Scored runs of these tasks."""
    rows = [
        {"task": t, "images": t, "kind": "accuracy", "of": "mine", "score": s, "learning_rate": r}
        for t in tasks
        for s, r in ((0.5, 0.1), (0.7, 0.01), (0.6, 0.001))
    ]
    return pd.DataFrame(rows)


def test_an_imported_study_of_foretune_is_not_counted_twice(tmp_path):
    digest = "0123456789abcdef"
    runs = store(source="foretune:studies", source_id=f"s roses 1 seed 0 {digest[:12]}")
    runs.save(tmp_path / "mine" / "part")
    assert len(stored(tmp_path / "mine").table) == 3
    assert len(stored(tmp_path / "mine", {digest[:12]}).table) == 0


def test_a_task_can_be_left_out_and_others_named():
    source = Source("mine", stored_table("roses", "tulips"))
    assert set(lessons([source], question(without=("roses",)))[0].table["task"]) == {"tulips"}
    assert set(lessons([source], question(only=("roses",)))[0].table["task"]) == {"roses"}
    none, told = lessons([source], question(without=("roses", "tulips")))
    assert none is None and "says nothing" in told[0]


def test_a_past_that_varied_nothing_of_the_space_says_so():
    other = ConfigurationSpace()
    other.add(Float("dropout", (0.0, 0.5)))
    none, told = lessons([Source("mine", stored_table("roses"))], question(space=Space(other)))
    assert none is None
    assert told == ["history says nothing of this space: no past run varied dropout"]


def test_other_metrics_come_by_rank_at_the_level_of_the_studys_own():
    losses = stored_table("tulips").assign(kind="loss", score=[-9.0, -1.0, -1.5])
    both = pd.concat([stored_table("roses"), losses], ignore_index=True)
    found = in_one_unit(both, "accuracy")["score"]
    assert found[:3].tolist() == [0.5, 0.7, 0.6]
    # the level is roses' median, the order tulips' own
    assert found[3] < found[5] < found[4] and found[5] == pytest.approx(0.6)
    np.testing.assert_array_equal(in_one_unit(losses, "accuracy")["score"], losses["score"])


def test_columns_of_own_tables_become_the_vocabularys():
    table = pd.DataFrame({"max_epoch": [10], "train_limit": [0], "device": ["cpu"], "odd": [1]})
    found = in_vocabulary(table)
    assert list(found) == ["epochs", "train_images", "extra.odd"]
    assert found["epochs"].tolist() == [10] and found["train_images"].isna().all()


def test_a_name_beside_the_column_that_it_may_mean_is_another_thing():
    own = pd.DataFrame({"auto_augment": ["randaugment"], "augmentation": ["crop"]})
    found = in_vocabulary(own)
    assert found["augmentation"].tolist() == ["crop"]
    assert found["extra.auto_augment"].tolist() == ["randaugment"]
    assert list(in_vocabulary(own[["auto_augment"]])) == ["augmentation"]
    both = ConfigurationSpace()
    both.add(Categorical("augmentation", ["none", "crop"]))
    both.add(Categorical("auto_augment", ["none", "randaugment"]))
    table = stored_table("roses").assign(augmentation=["none", "crop", "none"])
    taken = lessons([Source("mine", table)], question(space=Space(both)))[0].table
    assert taken["augmentation"].tolist() == ["none", "crop", "none"]
    assert "auto_augment" not in taken


def test_a_study_keeps_its_runs_and_refuses_others(tmp_path):
    table = stored_table("roses")[["task", "score", "learning_rate"]]
    digest = keep(table, tmp_path)
    pd.testing.assert_frame_equal(kept(tmp_path, digest), table, check_dtype=False)
    assert kept(tmp_path, None) is None
    keep(table.assign(score=0.0), tmp_path)
    with pytest.raises(BadInput, match="is not what study"):
        kept(tmp_path, digest)
    (tmp_path / FILE).unlink()
    with pytest.raises(BadInput, match="is gone"):
        kept(tmp_path, digest)


def test_curves_apply_where_the_pool_is_shared_or_tasks_are_enough(meta):
    pool = list(meta.configs)
    assert alike(meta, pool) and alike(meta, []) and not alike(None, pool)
    few = meta.select(meta.tasks[:2])
    assert alike(few, pool) and not alike(few, [])
    assert not alike(meta, [{**pool[0], next(iter(pool[0])): "elsewhere"}])


def test_what_is_learned_from_imported_runs_is_where_they_were_good():
    """Best near a rate of 0.01 on all past tasks: the first suggestion is there."""
    rates = np.geomspace(1e-4, 1.0, 9)
    tables = [
        stored_runs(f"t{k}", rates, 0.8 - 0.1 * np.abs(np.log10(rates) + 2) + 0.01 * k)
        for k in range(4)
    ]
    found, _ = lessons([Source("mine", pd.concat(tables, ignore_index=True))], question())
    plan = Plan("new", "valid_accuracy", "maximize", 5, 20, method="curve-transfer", open=True)
    study = Study(space(), [], plan, runs=found.table)
    step = study.ask(searcher("curve-transfer"))
    assert 1e-3 < study.configs[step.config_id]["lr"] < 1e-1


def stored_runs(task, rates, scores):
    """Scored runs of one task."""
    table = pd.DataFrame({"learning_rate": rates, "score": scores})
    return table.assign(task=task, images=task, kind="accuracy", of="mine")


def test_a_question_may_have_constants(tmp_path):
    asked = replace(question(), settings={})
    assert asked.varied == ["lr"]


def test_a_source_that_hurts_counts_nothing_unless_it_is_the_most_like():
    rates = np.geomspace(1e-4, 1.0, 10)

    def runs(name, peak, **columns):
        parts = [
            pd.DataFrame({"learning_rate": rates, "score": 0.9 - 0.1 * abs(np.log10(rates) - peak)})
            for _ in range(6)
        ]
        table = pd.concat(parts, ignore_index=True)
        task = np.repeat([f"{name}{k}" for k in range(6)], len(rates))
        facts = {"task": task, "images": task, "kind": "accuracy", "of": name, **columns}
        table["score"] += np.random.default_rng(len(name)).normal(0, 0.01, len(table))
        return Source(name, table.assign(**facts))

    sources = [runs("mine", -2.0, image_size=96), runs("others", 0.0, image_size=48)]
    found, told = lessons(sources, question(), judged=True)
    assert set(found.counts) == {"mine"} and len(found.table) == 60
    assert told[0].startswith("the 60 runs of others count 0, they make forecasts worse: log dens")
    assert set(lessons(sources, question())[0].counts) == {"mine", "others"}
    # to a study at 48 px these are the nearest, which nobody judges
    found, _ = lessons(sources, question(settings={"image_size": 48}), judged=True)
    assert "others" in found.counts
