"""What an import found, and the lines in which it is said."""

from collections import Counter
from dataclasses import dataclass, field

from foretune.errors import plural
from foretune.history.vocabulary import EXTRA
from foretune.stores.mapping import NameMapping, left_out, unknown_columns
from foretune.stores.metrics import described
from foretune.stores.record import Source


@dataclass
class Findings:
    """What an import found, for `lines`."""

    source: Source
    mapping: NameMapping
    with_metric: int = 0
    without: int = 0
    other_metrics: int = 0  # of those without: logged something else
    states: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    penalties: Counter[float] = field(default_factory=Counter)
    implausible: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)  # two names of a column, two values
    steps_scaled: bool = False
    ordinal: bool = False
    best: float | None = None
    best_run: str = ""
    worst: float | None = None
    padded: int = 0  # curves whose tail repeats the last value
    rising: int = 0  # curves that log the best so far
    selected: int = 0  # tasks on which nothing failed
    runs: int = 0
    constant: int = 0  # unknown columns with one value in all runs
    tasks: Counter[str] = field(default_factory=Counter)
    networks: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The findings as `foretune import` prints them."""
        goal, source = self.mapping.goal, self.source
        trainer = f", trained by {source.trainer}" if source.trainer else ""
        out = [f"source   {source.label}, format {source.format}{trainer}"]
        out.append(
            f"runs     {self.runs}: {self.with_metric} with the metric, {self.without} without"
            + (f" ({self.other_metrics} of these log other metrics)" if self.other_metrics else "")
            + "".join(
                f", {self.states[s]} {s}" for s in ("diverged", "cut", "running") if self.states[s]
            )
            + (f"; {self.copies} of them are copies of another" if self.copies else "")
        )
        if source.aside:
            aside = ", ".join(f"{n} {why}" for why, n in source.aside.items())
            out.append(f"aside    {aside}")
        where = self.mapping.task
        how = {"": "from the experiment, study or folder", "=": "as told"}.get(
            where[:1] if where.startswith("=") else where, f"from the column {where}"
        )
        out.append(f"tasks    {_listed(self.tasks)} ({how})")
        out.append(f"networks {_listed(self.networks)}")
        out.append(described(goal, self.with_metric, self.runs))
        if self.best is not None and self.with_metric > 1 and self.worst == self.best:
            out.append(f"best     none: all values are {self.best:g}, nothing can be learned")
        elif self.best is not None:
            shown = f"{self.best:.6g}"
            if goal.unit == "percent":
                shown += f" ({self.best * 100:.6g} %)"
            out.append(f"best     {shown} ({self.best_run})")
        known = sorted({c for c in self.mapping.columns.values() if c and not c.startswith(EXTRA)})
        out.append(f"columns  {len(known)} understood: {', '.join(known) or 'none'}")
        if unknown := unknown_columns(self.mapping):
            out.append(
                f"         {len(unknown)} not understood, kept as extra.* ({self.constant} never "
                f"vary): {_cut(unknown)}"
            )
        for why, names in sorted(left_out(self.mapping).items()):
            out.append(f"         {len(names)} left out, {why}: {_cut(names)}")
        for column, count in sorted(self.implausible.items()):
            out.append(
                f"note     {count} implausible {plural('value', count)} of {column} left out"
            )
        for column, count in sorted(self.differing.items()):
            names = [n for n, c in self.mapping.columns.items() if c == column]
            out.append(
                f"note     {' and '.join(names)} both say {column} and differ in {count} "
                f"{plural('run', count)}: the first counts"
            )
        for value, count in sorted(self.penalties.items()):
            out.append(
                f"note     the value {value:g} of {count} runs looks like a penalty for a failure: "
                "counted as failed"
            )
        if self.padded:
            out.append(f"note     {self.padded} curves are padded with their last value: it is cut")
        if self.rising:
            out.append(
                f"note     {self.rising} curves never get worse: they log the best so far, and "
                "teach final values only"
            )
        if self.selected:
            out.append(
                f"note     on {self.selected} of {len(self.tasks)} {plural('task', len(self.tasks))} "
                "nothing failed or was stopped: these runs teach ranks, not how good a run is"
            )
        if goal.split == "test":
            out.append("note     the metric is of the test set: no validation metric was logged")
        if goal.split == "unknown":
            out.append("note     the name of the metric does not say of which images it is")
        if self.steps_scaled:
            out.append("note     steps were turned into epochs by the epochs planned")
        if self.ordinal:
            out.append("note     steps say no epochs: the places of the evaluations are kept")
        if not self.mapping.curve:
            out.append("note     final values only, no learning curves")
        return out + [f"note     {note}" for note in source.notes]


def _listed(counts: Counter[str]) -> str:
    if not counts:
        return "none named"
    shown = ", ".join(f"{name} {n}" for name, n in counts.most_common(6))
    return f"{len(counts)}: {shown}" + (", ..." if len(counts) > 6 else "")


def _cut(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
