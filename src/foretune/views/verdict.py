"""What a study's result is worth: whether the winner is the default configuration, and what it is
tied with within noise. The same lines on the screen and in the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretune.errors import plural
from foretune.study.study import Study
from foretune.training.assessment import Assessment, binomial_error
from foretune.training.noise import Difference, by_errors, paired, unpaired
from foretune.views.summary import best_value, is_share, number, score

SHOWN = 5  # configurations that are named


@dataclass(frozen=True)
class Judged:
    """On how many validation images trials were judged, and the network's default configuration
    (None: it is not known). `error` is the standard error of the metric on these images, where no
    formula gives it; None where it is not known.
    """

    images: int
    default: Mapping[str, Any] | None = None
    error: float | None = None


def standard_error(study: Study, judged: Judged, value: float) -> float | None:
    """Of a trial's value on the validation images; None where it is not known."""
    if not counted(study):
        return judged.error
    return binomial_error(value, judged.images)


def counted(study: Study) -> bool:
    """Whether the metric is a share of the images."""
    return study.plan.metric in ("valid_accuracy", "valid_top5")


def verdict(study: Study, judged: Judged) -> list[str]:
    """What can be said of the winner, in sentences; nothing of a study without one."""
    if study.incumbent is None:
        return []
    winner, _, top = study.incumbent
    top *= study.plan.sign
    others = {i: best_value(study, i) for i in study.started if i != winner}
    values = {i: value for i, value in others.items() if value is not None}
    lines = []
    default = default_trial(study, judged.default)
    if default == winner:
        tried = len(values)
        lines.append(
            "The winner is the default configuration: the search "
            + (f"did not beat it with {tried} others." if tried else "tried nothing else.")
        )
    elif default is not None and default in values:
        lines.append(against_default(study, judged, top, values[default], default))
    tied = [
        i for i, value in values.items() if (d := difference(study, judged, top, value)) and d.tied
    ]
    if not tied or not values:
        return lines
    tied.sort(key=lambda i: -study.best[i])
    named = ", ".join(str(i) for i in tied[:SHOWN]) + (", ..." if len(tied) > SHOWN else "")
    runner_up = difference(study, judged, top, values[tied[0]])
    assert runner_up is not None
    lines.append(
        f"Tied within noise: {len(tied)} of the {len(values)} other "
        f"{plural('configuration', len(values))} ({named}). On {judged.images:,} images, differences "
        f"below {shown(study, runner_up.margin)} cannot be told from chance."
    )
    return lines


def against_default(study: Study, judged: Judged, top: float, value: float, default: int) -> str:
    """The winner beside the default configuration, which was a trial of the study."""
    found = difference(study, judged, top, value)
    metric = study.plan.metric
    done, full = int(study.epoch[default]), study.max_epoch
    cut = f" in {done} of {full} epochs" if done < full else ""
    said = f"The default configuration (trial {default}) reached {score(metric, value)}{cut}: "
    if found is None:
        return f"{said}the winner is {shown(study, abs(top - value))} better."
    if found.tied:
        return (
            f"{said}winner and default are tied within noise "
            f"({shown(study, abs(found.value))} apart, ± {shown(study, found.margin)})."
        )
    return (
        f"{said}the winner is {shown(study, abs(found.value))} better, more than noise explains "
        f"(± {shown(study, found.margin)}), but for the luck of the best of many."
    )


def difference(study: Study, judged: Judged, first: float, second: float) -> Difference | None:
    """Between the values of two trials; None where their errors are not known."""
    if counted(study):
        return unpaired(first, second, judged.images)
    if judged.error is None:
        return None
    return by_errors(first, second, judged.error, judged.error, "bootstrap")


def default_trial(study: Study, default: Mapping[str, Any] | None) -> int | None:
    """The trial of the default configuration; None where it is not known or not tried."""
    if default is None:
        return None
    return next((int(i) for i in study.started if study.configs[i] == dict(default)), None)


def compared(winner: Assessment, other: Assessment, name: str) -> str | None:
    """The winner and another model on the same test images; None where these are not the same."""
    if len(winner.labels) != len(other.labels) or (winner.labels != other.labels).any():
        return None
    found = paired(winner.right, other.right)
    apart = f"{100 * abs(found.value):.1f} points"
    if found.tied:
        return (
            f"On the {len(winner.labels):,} test images, winner and {name} are tied within noise: "
            f"{apart} apart, ± {100 * found.margin:.1f} ({found.test})."
        )
    word = "better" if found.value > 0 else "worse"
    return (
        f"On the {len(winner.labels):,} test images, the winner is {apart} {word} than {name}, more "
        f"than noise explains: ± {100 * found.margin:.1f} ({found.test})."
    )


def shown(study: Study, value: float) -> str:
    """A difference of two values of the metric."""
    return f"{100 * value:.1f} points" if is_share(study.plan.metric) else number(round(value, 4))
