"""A searcher is a function of the study that it is asked about: asking changes nothing, in pools
and open spaces, and nothing of one study reaches another.
"""

import copy
import gc
import json
import math

import numpy as np
import pytest
from laws import PLAIN, WITH_PAST, each, quick

from foretune.study.study import Plan, Study

HANDLES = ("_journal", "_let_go")  # of the study's folder: what is in it is compared by its bytes
ARRAYS = ("X", "Y", "start_value", "epoch", "pending", "failed", "past_ids")


def plan_of(meta, name, task, budget, open_space, seed=0):
    return Plan(
        task=task,
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        budget=budget,
        open=open_space,
        method=name,
        seed=seed,
    )


def snapshot(study):
    """All that a study holds, so that two states of it can be compared."""
    arrays = {k: getattr(study, k).tobytes() for k in ARRAYS}
    rest = {
        k: copy.deepcopy(v)
        for k, v in vars(study).items()
        if k not in (*ARRAYS, *HANDLES, "space", "past", "plan")
    }
    return arrays, rest


def value(config):
    return 1.0 / (1.0 + abs(math.log10(config["learning_rate"]) + 2))


@pytest.mark.parametrize("pool", [0, 5])
@each(*PLAIN)
def test_suggesting_changes_nothing_in_an_open_space_and_what_it_names_is_recorded(
    name, pool, meta, tmp_path
):
    plan = plan_of(meta, name, "t", 6, open_space=True)
    study = Study(meta.space, meta.configs[:pool], plan, past=meta, folder=tmp_path / name)
    chosen, journal = quick(name), tmp_path / name / "journal.jsonl"
    while True:
        before, written = snapshot(study), journal.read_bytes() if journal.exists() else b""
        suggestion = chosen.suggest(study, study.rng())
        assert chosen.suggest(study, study.rng()) == suggestion  # asked again, it says the same
        # a fresh searcher, too
        assert quick(name).suggest(study, study.rng()) == suggestion
        assert snapshot(study) == before
        assert (journal.read_bytes() if journal.exists() else b"") == written
        if suggestion is None:
            break
        known = len(study.configs)
        step = study.ask(chosen)
        if step is None:
            break
        # what the suggestion named is in the study, in its order, and nothing else
        added = [*suggestion.adopt]
        if isinstance(suggestion.config, dict) and suggestion.config not in added:
            added.append(suggestion.config)
        assert study.configs[known:] == added
        named = suggestion.config
        assert study.configs[step.config_id] == (
            named if isinstance(named, dict) else study.configs[named]
        )
        study.tell(step, [value(study.configs[step.config_id])] * step.epochs)
        if study.spent >= 4 and pool:
            # a journal read back holds the same study
            again = Study.load(tmp_path / name, meta)
            assert again.configs == study.configs and again.order == study.order
            assert quick(name).suggest(again, again.rng()) == quick(name).suggest(
                study, study.rng()
            )
            break
    assert study.spent


@pytest.mark.slow
@each(*WITH_PAST)
def test_one_searcher_asked_by_many_studies_answers_each_from_its_own_past(name, table):
    """Studies come and go, and the address of a dead one is given to the next: what was worked out
    for one must not answer for another. The first steps are those of fresh searchers.
    """
    rng = np.random.default_rng(0)
    rise = 1 - 0.5 ** np.arange(1, 5)
    metas = [table(top[:, :, None] * rise) for top in rng.uniform(0.2, 1.0, (8, 4, 8))]

    def first_step(chosen, meta):
        plan = plan_of(meta, name, "t0", 6, open_space=False, seed=1)
        past = meta.select(["t1", "t2", "t3"])
        return Study(meta.space, meta.configs, plan, past=past).ask(chosen)

    want = [first_step(quick(name), meta) for meta in metas]
    shared, got = quick(name), []
    for meta in metas:
        got.append(first_step(shared, meta))
        gc.collect()
    assert got == want


def test_a_suggestion_that_cannot_be_taken_leaves_the_study_as_it_was(meta, tmp_path):
    from foretune.errors import BadInput, BadSuggestion
    from foretune.study.study import Suggestion

    class Fixed:
        def suggest(self, study, rng):
            return self.suggestion

    fixed = Fixed()
    new = {**meta.configs[0], "learning_rate": 0.0123}
    for pool_is_open in (True, False):
        plan = plan_of(meta, "random", "t", 20, open_space=pool_is_open)
        study = Study(meta.space, meta.configs[:3], plan, folder=tmp_path / str(pool_is_open))
        before = snapshot(study)
        for error, suggestion in (
            (BadInput, Suggestion({**new, "learning_rate": 7}, 0, 1)),
            (BadSuggestion, Suggestion(new, 1, 2)),
            (BadSuggestion, Suggestion(3, 0, 1, adopt=(new,))),
            (BadSuggestion, Suggestion(0, 0, 99, adopt=(new,))),
        ):
            fixed.suggestion = suggestion
            with pytest.raises(BadSuggestion if not pool_is_open else error):
                study.ask(fixed)
            assert snapshot(study) == before
    assert (tmp_path / "True" / "journal.jsonl").read_bytes() == b""
    study = Study(
        meta.space,
        meta.configs[:3],
        plan_of(meta, "random", "t", 20, open_space=True),
        folder=tmp_path / "True",
    )
    fixed.suggestion = Suggestion(new, 0, 2, {"why": "w"}, (meta.configs[5], new, meta.configs[1]))
    step = study.ask(fixed)
    assert study.configs[3:] == [meta.configs[5], new] and (step.config_id, step.stop) == (4, 2)
    events = [
        json.loads(line)["event"]
        for line in (tmp_path / "True" / "journal.jsonl").read_text().splitlines()
    ]
    assert events == ["config", "config", "ask"]
    again = Study.load(tmp_path / "True")
    assert again.configs == study.configs and again.pending_steps() == [step]
