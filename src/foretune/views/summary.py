"""What tracker, report and terminal say about a study: the same words and numbers everywhere.

Values are in the metric's own unit here (the study holds higher-is-better).
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from foretune.errors import plural
from foretune.study.study import Study

SHORT_NAMES = {
    "learning_rate": "lr",
    "batch_size": "bs",
    "weight_decay": "wd",
    "finetune": "tune",
    "augmentation": "aug",
}
STATES = ("training", "paused", "finished", "stopped", "failed")


def incumbent_trace(study: Study) -> np.ndarray:
    """Incumbent after each epoch spent, (spent,), in the metric's own unit.

    NaN before the first finite value.
    """
    values = np.array([study.Y[i, epoch - 1] for i, epoch in study.order], dtype=float)
    best = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))
    return np.where(np.isfinite(best), best * study.plan.sign, np.nan)


def best_value(study: Study, config_id: int) -> float | None:
    """Best value of a trial in the metric's own unit; None before its first finite value."""
    row = study.Y[config_id]
    return None if np.isnan(row).all() else float(np.nanmax(row) * study.plan.sign)


def state(study: Study, config_id: int) -> str:
    """One of `STATES`: paused while the study may go on with it, stopped once it is done."""
    if study.failed[config_id]:
        return "failed"
    if study.epoch[config_id] >= study.max_epoch:
        return "finished"
    if study.pending[config_id]:
        return "training"
    return "stopped" if study.done else "paused"


def why_started(study: Study) -> dict[int, str]:
    """The reason of the first step of each trial, in the searcher's words."""
    out: dict[int, str] = {}
    for step in study.steps:
        out.setdefault(step["config_id"], str(step["because"].get("why", "")))
    return out


def reasons(study: Study) -> Counter[str]:
    """How often each kind of reason led to a step.

    Details after a colon, numbers replaced by n, are put together.
    """
    kinds = (str(s["because"].get("why", "")).partition(":")[0] for s in study.steps)
    return Counter(re.sub(r"\d+(\.\d+)?", "n", kind).strip() or "no reason given" for kind in kinds)


def past_shares(study: Study, config_id: int | None = None) -> dict[str, float]:
    """Share of each past task in the suggestions, largest first.

    The weights that steps give, each step's scaled to 1, by the epochs they asked for.

    `config_id` restricts it to one trial. Empty where no step names a past task.
    """
    total: Counter[str] = Counter()
    for step in study.steps:
        if config_id is not None and step["config_id"] != config_id:
            continue
        past = {
            t: float(w)
            for t, w in (step["because"].get("past") or {}).items()
            if math.isfinite(w) and w > 0
        }
        scale = sum(past.values())
        for task, weight in past.items():
            total[task] += weight / scale * max(1, step["stop"] - step["start"])
    whole = sum(total.values())
    return {t: w / whole for t, w in total.most_common()}


def tuned(study: Study) -> tuple[list[str], dict[str, Any]]:
    """Hyperparameters that differ between the started trials, and the values that all share.

    Names are in the space's order.
    """
    started = [study.configs[i] for i in study.started]
    differing, shared = [], {}
    for name in study.space.names:
        values = {repr(c.get(name)) for c in started}
        if len(values) > 1:
            differing.append(name)
        elif started and name in started[0]:
            shared[name] = started[0][name]
    return differing, shared


def number(value: Any) -> str:
    """A number in at most four digits that count, thousands with commas; other values as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return str(value)
    if not math.isfinite(float(value)):
        return "–"
    exact = float(value)
    if exact.is_integer() and abs(exact) < 1e7:
        return f"{int(exact):,}"
    text = f"{exact:.4g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def decimals(value: float) -> str:
    """A value with four decimals, so that those in a column stand alike; a huge one in few digits."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def is_share(metric: str, value: float | None = None) -> bool:
    """Whether a metric reads better in per cent: an accuracy or error rate within [0, 1]."""
    named = any(
        word in metric.lower() for word in ("acc", "top1", "top5", "top_1", "top_5", "error_rate")
    )
    return named and (value is None or 0.0 <= value <= 1.0)


def score(metric: str, value: float | None) -> str:
    """A value of the metric for people: accuracies in per cent, the rest in four digits.

    A dash for none.
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if is_share(metric, value) else number(value)


def plus_minus(metric: str, value: float, error: float | None) -> str:
    """A value with its standard error: accuracies in per cent, the rest in four decimals."""
    if error is None or not math.isfinite(error):
        return score(metric, value)
    if is_share(metric, value):
        return f"{100 * value:.2f} ± {100 * error:.2f} %"
    return f"{value:.4f} ± {error:.4f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.5 s, 45 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def spent_of(study: Study) -> str:
    """How much of its budget a study has used: of epochs, or of time where that alone is set."""
    plan = study.plan
    if plan.budget is not None:
        return f"{study.spent:,} of {plan.budget:,} epochs"
    assert plan.seconds is not None
    spent = f"{study.spent:,} {plural('epoch', study.spent)}"
    return f"{spent} in {duration(study.elapsed)} of {duration(plan.seconds)}"


def seconds_left(study: Study) -> float | None:
    """What remains of the study at the pace that it has had, and within its wall-clock budget if it
    has one; None for one that is done, or has no pace yet.
    """
    if study.done or not study.spent or not study.elapsed:
        return None
    left = study.elapsed / study.spent * (study.budget - study.spent)
    return min(left, study.seconds_left)


def spelled(config: Mapping[str, Any]) -> str:
    """A configuration on one line, all names in full."""
    return ", ".join(f"{name} {number(value)}" for name, value in config.items())


def describe(config: Mapping[str, Any], most: int = 70) -> str:
    """A configuration in one short line, cut at `most` characters.

    Numbers come with their short name, choices by their value alone.
    """
    words = []
    for name, value in config.items():
        parent, _, last = name.rpartition(".")
        if isinstance(value, str) and not parent:
            words.append(value)
        else:
            words.append(f"{SHORT_NAMES.get(last or name, last or name)} {number(value)}")
    line = " ".join(words)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def sentence(study: Study) -> str:
    """The study's result in one sentence."""
    trials = len(study.started)
    spent = f"{spent_of(study)} and {trials:,} {plural('configuration', trials)}"
    if study.incumbent is None:
        return f"After {spent}, no configuration has given a value yet."
    i, epoch, value = study.incumbent
    text = score(study.plan.metric, value * study.plan.sign)
    return (
        f"After {spent}, the best {study.plan.metric} is {text}: configuration {i} at "
        f"epoch {epoch}, {describe(study.configs[i], 200)}."
    )
