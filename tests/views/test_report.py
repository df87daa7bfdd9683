"""The study report: its figures, that it needs nothing from outside, and that nothing in it can
run.
"""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study
from foretune.training.assessment import Assessment
from foretune.views.report import plain_cost, study_report, write_report
from foretune.views.summary import plus_minus
from foretune.views.verdict import Judged

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def run(method="hyperband", budget=120, goal="maximize", seed=0, meta=None, task="t0"):
    meta = meta or synthetic_meta(goal=goal)
    study, objective = replay_study(meta, task, budget=budget, method=method, seed=seed)
    list(replay(study, objective, searcher(method), Score(meta, task)))
    return study


class Page(HTMLParser):
    """Collects what a page asks for, its scripts, its tables and whether tags are closed in
    order.
    """

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.links, self.scripts, self.handlers, self.open, self.rows = [], 0, [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "xlink:href"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        self.scripts += tag == "script"
        if tag == "tr":
            self.rows.append([])
        if tag == "td" and self.rows:
            self.rows[-1].append(dict(attrs).get("data-v"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_the_report_tells_the_studys_numbers(goal):
    study, other = run(goal=goal), run("random", goal=goal)
    html = study_report(
        study,
        extras={"baselines": {"random search": other}, "test_accuracy": 0.8125, "thumbnails": PNG},
    )
    page = Page(html)
    best = study.incumbent[2] * study.plan.sign
    assert f"{100 * best:.2f} %" in html
    assert "81.25 %" in html
    assert f"configuration {study.incumbent[0]}, epoch {study.incumbent[1]}" in html
    assert "random search" in html
    lead = study.plan.sign * (best - other.incumbent[2] * study.plan.sign)
    assert f"{100 * abs(lead):.2f} points {'better' if lead >= 0 else 'worse'}" in html
    full = len(study.started) * study.max_epoch
    assert f"takes {full:,} epochs" in html
    assert page.links == ["data:image/png;base64,iVBORw0KGgoAAAAAAAAAAAAAAAAAAAAAAAAAAA=="]
    assert (page.scripts, page.handlers) == (1, [])
    assert study.failures
    assert html.count('class="cross"') > 0
    trials = [r for r in page.rows if len(r) > 6]
    assert len(trials) == len(study.started)
    values = [float(r[1]) * study.plan.sign for r in trials if r[1]]
    assert values == sorted(values, reverse=True)
    assert trials[0][0] == str(study.incumbent[0])


def test_past_tasks_are_named():
    html = study_report(run("portfolio", 60))
    assert "with 4 past tasks" in html
    assert "greedy portfolio of past tasks" in html
    assert all(f"<dt>t{k}</dt>" in html for k in range(1, 5))


def test_an_empty_study_and_one_of_failures_still_have_a_report():
    meta = synthetic_meta()
    study, _ = replay_study(meta, "t0", budget=20)
    assert "no configuration has given a value yet" in study_report(study)
    study.tell(Step(0, 0, 1), [float("nan")])
    html = study_report(study)
    Page(html)
    assert "1 failed trial" in html


def test_what_comes_from_outside_cannot_run():
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    space = synthetic_meta().space
    study = Study(
        space,
        synthetic_meta().configs,
        Plan(evil, "acc", "maximize", 3, 9, method=evil, notes=Notes(settings={evil: evil})),
    )
    study.configs[0] = {**study.configs[0], "optimizer": evil}
    study.tell(Step(0, 0, 1), [0.5])
    study.tell(Step(1, 0, 1), [0.6])
    study.fail(Step(1, 1, 2), 2, evil)
    study.steps.append(
        {
            "config_id": 0,
            "start": 0,
            "stop": 1,
            "seconds": 0.0,
            "because": {"why": evil, "past": {evil: 1.0}},
        }
    )
    page = Page(
        study_report(
            study,
            extras={"facts": {evil: evil}, "thumbnails": {evil: PNG}, "baselines": {evil: study}},
        )
    )
    assert (page.scripts, page.handlers) == (1, [])
    assert all(link.startswith("data:image/png") for link in page.links)


def test_same_study_same_bytes(tmp_path):
    one, two = write_report(run(), tmp_path / "a.html"), write_report(run(), tmp_path / "b.html")
    strip = re.compile(r"<tr><td>time of a decision.*?</tr>")
    assert strip.sub("", one.read_text()) == strip.sub("", two.read_text())


def test_thumbnails_must_be_pictures():
    with pytest.raises(BadInput, match="PNG or JPEG"):
        study_report(run(budget=9), extras={"thumbnails": b"<svg onload=alert(1)>"})


def test_plain_cost_counts_epochs_and_time():
    study = run()
    cost = plain_cost(study)
    assert cost["full"] == len(study.started) * 9
    assert cost["share"] == pytest.approx(study.spent / cost["full"])
    assert cost["spent_time"] == ""  # a table has no times
    study = Study(study.space, study.configs, Plan("t", "acc", "maximize", 9, 18))
    study.tell(
        Step(0, 0, 2),
        [{"epoch": 1, "acc": 0.5, "seconds": 20.0}, {"epoch": 2, "acc": 0.6, "seconds": 40.0}],
    )
    assert (plain_cost(study)["spent_time"], plain_cost(study)["full_time"]) == (
        "1 min 00 s",
        "4 min 30 s",
    )  # 30 s a full epoch, 9 epochs


@pytest.mark.parametrize(("table", "task"), [("hyperrec", "CIFAR100"), ("taskset", None)])
def test_reports_of_published_tables(shared, table, task):
    meta = MetaDataset.load(shared / "data" / "curves" / table)
    study = run(budget=5 * meta.max_epoch, meta=meta, task=task or meta.tasks[0])
    html = study_report(study)
    Page(html)
    assert len(html) < 600_000
    assert json.dumps(study.incumbent[0]) in html


def models(count=40, classes=3):
    """A poor and a better model of the same images."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    names = ("ash", "<b>birch</b>", "cedar")[:classes]

    def one(skill):
        scores = rng.random((count, classes)) + skill * np.eye(classes)[labels]
        return Assessment(labels, (scores / scores.sum(1, keepdims=True)).astype("f4"), names)

    return {"the search's model": one(0.2), "the final model": one(0.5)}


def test_the_answer_comes_first_and_the_models_with_their_errors():
    study, found = run(), models()
    best = study.incumbent[2]
    html = study_report(
        study,
        extras={
            "models": found,
            "judged": Judged(300, study.configs[study.incumbent[0]]),
            "mistakes": [(PNG, "ash, taken for cedar (97 %)")],
            "tests": ["Tied on the test images."],
            "use": ["foretune predict final.pt FILES"],
        },
    )
    Page(html)
    order = [
        "After 120 of 120",
        "The winner is the default configuration",
        "Tied on the test images.",
        "The best configuration",
        "foretune predict final.pt FILES",
        "On the test images",
        "Classes, by the final model",
        "What was taken for what",
        "ash, taken for cedar (97 %)",
        "Learning curves",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    # the binomial error of the best value, and of both models' accuracy
    assert f"{100 * best:.2f} ± {100 * (best * (1 - best) / 300) ** 0.5:.2f} %" in html
    for model in found.values():
        share = float(model.right.mean())
        assert f"{100 * share:.2f} ± {100 * (share * (1 - share) / 40) ** 0.5:.2f} %" in html
        for name, one in model.metrics.items():
            assert plus_minus(name, one.value, one.error) in html
    shown = found["the final model"]
    for one in shown.classes:
        assert f"{one.precision:.3f}</td>" in html and f"{one.f1:.3f}</td>" in html
    assert "<b>birch</b>" not in html
    count = int(shown.confusion[0].sum())
    assert f"{int(shown.confusion[0, 2])} of {count} ash: taken for cedar" in html


def test_many_classes_are_told_by_their_confused_pairs():
    labels = np.arange(60) % 30
    scores = np.full((60, 30), 0.01, dtype="f4")
    scores[np.arange(60), (labels + (labels == 7)) % 30] = 0.5
    names = tuple(f"class {k}" for k in range(30))
    html = study_report(run(), extras={"models": {"the model": Assessment(labels, scores, names)}})
    Page(html)
    assert '<td>class 7</td><td>class 8</td><td class="n">2</td>' in html
    assert "confusion matrix" not in html


def test_a_study_without_a_model_says_nothing_of_one():
    html = study_report(run())
    Page(html)
    assert "On the test images" not in html and "What was taken" not in html


def test_cells_of_wide_tables_say_what_they_are():
    """On a phone a row becomes a card, in which each value stands behind its column's name."""
    study = run()
    html = study_report(study)
    table = html[html.index('<table class="cards">') :]
    row = table[table.index("<tbody>") : table.index("</tr>", table.index("<tbody>"))]
    labels = re.findall('data-label="([^"]*)"', row)
    heads = re.findall(r"<button>([^<]*)</button>", table[: table.index("</thead>")])
    assert labels == heads
