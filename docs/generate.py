"""Write the pages of docs/guide that tables decide.

methods.md comes from the registries, results.md from data/reports.

    python docs/generate.py            # writes both pages
    python docs/generate.py --check    # writes nothing; exits 1 and names the pages that are stale

The same tables give the same bytes. Text between the tables stands in TEMPLATES, `{name}` is a
table of this module.
"""

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from foretune.evaluation.benchmark import regret_at
from foretune.files import write_atomic
from foretune.recommenders.registry import RECOMMENDERS
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, METHODS, Method

ROOT = Path(__file__).resolve().parents[1]
GUIDE, REPORTS = ROOT / "docs" / "guide", ROOT / "data" / "reports"
TEMPLATES = ROOT / "docs" / "templates"
EPOCHS = {"light": 10, "hyperrec": 75, "lcbench": 51}  # of a full training
TITLES = {"light": "shipped meta-dataset", "hyperrec": "HyperRec", "lcbench": "LCBench"}
PEERS = {"tpe": "Optuna 5.0.0, TPE with Hyperband"}
SISTERS = (
    "IMAGENET64SUB",
    "PLACE365SUB",
    "SUN397SUB",
)  # HyperRec's tasks that were cut from one source


def rows(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, body)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def short(x: float, digits: int = 3) -> str:
    """A number without the zero before its point, with its sign if it is negative."""
    return f"{x:.{digits}f}".replace("-0.", "-.").removeprefix("0")


def value(x: float, error: float, digits: int = 3) -> str:
    """A mean and its standard error; nothing where there is none."""
    return "" if pd.isna(x) else f"{short(x, digits)} ± {short(error, digits)}"


# methods.md


def options(method: Method) -> str:
    """A method's own options with their defaults, as `--option` takes them."""
    module, _, cls = method.where.partition(":")
    known = inspect.signature(getattr(importlib.import_module(module), cls)).parameters.values()
    values = {p.name: method.options.get(p.name, p.default) for p in known}
    return ", ".join(
        f"`{name}={shown(x)}`" for name, x in values.items() if x is not None and x != ()
    )


def shown(x: object) -> str:
    """A default as it is typed."""
    if isinstance(x, bool):
        return str(x).lower()
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def methods(take: Callable[[Method], bool]) -> str:
    """The methods of one group, in the registry's order."""
    marks = {DEFAULT: " **default with past tasks**", DEFAULT_WITHOUT_PAST: " **default without**"}
    body = [
        (f"`{n}`", m.about + marks.get(n, ""), options(m)) for n, m in METHODS.items() if take(m)
    ]
    return rows(("method", "what it does", "options and defaults"), body)


def recommenders() -> str:
    """All recommenders; one that trains on the new task is compared with, and cannot be asked."""
    notes = {
        name: f" (trains {e.trains}; in tables only)" if e.trains else ""
        for name, e in RECOMMENDERS.items()
    }
    return rows(
        ("recommender", "what it does"),
        [(f"`{n}`", e.about + notes[n]) for n, e in RECOMMENDERS.items()],
    )


def methods_page() -> dict[str, str]:
    """The tables of methods.md."""
    return {
        "without_past": methods(lambda m: not m.needs_past),
        "with_past": methods(lambda m: m.needs_past and m.recommender is None),
        "with_ranking": methods(lambda m: m.recommender is not None),
        "recommenders": recommenders(),
    }


# results.md


def shipped() -> str:
    """Regret on the shipped meta-dataset, every method that was run."""
    table = pd.read_csv(REPORTS / "light/summary.csv", index_col="method")
    body = [
        (f"`{m}`", *(value(r[n], r[f"{n} se"]) for n in ("1", "2", "5")))
        for m, r in table.iterrows()
    ]
    return rows(("method", "1", "2", "5"), body)


def published(name: str) -> str:
    """Regret on a published table."""
    table = pd.read_csv(REPORTS / f"published/{name}.csv", index_col="method")
    marks = [c for c in table if c.isdigit()]
    body = [
        (
            PEERS.get(m, f"`{m}`"),
            *(value(r[c], r[f"{c} se"], 4) for c in marks),
            f"{r['seeds']:.0f}",
        )
        for m, r in table.iterrows()
    ]
    return rows(("method", *(str(int(c) // int(marks[0])) for c in marks), "seeds"), body)


def by_task(name: str, method: str) -> pd.DataFrame:
    """Mean regret of each task over seeds, after 1, 2 and 5 full trainings."""
    steps = pd.read_parquet(REPORTS / f"traces/{name}/{method}.parquet")
    marks = {k: k * EPOCHS[name] for k in (1, 2, 5)}
    return (
        regret_at(steps, list(marks.values())).groupby("task").mean().set_axis(list(marks), axis=1)
    )


def other_sources(method: str) -> pd.DataFrame:
    """HyperRec as in `by_task`, with no task of the target's own source in the past."""
    table = by_task("hyperrec", method)
    again = (
        pd.read_csv(REPORTS / "published/hyperrec_by_source.csv")
        .set_index(["method", "task"])
        .loc[method]
    )
    table.loc[again.index] = again.to_numpy()
    assert sorted(again.index) == sorted(t for t in table.index if t.startswith(SISTERS))
    return table


def by_source() -> str:
    """HyperRec under both protocols, the default and the portfolio."""
    body = []
    for method in (DEFAULT, "portfolio"):
        for what, table in (
            ("tasks", by_task("hyperrec", method)),
            ("sources", other_sources(method)),
        ):
            errors = table.std(ddof=1) / np.sqrt(len(table))
            body.append(
                (f"`{method}`", what, *(value(table[k].mean(), errors[k], 4) for k in table))
            )
    return rows(("method", "held out: whole", "1", "2", "5"), body)


def paired() -> str:
    """The default against the portfolio, task by task."""
    pairs = {TITLES[name]: (by_task(name, DEFAULT), by_task(name, "portfolio")) for name in EPOCHS}
    pairs["HyperRec, other sources only"] = (other_sources(DEFAULT), other_sources("portfolio"))
    body = []
    for title, (ours, theirs) in pairs.items():
        for k in ours:
            d = (ours[k] - theirs[k].reindex(ours.index)).round(6).to_numpy()
            p = wilcoxon(d, zero_method="pratt").pvalue if d.any() else 1.0
            error = d.std(ddof=1) / np.sqrt(len(d))
            counts = f"{(d < 0).sum()} / {(d == 0).sum()} / {(d > 0).sum()}"
            body.append(
                (
                    title,
                    str(k),
                    counts,
                    value(d.mean(), error, 4),
                    "< .001" if p < 0.001 else short(p),
                )
            )
    return rows(("table", "full trainings", "better / equal / worse", "difference", "p"), body)


def rankings() -> str:
    """Rankings before anything is trained, on the shipped table and on photographs."""
    folders = ("rankings", "leave_one_task_out/rankings", "photos/rankings")
    source, task, photos = (
        pd.read_csv(REPORTS / f / "summary.csv", index_col="recommender") for f in folders
    )
    body = []
    for name, r in source.iterrows():
        cells = [value(r["AP@10"], r["AP@10 se"]), short(r["top-1 regret"])]
        cells.append(value(task.loc[name, "AP@10"], task.loc[name, "AP@10 se"]))
        known = photos.loc[name] if name in photos.index else None
        cells.append("" if known is None else value(known["AP@10"], known["AP@10 se"]))
        over = None if known is None or name == "task-agnostic" else known
        cells.append(
            "" if over is None else value(over["over task-agnostic"], over["over task-agnostic se"])
        )
        body.append((f"`{name}`", *cells))
    head = (
        "recommender",
        "AP@10",
        "regret of the first",
        "AP@10, tasks held out alone",
        "photographs: AP@10",
        "over the list",
    )
    return rows(head, body)


def learning_rates() -> str:
    """autoHyper's rate against two others, over all cells and by task."""
    summary = json.loads((REPORTS / "autohyper/summary.json").read_text())
    body = []
    for name, title in (
        ("suggested", "the rate that the optimizer's authors suggest"),
        ("random", "random search"),
    ):
        found = summary[f"against_{name}"]
        parts = "; ".join(f"{task} {short(v['mean_gap'])}" for task, v in found["by_task"].items())
        counts = (
            f"{found[k] * found['cases']:.0f}" for k in ("within_1_percent_or_above", "above")
        )
        body.append(
            (
                title,
                str(found["cases"]),
                *counts,
                value(found["mean_gap"], found["standard_error"]),
                parts,
            )
        )
    return rows(
        ("compared with", "cells", "within 1 % or above", "above", "difference", "by task"), body
    )


def results_page() -> dict[str, str]:
    """The tables of results.md."""
    tables = {name: published(name) for name in ("hyperrec", "lcbench", "taskset")}
    return tables | {
        "shipped": shipped(),
        "by_source": by_source(),
        "paired": paired(),
        "rankings": rankings(),
        "learning_rates": learning_rates(),
    }


PAGES = {"methods.md": methods_page, "results.md": results_page}


def rendered(page: str) -> str:
    """A page as the tables have it now."""
    text = (TEMPLATES / page).read_text()
    for name, table in PAGES[page]().items():
        mark = f"{{{name}}}"
        if text.count(mark) != 1:
            raise ValueError(
                f"docs/templates/{page} must have {mark} once, and has it {text.count(mark)} times"
            )
        text = text.replace(mark, table)
    return text


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or say which are stale."""
    parser = argparse.ArgumentParser(prog="python docs/generate.py", description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a page is stale"
    )
    check = parser.parse_args(argv).check
    stale = []
    for page in PAGES:
        path, text = GUIDE / page, rendered(page)
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(page)
        if not check:
            write_atomic(path, text)
    if check and stale:
        print(
            f"docs/guide: {', '.join(stale)} no longer as measured; run python docs/generate.py",
            file=sys.stderr,
        )
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
