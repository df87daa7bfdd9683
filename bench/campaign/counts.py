"""Counts of a campaign of faults: lines of a CSV file, their sums, and what they can exclude."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

CONFIDENCE = 0.95
SUMS = (
    "kills",
    "survived",
    "epochs",
    "repeated",
    "allowed",
    "lost",
    "twice",
    "missing",
    "wrong",
    "left",
)
HEAD = (
    "harm",
    "times",
    "survived",
    "studies",
    "epochs",
    "repeated",
    "at most",
    "lost",
    "twice",
    "not logged",
    "wrong",
    "left running",
    "failure rate below",
)
CELLS = (
    "kind",
    "kills",
    "survived",
    "study",
    "epochs",
    "repeated",
    "allowed",
    "lost",
    "twice",
    "missing",
    "wrong",
    "left",
)


@dataclass
class Count:
    """A study, or the sum of several: a line of the CSV file.

    `repeated` epochs were executed more than once, of at most `allowed`; `lost` ones were told and
    are gone from a record, `twice` stand in one doubly, `missing` ones are not logged, and `wrong`
    values differ between two records; `left` processes outlived the study.
    """

    kind: str
    seed: int = 0
    study: int = 0
    kills: int = 0
    survived: int = 0
    epochs: int = 0
    repeated: int = 0
    allowed: int = 0
    lost: int = 0
    twice: int = 0
    missing: int = 0
    wrong: int = 0
    left: int = 0
    trouble: str = ""

    @property
    def bad(self) -> bool:
        """Whether anything was lost, doubled or wrong, was repeated too often, or did not
        survive.
        """
        spoiled = self.lost or self.twice or self.missing or self.wrong or self.left
        return bool(spoiled or self.survived < self.kills or self.repeated > self.allowed)


def append(out: Path, count: Count) -> None:
    """Write a study's line."""
    new = not out.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow([f.name for f in fields(Count)])
        writer.writerow([" ".join(str(value).split()) for value in asdict(count).values()])


def read(out: Path) -> list[Count]:
    """The lines there are."""
    if not out.exists():
        return []
    with open(out, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    text = ("kind", "trouble")
    return [Count(**{k: v if k in text else int(v) for k, v in line.items()}) for line in lines]


def total(kind: str, lines: Sequence[Count]) -> Count:
    """The sum of some studies; `study` is how many there were."""
    out = Count(kind, study=len(lines))
    for name in SUMS:
        setattr(out, name, sum(getattr(line, name) for line in lines))
    return out


def excluded(failures: int, times: int) -> float:
    """The failure rate that so many failures in so many independent trials exclude: the upper end
    of the one-sided interval of Clopper and Pearson (1934) at `CONFIDENCE`. Without failures it is
    1 - 0.05^(1/times), about 3 / times.
    """
    from scipy.stats import beta

    if failures >= times:
        return 1.0
    return float(beta.ppf(CONFIDENCE, failures + 1, times - failures))


def failures(lines: Sequence[Count]) -> int:
    """Times that were not survived, or stand in a study with a bad count: a study does not say
    which of its times spoiled it, so all of them count.
    """
    return sum(line.kills if line.bad else 0 for line in lines)


def table(lines: Sequence[Count], kinds: Sequence[str]) -> str:
    """The counts as Markdown, a row a kind and one for all."""
    groups = [(kind, [line for line in lines if line.kind == kind]) for kind in kinds]
    out = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    for kind, mine in [*((k, m) for k, m in groups if m), ("all", list(lines))]:
        count = total(kind, mine)
        cells = [getattr(count, name) for name in CELLS]
        rate = excluded(failures(mine), count.kills) if count.kills else 1.0
        out.append("| " + " | ".join(map(str, [*cells, f"{100 * rate:.2g} %"])) + " |")
    return "\n".join(out)
