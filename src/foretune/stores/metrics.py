"""What a metric's name says: of which split, which kind, and whether more of it is better.

`epoch/val_accuracy`, `eval_top1`, `metrics/accuracy_top1`, `Valid-Acc@1` all mean valid_accuracy. A
name is cut into words; words for a split and a kind are taken out, words that say nothing (`epoch`,
`metrics`, `mean`) too, and what is left over is what we do not know: the more of it, the less a
name is trusted (`pruned_accuracy` yields to `validation_accuracy`).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from foretune.errors import BadInput, plural
from foretune.stores.record import Record, Source

SPLITS = {
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "valset"), "valid"),
    **dict.fromkeys(("test", "testing", "testset", "holdout"), "test"),
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
}
# in this order: of several that fit, the first is the goal
KINDS: dict[str, tuple[str, ...]] = {
    "accuracy": ("acc", "accuracy", "top1", "acc1", "prec1", "accuracies"),
    "balanced_accuracy": ("bacc", "uar"),
    "macro_f1": (),
    "f1": ("f1", "fscore", "f1score", "fbeta"),
    "auroc": ("auc", "auroc", "rocauc", "aucroc"),
    "kappa": ("kappa", "qwk"),
    "score": ("score", "fitness", "reward"),
    "top5": ("top5", "acc5", "prec5"),
    "error": ("err", "error", "err1"),
    "loss": ("loss", "nll", "crossentropy", "logloss", "ce", "mse"),
}
WORDS = {word: kind for kind, words in KINDS.items() for word in words}
MINIMIZED = {"loss", "error"}
SHARES = {"accuracy", "balanced_accuracy", "macro_f1", "f1", "auroc", "top5", "error"}
SILENT = {
    "epoch",
    "metrics",
    "metric",
    "the",
    "of",
    "best",
    "max",
    "final",
    "mean",
    "avg",
    "average",
    "pct",
    "percent",
    "multiclass",
    "binary",
    "macro",
    "weighted",
    "micro",
    "score",
    "value",
    "at",
    "classification",
    "categorical",
    "sparse",
    "cls",
    "image",
}


@dataclass(frozen=True)
class Name:
    """A metric's name, understood: `kind` is None where no word of it is known."""

    kind: str | None
    split: str  # valid, test, train or unknown
    strange: int  # words that are not understood
    best: bool  # the best or final value of a run, not a value of an epoch

    @property
    def canonical(self) -> str:
        """`valid_accuracy`; a split that is not known is left out."""
        return f"{self.split}_{self.kind}" if self.split != "unknown" else str(self.kind)

    @property
    def goal(self) -> str | None:
        if self.kind is None:
            return None
        return "minimize" if self.kind in MINIMIZED else "maximize"


@cache
def understood(name: str) -> Name:
    """The words of a metric's name sorted into split, kind and rest."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    text = re.sub(r"(top|acc|prec|accuracy|precision)[@_\- ]*([15])\b", r"\1\2", text)
    text = text.replace("accuracy1", "top1").replace("accuracy5", "top5").replace("f1-", "f1 ")
    text = text.replace("precision1", "prec1").replace("cross_entropy", "crossentropy")
    words = [w for w in re.split(r"[^a-z0-9]+", text) if w]
    split, kind, strange, best, balanced = "unknown", None, 0, False, False
    kinds: list[str] = []
    for word in words:
        best |= word in ("best", "final", "max")
        if word in SPLITS:
            split = SPLITS[word] if split == "unknown" or word != "evaluation" else split
        elif word in WORDS and not (word == "score" and len(words) > 1 and kinds):
            kinds.append(WORDS[word])
        elif word == "balanced":
            balanced = True
        elif word not in SILENT:
            strange += 1
    if kinds:
        # "accuracy_top5" is a top-5 accuracy, "accuracy_top1" an accuracy, "balanced_acc" apart
        kind = next((k for k in kinds if k != "accuracy"), kinds[0])
        kind = "balanced_accuracy" if balanced and kind == "accuracy" else kind
        kind = "macro_f1" if "macro" in words and kind == "f1" else kind
    elif "score" in words:
        kind = "score"
    return Name(kind, split, strange, best)


@dataclass(frozen=True)
class Goal:
    """The metric of an import: its name in the source, which way is better, its unit and split, and
    why it was taken.
    """

    metric: str
    goal: str
    unit: str  # percent: the source's values are divided by 100; share; or empty: its own
    split: str
    why: str

    @property
    def canonical(self) -> str:
        """The name under which its values are kept."""
        known = understood(self.metric)
        if known.kind is None:
            return re.sub(r"[^a-z0-9]+", "_", self.metric.lower()).strip("_") or "value"
        prefix = f"{self.split}_" if self.split not in ("", "unknown") else ""
        return f"{prefix}{known.kind}"

    @property
    def factor(self) -> float:
        return 0.01 if self.unit == "percent" else 1.0


def logged(records: Iterable[Record]) -> Counter[str]:
    """How many runs log each metric."""
    return Counter(name for record in records for name in record.series)


def choose(
    source: Source,
    metric: str | None = None,
    goal: str | None = None,
    unit: str | None = None,
    split: str | None = None,
) -> Goal:
    """The metric that a source's runs are judged by; what is given is kept, the rest is derived.

    First what the tool itself calls its objective where it is no loss; then by name, a validation
    accuracy before one of an unknown split before a test accuracy, losses last, and never anything
    of the training images.

    Raises:
        BadInput: no metric is given and none can be told by name, or its direction cannot.
    """
    counts = logged(source.records)
    if metric is not None and metric not in counts:
        known = ", ".join(name for name, _ in counts.most_common(12)) or "none"
        raise BadInput(f"no run of {source.label} logs the metric {metric!r}; they log: {known}")
    why = "as told"
    if metric is None:
        metric, why = _by_name(source, counts)
    name = understood(metric)
    goal = goal or source.goals.get(metric) or name.goal
    if goal is None:
        raise BadInput(
            f"whether more of {metric!r} is better cannot be told: give --goal maximize or minimize"
        )
    if goal not in ("maximize", "minimize"):
        raise BadInput(f"goal={goal!r} must be maximize or minimize")
    return Goal(
        metric,
        goal,
        _unit(source.records, metric) if unit is None else unit,
        split or split_of(source, metric),
        why,
    )


def _by_name(source: Source, counts: Mapping[str, int]) -> tuple[str, str]:
    objective = source.objective or ""
    if objective in counts and understood(objective).kind not in MINIMIZED:
        return objective, f"the objective that {source.format} recorded"
    places: list[tuple[tuple[object, ...], str]] = []
    for metric, count in counts.items():
        name = understood(metric)
        split = split_of(source, metric)
        if name.kind is None or split == "train":
            continue
        rank = (
            name.kind in ("loss", "error"),
            name.strange > 0 and split != "valid",
            ("valid", "unknown", "test").index(split),
            name.strange,
            list(KINDS).index(name.kind),
            name.best,
            -count,
            metric,
        )
        places.append((rank, metric))
    if not places:
        if objective in counts:
            return objective, f"the objective that {source.format} recorded"
        known = ", ".join(name for name, _ in Counter(dict(counts)).most_common(12))
        raise BadInput(
            f"{source.label}: no metric of a validation or test set was found among "
            f"{known or 'no metrics at all'}"
            + ("; give --metric NAME and --goal maximize or minimize" if known else "")
        )
    places.sort()
    metric = places[0][1]
    others = [name for _, name in places[1:4]]
    name = understood(metric)
    split = split_of(source, metric)
    why = f"{split if split != 'unknown' else 'no'} split and {name.kind} by its name"
    if split == "test":
        why += "; no validation metric is there"
    return metric, why + (f"; before {', '.join(others)}" if others else "")


def split_of(source: Source, metric: str) -> str:
    """The split that the format says, else that of the name; a bare name is of the training images
    where a twin has another split (Keras: accuracy beside val_accuracy), of the test set where it
    is only logged along with test metrics.
    """
    name = understood(metric)
    if metric in source.splits:
        return source.splits[metric]
    if name.split != "unknown":
        return name.split
    having = [r for r in source.records if metric in r.series]
    twins = {
        understood(other).split
        for record in having
        for other in record.series
        if other != metric and understood(other).kind == name.kind
    }
    if name.kind == "loss" or "valid" in twins:
        return "train"
    return "test" if having and all(_with_test(record, metric) for record in having) else "unknown"


def _with_test(record: Record, metric: str) -> bool:
    """Whether a metric is logged at steps of test metrics only."""
    tested = {
        step
        for other, points in record.series.items()
        if understood(other).split == "test"
        for step, _ in points
    }
    steps = {step for step, _ in record.series[metric]}
    return steps <= tested and not any(math.isnan(step) for step in steps)


def _unit(records: Sequence[Record], metric: str) -> str:
    if understood(metric).kind not in SHARES:
        return ""
    largest = max(
        (v for r in records for _, v in r.series.get(metric, ()) if math.isfinite(v)), default=0.0
    )
    return "percent" if 1.5 < largest <= 100.0 else "share" if largest <= 1.5 else ""


def described(goal: Goal, with_it: int, runs: int) -> str:
    """The choice in one line."""
    unit = {"percent": ", percent turned into shares", "share": ", a share"}.get(goal.unit, "")
    return (
        f"metric   {goal.metric} -> {goal.canonical}, {goal.goal}{unit}: {goal.why}; "
        f"in {with_it} of {runs} {plural('run', runs)}"
    )
