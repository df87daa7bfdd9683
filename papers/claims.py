"""What the five papers claim beside what was measured here: `docs/notes/claims.md`.

    python -m papers.claims            # writes the page
    python -m papers.claims --check    # writes nothing; exits 1 where the page is stale

The words of the page stand in `docs/templates/claims.md`; a name in braces there is a figure of
`figures`, computed from `data/reports`. Nothing is run.

Every comparison is paired over units: tasks of one source averaged for the image tasks, tasks for
published tables. A figure is the mean difference, its 95 % interval (Student's, over units),
Wilcoxon's two-sided p, and Holm's p among the comparisons of its `family`: those of one paper on
one table by one figure of merit. `verdict` turns one into words.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import regret_at
from foretune.evaluation.statistics import against, holm, mean_interval
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.shipped import LIGHT
from papers.command import command
from papers.dyhpo.field import read

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE, PAGE = ROOT / "docs/templates/claims.md", ROOT / "docs/notes/claims.md"
PHOTOS = ROOT / "data/meta/photos"
LATER = ("top_", "fresh_", "share_", "ridge_", "bm_averaged", "chance")
RIVALS = ("random", "hyperband", "bohb", "dehb", "boca")  # of DyHPO's paper; BOCA for Dragonfly
TRANSFER = ("ablr", "ablr-hb", "box-bo", "box-bohb", "bohamiann", "pmf", "rgpe")  # of AT2's


@dataclass(frozen=True)
class Gap:
    """A paired comparison: mean of what the claim says is better by, interval, test, units."""

    mean: float
    low: float
    high: float
    p: float
    units: int
    p_holm: float = float("nan")
    digits: int = 3

    @classmethod
    def of(cls, better: pd.Series, than: pd.Series, digits: int = 3) -> "Gap":
        """By how much `better` is above `than`, unit by unit of their index."""
        table = pd.DataFrame({"better": better, "than": than})
        if table.isna().any(axis=None):
            raise ValueError(f"{better.name} and {than.name} are not of the same units")
        tests = against(table, "than")
        mean, low, high, p = (
            float(tests[name]["better"]) for name in ("difference", "low", "high", "p")
        )
        return cls(mean, low, high, p, len(table), digits=digits)

    def __str__(self) -> str:
        mean, low, high = (signed(x, self.digits) for x in (self.mean, self.low, self.high))
        said = f"{mean} [{low}, {high}]"
        return f"{said}, p {small(self.p)} (Holm {small(self.p_holm)})"


def signed(x: float, digits: int = 3) -> str:
    """A number with its sign and without the zero before its point."""
    return f"{x:+.{digits}f}".replace("+0.", "+.").replace("-0.", "-.")


def plain(x: float, digits: int = 3) -> str:
    """A number without the zero before its point."""
    return f"{x:.{digits}f}".replace("-0.", "-.").removeprefix("0")


def small(p: float) -> str:
    """A p-value."""
    return "below .001" if p < 0.001 else plain(p, 3 if p < 0.095 else 2)


def verdict(gap: Gap, aim: float = 0.0) -> str:
    """Whether a claim of at least `aim` holds: both its interval and Holm's p must exclude 0."""
    if gap.p_holm >= 0.05 or gap.low <= 0 <= gap.high:
        return "not shown"
    if gap.mean < 0:
        return "**the opposite**"
    return "**reached**" if gap.mean >= aim else f"in sign, not in size ({plain(aim, 2)})"


def averaged(values: pd.Series, sources: Mapping[str, str]) -> pd.Series:
    """Values by task, those of tasks cut from one source averaged."""
    return values.groupby([sources.get(str(task), str(task)) for task in values.index]).mean()


def sources_of(folder: Path) -> dict[str, str]:
    """The source of each task of a meta-dataset that names some."""
    return dict(MetaDataset.load(folder).about.get("sources", {}))


@cache
def ranked(reports: Path, column: str) -> pd.DataFrame:
    """A column of a ranking table, sources by recommenders."""
    sources = sources_of(PHOTOS if reports.name == "photos" else LIGHT)
    table = pd.read_csv(reports / "rankings/tasks.csv")
    wide = table.pivot(index="task", columns="recommender", values=column)
    return wide.apply(lambda values: averaged(values, sources))


def only(table: pd.DataFrame, **where: Any) -> pd.Series:
    """The one row of a table that `where` describes."""
    for column, value in where.items():
        table = table[table[column] == value]
    if len(table) != 1:
        raise BadInput(f"{len(table)} rows are {where}, where one would be right")
    return table.iloc[0]


def share(table: pd.DataFrame, **where: Any) -> str:
    """A row of a table of shares as per cent with its interval."""
    row = only(table, **where)
    return f"{percent(row['share'])} [{percent(row['from'])}, {percent(row['to'])}]"


def percent(x: float) -> str:
    """A share in words; infinite is more than all."""
    return f"{100 * x:.0f} %" if np.isfinite(x) else "over 100 %"


Figures = dict[str, "Gap | str"]


def family(found: Figures) -> Figures:
    """Figures with Holm's p among the comparisons that are among them."""
    gaps = {key: gap for key, gap in found.items() if isinstance(gap, Gap)}
    adjusted = holm([gap.p for gap in gaps.values()])
    return found | {
        key: replace(gap, p_holm=float(p))
        for (key, gap), p in zip(gaps.items(), adjusted, strict=True)
    }


def hyperstar(reports: Path) -> Figures:
    """HyperSTAR: rankings, evaluations, task-aware Hyperband, on both sets of image tasks."""
    out: Figures = {}
    for place, folder in (("", reports), ("_photos", reports / "photos")):
        ap = ranked(folder, "AP@10")
        found: Figures = {}
        for name in ("hyperstar-bm", "hyperstar"):
            key = name.replace("hyperstar", "hs").replace("-", "_")
            found[f"{key}_raw{place}"] = Gap.of(ap[name], ap["raw-mean"])
            found[f"{key}_list{place}"] = Gap.of(ap[name], ap["task-agnostic"])
        for other in ("global-mean", "metadata-network", "random-forest"):
            found[f"bm_{other.replace('-', '_')}{place}"] = Gap.of(ap["hyperstar-bm"], ap[other])
        found[f"regularised{place}"] = Gap.of(ap["hyperstar-both"], ap["hyperstar-bm"])
        out |= family(found)
        out |= landmarks(folder, place)
        shares = pd.read_csv(folder / "rankings/evaluations.csv")
        for given in (5, 10):
            for name in ("hyperstar-bm", "hyperstar"):
                key = f"evaluations_{name.replace('-', '_')}_{given}{place}"
                where = {"baseline": "raw-mean", "given": given, "recommender": name}
                out[key] = share(shares, **where)
        out |= family(task_aware(folder, place))
    return out


def landmarks(folder: Path, place: str) -> Figures:
    """Kernel ridge on landmarks, with Holm's p among all the rankings that were tried there."""
    file = folder / "landmarks/tests.csv"
    if not file.is_file():
        return {}
    tests = pd.read_csv(file)
    out: Figures = {}
    for name, key in (
        ("ridge on landmarks", "ridge_landmarks"),
        ("ridge on landmarks + metadata", "ridge_both"),
        ("ridge on landmarks + metadata, halved, with hyperstar-bm", "ridge_bm"),
        ("hyperstar-bm, averaged", "bm_averaged"),
    ):
        row = only(tests, baseline="list", method=name)
        units = int(row[["higher", "equal", "lower"]].sum())
        gap = Gap(row["difference"], row["low"], row["high"], row["p"], units, row["p_holm"])
        out[f"{key}{place}"] = gap
    odds = pd.read_csv(folder / "landmarks/chances.csv", index_col="task")
    told, brier = (odds.loc[row].astype(float).to_dict() for row in ("mean", "Brier score"))
    out[f"chance{place}"] = (
        f"told {percent(told['chance'])}, came true {percent(told['came true'])}; Brier score "
        f"{plain(brier['chance'])}, of the base rate {plain(brier['base rate'])}"
    )
    return out


def task_aware(folder: Path, place: str) -> Figures:
    """Task-aware Hyperband against others; `one` to `ten` are budgets in full trainings."""
    file = folder / "task_aware_tests.csv"
    if not file.is_file():
        return {}
    tests = pd.read_csv(file)
    full = 6 if place else 10
    budgets = {"one": full, "two": 2 * full, "four": 9 * full // 2, "ten": 10 * full}
    out: Figures = {}
    for name, key in (
        ("task-aware Hyperband, top n", "top"),
        ("task-aware Hyperband", "fresh"),
    ):
        for other, short in (("Hyperband", "hb"), ("BOHB", "bohb")):
            mine = tests[(tests["method"] == name) & (tests["against"] == other)]
            for words, budget in budgets.items():
                where = {"eta": 2, "budget": budget}
                out[f"{key}_{short}_{words}{place}"] = turned(only(mine, **where))
                out[f"share_{key}_{short}_{words}{place}"] = share(mine, **where)
            row = only(mine, eta=3, budget=16 * full)
            out[f"{key}_{short}_large{place}"] = turned(row)
    return out


def turned(row: pd.Series) -> Gap:
    """A row of a table of tests of regrets, so that above 0 is better."""
    units = int(row[["higher", "equal", "lower"]].sum())
    return Gap(-row["difference"], -row["high"], -row["low"], row["p"], units)


def siamese(reports: Path) -> Figures:
    """Siamese-BHO: by how much regret is lower after so many full trainings, by source."""
    table, sources = pd.read_csv(reports / "siamese_tasks.csv"), sources_of(LIGHT)
    out: Figures = {}
    for after in (1, 3, 5, 10):
        wide = table[table["evaluation"] == after].pivot(
            index="task", columns="variant", values="normalized_regret"
        )
        lower = -wide.apply(lambda values: averaged(values, sources))
        best = lower["nearest, EI, prior mean"]
        out[f"nearest_random_{after}"] = Gap.of(lower["nearest, EI"], lower["random, EI"])
        out[f"prior_random_{after}"] = Gap.of(best, lower["random, EI"])
        out[f"prior_nearest_{after}"] = Gap.of(best, lower["nearest, EI"])
        out[f"chosen_{after}"] = Gap.of(best, lower["any tasks, EI, prior mean"])
        out[f"portfolio_{after}"] = Gap.of(best, lower["portfolio"])
    return family(out)


def at2(reports: Path) -> Figures:
    """AT2: the ten pairs, the 64 kernel products, forecasts."""
    out: Figures = {}
    for database, key in (("HyperRec", "hyperrec"), ("LCBench", "lcbench")):
        folder = reports / "at2/traces" / database
        found = {}
        for name in ("at2", *TRANSFER, "portfolio"):
            steps = pd.read_parquet(folder / f"{name}.parquet")
            for column in ("regret", "recommended_rank"):
                at = regret_at(steps, (10, 100), column, nothing=float("nan"))
                for after in (10, 100):
                    found[name, column, after] = -at[after].groupby("task").mean()
        for after in (10, 100):
            for column, short in (("regret", "regret"), ("recommended_rank", "rank")):
                mine = found["at2", column, after]
                theirs = {name: found[name, column, after] for name in TRANSFER}
                best = max(theirs, key=lambda name: theirs[name].mean())
                digits = 3 if short == "regret" else 1
                out[f"{key}_{short}_{after}"] = Gap.of(mine, theirs[best], digits)
                out[f"{key}_{short}_{after}_best"] = f"`{best}`"
                ahead = sum(mine.mean() > other.mean() for other in theirs.values())
                out[f"{key}_{short}_{after}_ahead"] = f"{ahead} of {len(theirs)}"
    out = family(out)
    elbo = pd.read_csv(reports / "at2/elbo.csv")
    own = elbo[elbo["size"] == "small"].sort_values("elbo", ascending=False)
    out["elbo_place"] = str(own["product"].tolist().index("O-P-A") + 1)
    out["elbo_best"] = f"{own['product'].iloc[0]} {own['elbo'].iloc[0]:.2f}"
    ranks = own[["elbo", "paper_elbo"]].corr("spearman").to_numpy()
    out["elbo_order"] = plain(float(ranks[0, 1]), 2)
    whole = elbo[(elbo["size"] == "full") & (elbo["product"] == "O-P-A")].iloc[0]
    out["elbo_full"] = f"{whole['elbo']:.2f}"
    out["distance"] = plain(float(own.set_index("product")["distance_spearman"]["O-P-A"]), 2)
    near = pd.read_csv(reports / "at2/figure2.csv").set_index("database")
    for database, key in (("HyperRec", "hyperrec"), ("LCBench", "lcbench")):
        row = near.loc[database].astype(float).to_dict()
        low, high = signed(row["low"], 1), signed(row["high"], 1)
        out[f"landscapes_{key}"] = (
            f"{row['nearest']:.1f} of 5 against {row['farthest']:.1f}, "
            f"{signed(row['difference'], 1)} [{low}, {high}], p {small(row['p'])}"
        )
    inside = pd.read_csv(reports / "at2/calibration.csv").set_index(["database", "iteration"])
    for database, key in (("HyperRec", "hyperrec"), ("LCBench", "lcbench")):
        out[f"inside_{key}"] = plain(float(inside["inside"][(database, 10)]), 2)
        first, last = (float(inside["rmse"][(database, k)]) for k in (1, 100))
        out[f"error_{key}"] = f"{plain(first, 2)} to {plain(last, 2)}"
    return out


def dyhpo(reports: Path) -> Figures:
    """DyHPO: regret against its paper's rivals, by task, on three tables; the curve; precision."""
    out: Figures = {}
    for table, folder, budget, marks in (
        ("lcbench", "lcbench", 1000, (200, 600, 1000)),
        ("taskset", "taskset", 1000, (200, 600, 1000)),
        ("light", "light-field", 200, (50, 200)),
    ):
        names = ("dyhpo", "dyhpo+", "dyhpo:no-curve", *RIVALS)
        steps = read(reports / "traces" / folder, names, budget)
        lower = -regret_at(steps, marks).groupby(["method", "task"]).mean()
        found: Figures = {}
        for mark in marks:
            block = lower[mark].unstack("method")
            for other in RIVALS:
                found[f"{table}_{other}_{mark}"] = Gap.of(block["dyhpo"], block[other])
            found[f"{table}_curve_{mark}"] = Gap.of(block["dyhpo"], block["dyhpo:no-curve"])
        out |= family(found)
        chosen = pd.read_csv(reports / f"field/{table}-selection.csv")
        last = chosen[chosen["epoch"] == chosen["epoch"].max()].set_index("method")["precision"]
        out[f"{table}_precision"] = ", ".join(
            f"{name} {plain(float(last[name]), 2)}" for name in ("dyhpo", "dyhpo+", *RIVALS[1:4])
        )
    return out | {"filtered_rows": filtered(reports)}


def filtered(reports: Path) -> str:
    """Rows of DyHPO on TaskSet with the published filter, where that was run."""
    file = reports / "field/taskset-filtered-tests.csv"
    if not file.is_file():
        return "| with the published filter of configurations | not run in full | | |"
    tests = pd.read_csv(file)
    last = int(tests["budget"].max())
    tests = tests[tests["budget"] == last]
    names = [name for name in tests["method"].unique() if name.startswith("dyhpo")]
    # what a variant is compared with; the plain one not with itself
    bases = {n: ("random", "hyperband", *(("dyhpo",) if n != "dyhpo" else ())) for n in names}
    gaps: Figures = {}
    for name in names:
        for base in bases[name]:
            gaps[f"{name} {base}"] = turned(only(tests, baseline=base, method=name))
    found = family(gaps)
    lines = []
    for name in names:
        said = "; ".join(f"{base} {found[f'{name} {base}']}" for base in bases[name])
        mine = [found[f"{name} {base}"] for base in bases[name]]
        words = ", ".join(verdict(gap) for gap in mine if isinstance(gap, Gap))
        lines.append(
            f"| with the published filter, `{name}`, after {last} epochs | {said} | {words} | |"
        )
    return "\n".join(lines)


def autohyper(reports: Path) -> Figures:
    """autoHyper: test accuracy by cell, clustered by task; trials."""
    cells = pd.read_csv(reports / "autohyper/accuracy.csv")
    out: Figures = {"cells": str(len(cells))}
    for other in ("suggested", "random"):
        gap = cells["autohyper"] - cells[other]
        by_task = gap.groupby(cells["task"]).mean()
        out[f"over_{other}"] = Gap.of(by_task, 0 * by_task)
        low, high = mean_interval(gap.tolist())
        out[f"over_{other}_pooled"] = f"{signed(gap.mean())} [{signed(low)}, {signed(high)}]"
        out[f"above_{other}"] = str(int((gap > 0).sum()))
        out[f"worse_{other}"] = str(int((gap < -0.01).sum()))
        adam = gap[cells["optimizer"] == "adam"].groupby(cells["task"]).mean()
        out[f"adam_{other}"] = Gap.of(adam, 0 * adam)
    out = family(out)
    without = cells[cells["task"] != "letters"]
    out["without_letters"] = signed(float((without["autohyper"] - without["suggested"]).mean()))
    searches = pd.read_csv(reports / "autohyper/learning_rates.csv")
    searches = searches[searches["variant"] == "paper"]
    out["converged"] = f"{int(searches['converged'].sum())} of {len(searches)}"
    within = int(searches["trials"].between(10, 31).sum())
    out["within_trials"] = f"{within} of {len(searches)}"
    out["trials"] = f"{searches['trials'].min()} to {searches['trials'].max()}"
    low, high = mean_interval(searches.groupby("task")["trials"].mean().tolist())
    out["trials_mean"] = f"{searches['trials'].mean():.1f} [{low:.1f}, {high:.1f}]"
    return out


PAPERS = (hyperstar, siamese, at2, dyhpo, autohyper)


class Words(dict[str, Any]):
    """The figures by name; `NAME?` or `NAME?AIM` is the verdict on one. Those of task-aware
    Hyperband and of landmarks (`LATER`) are not there before their commands have been run.
    """

    def __missing__(self, key: str) -> str:
        name, mark, aim = key.partition("?")
        if mark and isinstance(self.get(name), Gap):
            return verdict(self[name], float(aim or 0))
        if name.startswith(LATER):
            return "not made yet"
        raise KeyError(f"{TEMPLATE.name} names the figure {key!r}, which is not computed")


def figures(reports: Path) -> Words:
    """All figures of the page, by name."""
    out = Words()
    for paper in PAPERS:
        out |= paper(reports)
    return out


def page(reports: Path) -> str:
    """The page as text."""
    text, words = TEMPLATE.read_text(encoding="utf-8"), figures(reports)
    parts = text.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        filled += [str(words[name]), rest]
    return "".join(filled)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the page of claims, or check that it is what the reports say."""
    parser = argparse.ArgumentParser(prog="python -m papers.claims", description=main.__doc__)
    parser.add_argument("--reports", type=Path, default=ROOT / "data/reports")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where it is stale")
    given = parser.parse_args(argv)
    text = page(given.reports)
    if given.check:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
        if stale:
            print(f"{PAGE} is stale: python -m papers.claims", file=sys.stderr)
        return int(stale)
    write_atomic(PAGE, text)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
