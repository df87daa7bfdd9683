"""`foretune history`: what is known, what it is worth, and what one study would make of it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from foretune.errors import BadInput, few, plural
from foretune.history.vocabulary import canonical
from foretune.running import history
from foretune.running.history import Source, sources_of
from foretune.running.studies import find_study
from foretune.searchers.transfer.run_columns import OUTCOMES, SCORE, TASK
from foretune.searchers.transfer.run_history import stacked
from foretune.searchers.transfer.run_sources import hurtful
from foretune.searchers.transfer.run_surrogate import usable
from foretune.study.header import read_header
from foretune.study.own_studies import found_studies

if TYPE_CHECKING:
    import pandas as pd

    from foretune.evaluation.history_worth import Worth

NAMES = 4  # of networks, tasks, ... that a line shows
DISCOUNTS = 8  # lines of them


def run(args: argparse.Namespace) -> int:
    """Say what is known, and what is asked of it."""
    sources = sources_of(args.data, args.meta) if args.meta != "none" else own_sources(args.data)
    if args.study is not None:
        lines = study_lines(args, sources)
    else:
        lines = known_lines(sources)
    if args.check:
        lines += ["", *check_lines(args, sources)]
    for line in lines:
        print(line)
    return 0


def own_sources(data: Path) -> list[Source]:
    """The user's own studies and run stores alone."""
    return sources_of(data, table=False)


def known_lines(sources: list[Source]) -> list[str]:
    """A line a source, then its tasks and what its runs varied."""
    if not sources:
        return ["nothing is known yet: tune a task, or foretune import FORMAT SOURCE"]
    by_name: dict[str, list[Source]] = {}
    for source in sources:
        if len(source.table):
            by_name.setdefault(source.name, []).append(source)
    tables = {name: stacked([s.table for s in some]) for name, some in by_name.items()}
    rows = [("source", "tasks", "runs", "networks", "settings")]
    for name, table in tables.items():
        tasks = sum(len(source.tasks) for source in by_name[name])
        facts = f"{tasks:,}", f"{len(table):,}", values(table, "network")
        rows.append((name, *facts, settings_text(table)))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    for name, table in tables.items():
        tasks_of = [task for source in by_name[name] for task in source.tasks]
        lines += ["", f"{name}: {few(tasks_of, ', ', 2 * NAMES)}"]
        varied = [c for c in inputs(table) if table[c].nunique() > 1]
        lines.append(f"  varied {few(varied, ', ', 3 * NAMES) or 'nothing'}")
    lines += [f"{source.name} left out: {source.fault}" for source in sources if source.fault]
    return lines


def inputs(table: "pd.DataFrame") -> list[str]:
    """The columns of hyperparameters and settings."""
    ours = (history.IMAGES, history.KIND, history.OF)
    return [str(c) for c in table if c not in OUTCOMES and c not in ours]


def values(table: "pd.DataFrame", column: str, unit: str = "") -> str:
    """The values of a column, the most frequent first; `-` where no run has one."""
    if column not in table:
        return "-"
    counts = table[column].value_counts()
    shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in counts.index]
    return few(shown, ", ", NAMES) + unit if shown else "-"


def settings_text(table: "pd.DataFrame") -> str:
    """Image sizes, training images and epochs, as far as they are known."""
    parts = [
        values(table, name, unit)
        for name, unit in (
            ("image_size", " px"),
            ("train_images", " images"),
            ("epochs", " epochs"),
        )
    ]
    return " · ".join(part for part in parts if part != "-") or "-"


def study_lines(args: argparse.Namespace, sources: list[Source]) -> list[str]:
    """What a study as this one would learn from, and what it would leave out and why."""
    folder = find_study(args.study, args.data)
    space, _, plan = read_header(folder)
    notes = plan.notes
    asked = history.Question(space, notes.settings, plan.metric, plan.task, notes.task_hash)
    lines = [f"{folder.name}: {plan.task}, {plan.metric}, method {plan.method}"]
    if notes.past:
        names = few(list(notes.past), ", ", 2 * NAMES)
        lines.append(f"  learns from the curves of {len(notes.past)} past tasks: {names}")
    if notes.runs is not None:
        table = history.kept(folder, notes.runs)
        assert table is not None
        lines.append(f"  learns from {len(table):,} runs of {table[TASK].nunique()} tasks")
    found, told = history.lessons(sources, asked)
    lines.append("a new study of the same, if its space shared no curves, would be")
    lines += [f"  {line}" for line in (history.described(found, asked) if found else [])]
    lines += [f"  {line}" for line in told]
    own = found_studies(args.data / "studies", notes.settings)
    for name, why in own.left_out.items():
        if name != folder.name:
            lines.append(f"  no curves of own study {name}: {why}")
    return lines


def check_lines(args: argparse.Namespace, sources: list[Source]) -> list[str]:
    """What history is worth, by leave-one-task-out on the user's own runs; where there are none, on
    those that come with foretune.
    """
    from foretune.evaluation.history_worth import worth

    own = [t for s in sources if s.name != args.meta for t in s.tasks]
    table = stacked([source.table for source in sources])
    if not len(table):
        return ["nothing is known yet, so nothing can be checked"]
    kind = str(table[history.KIND].mode().iloc[0])
    table = history.in_one_unit(table, kind)
    ours = sorted({s.name for s in sources} - {args.meta})
    table, lines = judged(table, ours) if ours else (table, [])
    table = table[[TASK, SCORE, *inputs(table)]]
    settings = None
    if args.study is not None:
        noted = read_header(find_study(args.study, args.data))[2].notes.settings
        settings = {known[0]: v for n, v in noted.items() if (known := canonical(n))}
    try:
        found = worth(table, own or None, settings, seeds=args.seeds)
    except BadInput as error:
        return [*lines, f"cannot be checked: {error}"]
    return lines + worth_lines(found, "your own" if own else args.meta)


def judged(table: "pd.DataFrame", ours: list[str]) -> tuple["pd.DataFrame", list[str]]:
    """The runs without those of sources that hurt the forecast of the user's `ours`, and a line for
    each source that could be judged.
    """
    try:
        runs = usable(table)
    except BadInput:
        return table, []  # the check says why
    judges = {str(name): [one for one in ours if one != name] for name in runs[history.OF].unique()}
    plain = runs[[TASK, SCORE, *inputs(runs)]]
    out, kept = hurtful(plain, runs[history.OF], judges)
    lines = [f"runs of {one.name} count 0: {one}" for one in out]
    lines += [f"runs of {one.name} count: {one}" for one in kept]
    return table[~table[history.OF].isin([one.name for one in out])], lines


def worth_lines(found: "Worth", whose: str) -> list[str]:
    """The result for people."""
    count = len(found.by_task)
    verb = "saved" if found.mean >= 0 else "cost"
    known = [found.by_task[t] * found.epochs[t] for t in found.by_task if found.epochs[t] > 0]
    epochs = f", {abs(sum(known) / len(known)):.1f} epochs" if known else ""
    between = found.interval
    sure = (
        f"90 % interval {between[0]:+.1f} to {between[1]:+.1f}"
        if between
        else f"no interval: {count} {plural('task', count)} {'is' if count == 1 else 'are'} too few"
    )
    lines = [
        f"leave-one-task-out on {count} {plural('task', count)} of {whose}: history {verb} "
        f"{abs(found.mean):.1f} trainings a task{epochs} ({sure})"
    ]
    hurt = [f"{t} ({found.by_task[t]:+.1f})" for t in found.hurt]
    which = "it" if count == 1 else f"{len(hurt)} of them"
    if hurt or count > 1:
        lines.append(f"it hurt on {which}{': ' + few(hurt, ', ', NAMES) if hurt else ''}")
    shown = found.discounts[:DISCOUNTS]
    lines += [str(discount) for discount in shown]
    if len(found.discounts) > len(shown):
        lines.append(f"and {len(found.discounts) - len(shown)} more discounts")
    return lines
