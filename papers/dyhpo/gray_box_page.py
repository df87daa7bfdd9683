"""Renew the measured tables of docs/notes/gray-box.md from data/reports/field.

`python -m papers.dyhpo.field` writes those.

    python -m papers.dyhpo.gray_box_page

What stands between `<!-- TABLE -->` and `<!-- end of TABLE -->` is replaced; the text around it is
written by hand.
"""

import textwrap
from pathlib import Path

import pandas as pd

from foretune.files import write_atomic
from papers.dyhpo.field import FAMILY

ROOT = Path(__file__).resolve().parents[2]
PAGE, REPORTS = ROOT / "docs" / "notes" / "gray-box.md", ROOT / "data" / "reports" / "field"
TITLES = {
    "lcbench": "LCBench, 25 tasks x 100 configurations x 51 epochs",
    "taskset": "TaskSet, 6 text tasks x 1,000 configurations x 51 steps",
    "light": "the shipped meta-dataset, 16 tasks x 108 configurations x 10 epochs",
}


def short(x: float, digits: int = 4) -> str:
    """A share without its zero."""
    return f"{x:.{digits}f}".removeprefix("0")


def regret(name: str) -> list[str]:
    """The table of regret with its standard errors."""
    table = pd.read_csv(REPORTS / f"{name}-regret.csv", index_col="method")
    marks = [c.removesuffix(" se") for c in map(str, table) if c.endswith(" se")]
    head = ["method", *marks, "tasks", "repetitions", "ms"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method, row in table.iterrows():
        cells = [f"{short(row[m])} ({short(row[f'{m} se'])})" for m in marks]
        ends = [f"{row[c]:g}" for c in ("tasks", "repetitions", "decision_ms")]
        lines.append(f"| `{method}` | {' | '.join([*cells, *ends])} |")
    return lines


def odd(name: str) -> str:
    """The odd half of the tasks in one paragraph."""
    table = pd.read_csv(REPORTS / f"{name}-odd.csv", index_col="method")
    marks = [c.removesuffix(" se") for c in map(str, table) if c.endswith(" se")]
    each = [
        f"{method} {' / '.join(short(row[m], 3) for m in marks)}"
        for method, row in table.iterrows()
    ]
    return (
        f"On the odd half alone ({table['tasks'].max()} tasks, nothing was chosen on "
        f"them): {'; '.join(each)}."
    )


def probability(p: float) -> str:
    """A p-value as text."""
    return "below 1e-6" if p < 1e-6 else f"= {p:.2g}"


def plain(p: float) -> str:
    """A p-value in a list."""
    return "< 1e-5" if p < 1e-5 else f"{p:.2g}"


def tests(name: str) -> list[str]:
    """A paragraph for each budget: ranks, pairs that differ, and all pairs of the family."""
    pairs, family = (pd.read_csv(REPORTS / f"{name}-{kind}.csv") for kind in ("tests", "family"))
    out = []
    for budget, block in pairs.groupby("budget"):
        ranks = pd.concat([block.set_index("a")["rank_a"], block.set_index("b")["rank_b"]])
        ranks = ranks[~ranks.index.duplicated()].sort_values(kind="stable")
        differ = [f"{r.a} and {r.b}" for r in block.itertuples() if r.significant]
        own = family[family["budget"] == budget]
        each = [
            f"{a} and {b} {plain(holm)}{' *' if significant else ''} ({plain(p)} before)"
            for a, b, p, holm, significant in zip(
                *(own[c] for c in ("a", "b", "p", "p_holm", "significant")), strict=True
            )
        ]
        out += [
            "",
            f"At {budget} epochs ({block['tasks'].iloc[0]} tasks; Friedman p "
            f"{probability(block['friedman_p'].iloc[0])}): mean ranks "
            f"{', '.join(f'{m} {r:.2f}' for m, r in ranks.items())}. After Holm among all "
            "pairs differ: "
            f"{', '.join(differ) or 'none'}. Diagram: `{name}-{budget}.svg`. Among "
            f"{', '.join(FAMILY)} alone "
            f"(Friedman p {probability(own['friedman_p'].iloc[0])}), Holm's p: {', '.join(each)}.",
        ]
    return out


def selection(name: str) -> str:
    """What the epochs went to."""
    table = pd.read_csv(REPORTS / f"{name}-selection.csv")
    first, last = table["epoch"].min(), table["epoch"].max()
    started = table[table["epoch"] == first].set_index("method")["trained"]
    each = [
        f"{r.method} {started[r.method]:.0f} / {r.trained:.1f} / {short(r.precision)} / "
        f"{short(r.selected_regret)} / {short(r.late_bloomers)}"
        for r in table[table["epoch"] == last].itertuples()
    ]
    return (
        "What the epochs went to: configurations started / trained to the last epoch "
        f"({last}) / and of the latter the precision of the "
        f"top 1 % / mean regret / late bloomers among the good: {'; '.join(each)}."
    )


def block(name: str) -> str:
    """All that is measured of a table."""
    lines = [f"**{TITLES[name]}**", "", *regret(name), *tests(name), ""]
    lines += [selection(name), "", odd(name)]
    return "\n".join(line if line.startswith("|") else wrapped(line) for line in lines)


def wrapped(text: str) -> str:
    """A paragraph in lines of at most 100 characters."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def renewed(page: str) -> str:
    """The page with its blocks as measured. Raises ValueError if a marker is missing."""
    for name in TITLES:
        start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE} lacks the markers of {name}")
        page = before + start + block(name) + end + after
    return page


if __name__ == "__main__":
    write_atomic(PAGE, renewed(PAGE.read_text(encoding="utf-8")))
