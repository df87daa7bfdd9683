"""What the live page shows of a study: where it stands, what is being trained and why, the
incumbent and the curves so far.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.running.presence import Running, running
from foretune.study.header import read_header
from foretune.study.study import Study
from foretune.views.report import curves_chart, incumbent_chart, render
from foretune.views.summary import (
    best_value,
    describe,
    duration,
    score,
    seconds_left,
    state,
)

MOST_STEPS = 12  # of the newest decisions, and of the best trials


class Watched:
    """The study in `folder` as it grows, read from its journal: each line once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._study = Study.load(folder)
        self._lock = threading.Lock()
        self._known: tuple[Any, ...] | None = None
        self._version, self._html = 0, ""

    def __call__(self) -> tuple[int, str]:
        """The version and HTML of what is to be shown now; the same version is the same HTML.
        Raises `BadInput` for a journal that is damaged.
        """
        with self._lock:
            try:
                changed = self._study.follow()
            except BadInput:  # repaired, restored or begun anew meanwhile; else this raises it
                self._study, changed = Study.load(self.folder), True
            at_work = running(self.folder)
            # signs of life alone change nothing
            known = (None if at_work is None else replace(at_work, at=0.0),)
            if changed or known != self._known:
                self._known = known
                self._version += 1
                self._html = live(self._study, at_work)
            return self._version, self._html


def live(study: Study, at_work: Running | None) -> str:
    """The changing part of the live page, as HTML; `at_work` is the run that works on the study."""
    pending = [int(i) for i in study.pending.nonzero()[0]] if at_work is not None else []
    return render(
        "live.html",
        status=status(study, at_work),
        running=at_work is not None,
        share=round(100 * min(1.0, study.spent / study.budget), 1),
        tiles=tiles(study, pending),
        steps=[under_way(study, i, at_work.places.get(i, "")) for i in pending if at_work],
        incumbent=incumbent_chart(study, {}),
        curves=curves_chart(study, pending),
        decisions=decisions(study),
        best=best_trials(study),
        metric=study.plan.metric,
        failures=[(i, epoch, reason) for i, (epoch, reason) in study.failures.items()],
    )


def status(study: Study, at_work: Running | None) -> str:
    """Who works on the study, or why nobody does."""
    if at_work is not None:
        return f"running on {at_work.host}, process {at_work.process}"
    if study.done:
        return "finished"
    return "stopped: the command that started it continues it" if study.spent else "not begun"


def tiles(study: Study, pending: list[int]) -> list[tuple[str, str, str]]:
    """The figures on top: (what, value, remark)."""
    metric, best, remark = study.plan.metric, None, "no value yet"
    if study.incumbent is not None:
        trial, epoch, value = study.incumbent
        best, remark = value * study.plan.sign, f"trial {trial}, epoch {epoch}"
    left = seconds_left(study)
    failed = int(study.failed.sum())
    trials = f"{len(pending)} being trained" + (f", {failed} failed" if failed else "")
    return [
        (f"best {metric}", score(metric, best), remark),
        ("epochs", f"{study.spent:,}", f"of {study.budget:,}"),
        ("trials", f"{len(study.started):,}", trials),
        (
            "time left" if left is not None and pending else "time so far",
            duration(left if left is not None and pending else study.elapsed),
            f"{duration(study.elapsed)} so far" if left is not None and pending else "",
        ),
    ]


def under_way(study: Study, i: int, place: str) -> dict[str, Any]:
    """A step that is being run."""
    step = next(s for s in reversed(study.steps) if s["config_id"] == i)
    done, goal = int(study.epoch[i]), int(study.pending[i])
    return {
        "trial": i,
        "config": describe(study.configs[i], 200),
        "epochs": f"{done} of {goal}",
        "share": round(100 * done / goal, 1),
        "best": score(study.plan.metric, best_value(study, i)),
        "place": place,
        "why": because(step["because"]),
    }


def because(given: Mapping[str, Any]) -> str:
    """A step's reason, and the past tasks that it leans on most."""
    why = str(given.get("why", "")) or "no reason given"
    weights = {t: float(w) for t, w in (given.get("past") or {}).items() if w and w > 0}
    whole = sum(weights.values())
    heavy = sorted(weights.items(), key=lambda item: -item[1])[:3]
    past = ", ".join(f"{task} {weight / whole:.0%}" for task, weight in heavy)
    return why + (f" (past: {past})" if past else "")


def decisions(study: Study) -> list[tuple[int, str, str]]:
    """The newest decisions first: trial, epochs, reason."""
    return [
        (s["config_id"], f"{s['start']} → {s['stop']}", because(s["because"]))
        for s in study.steps[: -MOST_STEPS - 1 : -1]
    ]


def best_trials(study: Study) -> list[tuple[int, str, str, str, str]]:
    """The best trials first: trial, best value, epochs, state, configuration."""
    order = sorted(study.started, key=lambda i: (-study.best[i], i))[:MOST_STEPS]
    return [
        (
            i,
            score(study.plan.metric, best_value(study, i)),
            str(study.epoch[i]),
            state(study, i),
            describe(study.configs[i], 200),
        )
        for i in order
    ]


def frame(folder: Path, token: str) -> str:
    """The page around the changing part; `token` lets its script ask for that."""
    plan = read_header(folder)[2]
    return render("watch.html", title=folder.name, name=folder.name, plan=plan, token=token)
