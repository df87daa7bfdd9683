"""What a study may be told: numbers of any library, and no name or text that is none."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from ConfigSpace import ConfigurationSpace, Float
from killed import as_killed

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.journal import Journal
from foretune.study.plan import Plan, Step
from foretune.study.study import Study
from foretune.study.told import told_row, told_value

ZERO_DIMENSIONS = [torch.tensor(0.75), np.array(0.75), np.float32(0.75), Decimal("0.75"), 0.75]


@pytest.mark.parametrize("value", ZERO_DIMENSIONS, ids=repr)
def test_numbers_of_any_library_become_plain_ones(value):
    row = told_row({"epoch": np.int16(2), "v": value, "loss": value, "device": "cpu"}, "v")
    assert row == {"epoch": 2, "v": 0.75, "loss": 0.75, "device": "cpu"}
    assert [type(one) for one in row.values()] == [int, float, float, str]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"epoch": 1, "v": "0.8"}, "column 'v' must be a number, but got '0.8' of type str"),
        ({"epoch": 1, "v": "good"}, "column 'v' .* 'good' of type str"),
        ({"epoch": 1, "v": 1.0, "loss": "0.8"}, "column 'loss' .* of type str"),
        ({"epoch": 1, "v": np.zeros(1)}, "column 'v' .* of type ndarray"),
        ({"epoch": 1, "v": 1.0, "loss": [1]}, "column 'loss' .* of type list"),
        ({"epoch": 1.5, "v": 1.0}, r"epoch=1\.5 must be a whole number"),
        ({"epoch": float("nan"), "v": 1.0}, "epoch=nan"),
        ({"epoch": "1", "v": 1.0}, "epoch='1'"),
        ({"epoch": 1}, "lacks 'v'"),
        ({"epoch": 1, "v": 1.0, "seed": 3}, "cannot be named 'seed'.* my_seed"),
        ({"epoch": 1, "v": 1.0, "config_id": 3}, "cannot be named 'config_id'"),
        ({"epoch": 1, "v": 1.0, "l(a)": 1, "l[a]": 2}, r"'l\(a\)' and 'l\[a\]' would become one"),
        ({"epoch": 1, "v": 1.0, 7: 1}, "is named 7"),
    ],
)
def test_what_is_no_row_is_refused_by_column_and_type(row, named):
    with pytest.raises(BadInput, match=named):
        told_row(row, "v")


@pytest.mark.parametrize("metric", ["task", "config_id", "run_id", "seed", "epoch", "seconds", ""])
def test_a_metric_has_no_name_of_the_tables(metric):
    with pytest.raises(BadInput, match="named"):
        Plan("t", metric, "maximize", max_epoch=3, budget=9)


@pytest.mark.parametrize("field", ["max_epoch", "budget", "seed"])
def test_whole_numbers_of_a_plan_are_converted_where_they_are_exact(field):
    given = {"task": "t", "metric": "v", "goal": "maximize", "max_epoch": 3, "budget": 9, "seed": 1}
    for exact in (3.0, np.int64(3), np.float32(3), torch.tensor(3), Decimal(3)):
        value = getattr(Plan(**{**given, field: exact}), field)
        assert (value, type(value)) == (3, int)
    absent = () if field == "budget" else (None,)  # seconds alone are a budget too
    for wrong in ("9", float("nan"), float("inf"), 2.5, True, *absent, np.array([3])):
        with pytest.raises(BadInput, match=f"{field}=.* must be a whole number"):
            Plan(**{**given, field: wrong})
    with pytest.raises(BadInput, match="seconds=inf must be a number"):
        Plan(**given, seconds=float("inf"))


def test_a_budget_is_written_as_the_number_that_it_is(meta, tmp_path):
    plan = Plan("t", meta.metric, "maximize", max_epoch=3, budget=np.int64(9))
    Study(meta.space, meta.configs, plan, folder=tmp_path).raise_budget(np.int64(12), 2)
    study = Study.load(tmp_path)
    assert (study.budget, study.plan.seconds) == (12, 2.0)


def lines_of(folder, events):
    """A study's journal with these events, numbered and sealed as it writes them."""
    as_killed(folder, b"")
    journal = Journal(folder / "journal.jsonl")
    list(journal.read())
    journal.append(events)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"row": {"epoch": 1, "v": 0.5, "task": "x"}}, "task"),
        ({"row": {"epoch": 1, "v": 0.5, "loss": {"a": 1}}}, "column 'loss' must be a number"),
        ({"row": {"epoch": True, "v": 0.5}}, "epoch=True must be a whole number"),
        ({"elapsed": float("nan")}, "elapsed is nan"),
    ],
)
def test_reading_checks_what_telling_checks(tmp_path, changed, named):
    """Lines whose seal is right, but which no study has written."""
    space = Space(ConfigurationSpace({"x": Float("x", (0, 1))}))
    study = Study(space, [{"x": 0.5}], Plan("t", "v", "maximize", 3, 9), folder=tmp_path / "s")
    study.close()
    told = {"event": "epoch", "config_id": 0, "row": {"epoch": 1, "v": 0.5}, "elapsed": 1.0}
    lines_of(tmp_path / "s", [told])
    assert Study.load(tmp_path / "s").spent == 1
    lines_of(tmp_path / "s", [{**told, **changed}])
    with pytest.raises(BadInput, match=f"journal.jsonl, line 1, is damaged: .*{named}"):
        Study.load(tmp_path / "s")


def test_a_study_without_its_journal_is_refused_and_not_begun_anew(tmp_path):
    space = Space(ConfigurationSpace({"x": Float("x", (0, 1))}))
    asked = (space, [{"x": 0.5}], Plan("t", "v", "maximize", 3, 9))
    study = Study(*asked, folder=tmp_path / "s")
    assert Study.load(tmp_path / "s").spent == 0  # killed before its first step
    study.close()
    (tmp_path / "s" / "journal.jsonl").unlink()
    for again in (lambda: Study.load(tmp_path / "s"), lambda: Study(*asked, folder=tmp_path / "s")):
        with pytest.raises(BadInput, match=r"journal.jsonl is missing, .*put it back"):
            again()


@pytest.fixture
def begun(tmp_path):
    """A study with a step that was asked for, and the step."""
    space = Space(ConfigurationSpace({"x": Float("x", (0, 1))}))
    plan = Plan("t", "v", "maximize", 3, 9, open=True)
    study = Study(space, [{"x": 0.5}], plan, folder=tmp_path / "s")
    return study, study.ask(Fixed(Step(0, 0, 1)))


NO_LIST = [0.5, None, True, "0.5", b"ab", {0.5}, np.array(0.5), torch.tensor(0.5), np.zeros((1, 1))]


@pytest.mark.parametrize("values", [*NO_LIST, {"epoch": 1, "v": 0.5}, pd.DataFrame({"v": [0.5]})])
def test_what_is_no_list_of_values_is_refused_in_words(begun, values):
    study, step = begun
    with pytest.raises(BadInput, match=r"tell a list of numbers or rows, .* such as \[0.5\]"):
        study.tell(step, values)
    study.tell(step, [0.5])
    assert Study.load(study.folder).spent == 1


@pytest.mark.parametrize(
    "values", [(0.5,), np.array([0.5]), torch.tensor([0.5]), pd.Series([0.5]), iter([0.5])]
)
def test_any_list_of_values_is_told(begun, values):
    study, step = begun
    study.tell(step, values)
    assert Study.load(study.folder).incumbent == (0, 1, 0.5)


@pytest.mark.parametrize("elapsed", [math.nan, math.inf, "3", [1.0], True])
def test_seconds_that_are_none_are_refused_before_they_are_written(begun, elapsed):
    """Reading refuses them, so that telling must."""
    study, step = begun
    with pytest.raises(BadInput, match="elapsed=.* must be a number of seconds"):
        study.tell(step, [0.5], elapsed=elapsed)
    with pytest.raises(BadInput, match="seconds=.* must be a number of seconds"):
        study.clock(elapsed)
    assert Study.load(study.folder).spent == 0


@pytest.mark.parametrize(
    "step", [None, 0, (0, 0, 1), Step("a", 0, 1), Step(0, 0, math.nan), Step(0, 0, None)]
)
def test_what_is_no_step_is_refused_in_words(begun, step):
    study = begun[0]
    for change in (
        lambda: study.tell(step, [0.5]),
        lambda: study.fail(step, 1, "x"),
        lambda: study.release(step),
    ):
        with pytest.raises(BadInput, match=r"is no step: give what Study.ask returned|the step's"):
            change()


@pytest.mark.parametrize("given", [None, "random", 5, type(searcher("random"))])
def test_what_is_no_searcher_is_refused_in_words(begun, given):
    with pytest.raises(BadInput, match="is no searcher: give foretune.searcher"):
        begun[0].ask(given)


@pytest.mark.parametrize("config", [None, [0.1], "x", {"x": np.array([0.1])}, {"x": {0.1}}])
def test_what_is_no_configuration_is_refused_in_words(begun, config):
    with pytest.raises(BadInput, match="must be a mapping of names|is no configuration: .* JSON"):
        begun[0].propose(config)


@pytest.mark.parametrize(
    ("told", "saved"),
    [
        (["cuda", 3], ["cuda", "3"]),
        ([3, "cuda"], ["3", "cuda"]),
        ([True, 0.25], [1.0, 0.25]),
        ([True, "x"], ["True", "x"]),
        ([1, 2**70], [1.0, 2.0**70]),
        ([0.5, 10**300], [0.5, 1e300]),
        ([None, 10**30], [math.nan, 1e30]),
        (["caf\udce9", "x"], ["caf?", "x"]),
    ],
)
def test_columns_of_several_types_are_saved_and_read_back(begun, told, saved):
    """Nothing that was told may be what the tables cannot hold, found out after all training."""
    study, step = begun
    study.tell(step, [{"epoch": 1, "v": 0.5, "more": told[0]}])
    study.tell(study.ask(Fixed(Step(0, 1, 2))), [{"epoch": 2, "v": 0.5, "more": told[1]}])
    study.save_tables()
    got = MetaDataset.load(study.folder).rows.columns["more"].tolist()
    assert [str(one) for one in got] == [str(one) for one in saved]
    assert Study.load(study.folder).rows == study.rows


def test_a_number_above_the_largest_is_refused(begun):
    study, step = begun
    with pytest.raises(BadInput, match="column 'more' holds a number above the largest float"):
        study.tell(step, [{"epoch": 1, "v": 0.5, "more": 10**5000}])


@pytest.mark.parametrize("epoch", [-1, "1", None, math.nan])
def test_a_failure_has_an_epoch(begun, epoch):
    with pytest.raises(BadInput, match="epoch="):
        begun[0].fail(begun[1], epoch, "x")


def test_why_a_trial_failed_can_be_printed_anywhere(begun):
    study, step = begun
    study.fail(step, 1, "no file caf\udce9")
    assert Study.load(study.folder).failures == {0: (1, "no file caf?")}


class Fixed:
    """Suggests one step."""

    def __init__(self, step):
        self.step = step

    def suggest(self, study, rng):
        return self.step


def test_a_masked_value_is_none():
    with pytest.raises(BadInput, match="'score' is masked"):
        told_value("score", np.ma.masked, number=True)
    assert told_value("score", np.ma.array(0.5, mask=False), number=True) == 0.5


def test_a_failure_is_bounded_by_its_step():
    space = Space(ConfigurationSpace(space=[Float("x", (0.0, 1.0))]))
    study = Study(space, [], Plan("t", "score", "maximize", 3, 9, open=True))
    step = study.ask(searcher("random"))
    with pytest.raises(BadInput, match=r"epoch=5 must be from 0 to 3"):
        study.fail(step, 5, "late")
    assert not study.failures
    study.fail(step, 1, "in time")
    assert study.failures[step.config_id] == (1, "in time")
