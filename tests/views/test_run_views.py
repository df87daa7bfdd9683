"""What a study looks like as runs, without MLflow."""

import json
import math
import posixpath
from dataclasses import replace

import numpy as np
from synthetic import synthetic_meta

from foretune.evaluation.replay import replay_study
from foretune.space.names import log_name
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study
from foretune.views.run_views import Views, finite, saved_views, texts, title

META = synthetic_meta(goal="minimize")


def told():
    study, _ = replay_study(META, "t0", budget=12, method="hyperband")
    study.tell(
        Step(0, 0, 2),
        [
            {"epoch": 0, study.plan.metric: 0.9},
            {"epoch": 1, study.plan.metric: 0.6, "loss": 1.5, "device": "cpu", "ok": True},
        ],
    )
    study.tell(Step(0, 1, 2), [0.7])
    study.tell(Step(1, 0, 1), [math.nan])
    return study


def test_points_of_a_trial_are_in_the_metrics_unit_with_the_best_so_far():
    metric = META.metric
    groups = Views("u")(told()).trials[0].groups
    assert groups == [
        (0, [(metric, 0.9, 0), ("epochs", 0.0, 0)]),
        (1, [(metric, 0.6, 1), ("loss", 1.5, 1), ("best", 0.6, 1), ("epochs", 1.0, 1)]),
        (2, [(metric, 0.7, 2), ("best", 0.6, 2), ("epochs", 2.0, 2)]),
    ]


def test_a_diverged_epoch_counts_but_gives_no_value():
    trial = Views("u")(told()).trials[1]
    assert trial.groups == [(1, [("epochs", 1.0, 1)])]
    assert (trial.status, trial.tags["failure"]) == ("FAILED", f"epoch 1: {META.metric} is nan")


def test_the_parent_follows_the_incumbent():
    parent = Views("u")(told()).parent
    assert [p for _, points in parent.groups for p in points if p[0] == "incumbent"] == [
        ("incumbent", 0.6, 1), ("incumbent", 0.6, 2), ("incumbent", 0.6, 3),
    ]  # fmt: skip
    assert parent.tags["best_trial"] == "0"
    assert parent.tags["foretune.study.study"] == "u"


def test_unchanged_trials_are_not_made_again_and_changed_ones_are():
    study, views = told(), Views("u")
    first = views(study).trials
    study.tell(Step(2, 0, 1), [0.1])  # the new incumbent
    second = views(study).trials
    assert second[1] is first[1]
    assert (first[0].tags["incumbent"], second[0].tags["incumbent"]) == ("yes", "no")


def test_a_stopped_study_stops_its_trials():
    study = told()
    assert Views("u")(study).trials[0].status == "SCHEDULED"
    view = Views("u")(study, stopped=True)
    assert (view.parent.status, view.trials[0].tags["status"]) == ("KILLED", "stopped")


def test_names(tmp_path):
    plan = Plan("t", "m", "minimize", 3, 9, method="portfolio")
    for folder, expected in (("mine", "mine · portfolio"), ("t-portfolio-0", "t-portfolio-0")):
        assert title(Study(META.space, [], plan, folder=tmp_path / folder)) == expected
    beside = Study(
        META.space,
        [],
        replace(plan, notes=Notes(baseline="random")),
        folder=tmp_path / "mine" / "compare-random",
    )
    assert title(beside) == "mine beside random"
    assert title(Study(META.space, [], plan)) == "t · portfolio"


def test_what_mlflow_takes():
    assert [finite(v) for v in (1, 0.5, np.float32(2), True, math.inf, math.nan, "3", None)] == [
        True
    ] * 3 + [False] * 5
    assert log_name("a=b{c}") == "a_b_c_"
    for name in (
        "/acc",
        "../lr",
        "..lr",
        "a//b",
        "a/./b",
        "a/",
        ".",
        "..",
        "",
        "/",
        "x" * 249 + "//y",
    ):
        taken = log_name(name)
        # MLflow's own rule of names (mlflow.utils.validation.path_not_unique)
        assert posixpath.normpath(taken) == taken and taken != "." and len(taken) <= 250
        assert not taken.startswith(("..", "/"))
    assert [log_name(n) for n in ("/acc", "../lr", "a//b")] == ["_/acc", "_/lr", "a/_/b"]
    assert len(texts({"k": "x" * 9000})["k"]) == 5000


def test_saved_views_name_what_is_logged():
    view = Views("u")(told())
    tags = saved_views(view, 5)
    states = {json.loads(t)["name"]: json.loads(json.loads(t)["state"]) for t in tags.values()}
    assert set(states) == {"Studies, best first", "Trials, best first"}
    assert states["Trials, best first"]["orderByAsc"]  # an error rate
    shown = set(states["Studies, best first"]["selectedColumns"]) | set(
        states["Trials, best first"]["selectedColumns"]
    )
    assert {f"params.`{k}`" for k in META.space.names} <= shown
    logged = {f"tags.`{k}`" for run in (view.parent, *view.trials.values()) for k in run.tags}
    logged |= {f"params.`{k}`" for run in (view.parent, *view.trials.values()) for k in run.params}
    logged |= {
        f"metrics.`{p[0]}`"
        for run in (view.parent, *view.trials.values())
        for _, points in run.groups
        for p in points
    }
    logged |= {f"metrics.`{k}`" for k in view.facts}
    assert shown - logged <= {
        "metrics.`test_accuracy`",
        *(f"params.`{k}`" for k in META.space.names),
    }  # later, or of other configurations
