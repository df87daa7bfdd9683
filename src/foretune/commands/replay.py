"""`foretune replay`."""

import argparse
import json
import sys
from pathlib import Path

from foretune.commands.cli import check_output
from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.running.options import assignments
from foretune.searchers.registry import method, searcher
from foretune.shipped import FOLDER, HISTORY, find
from foretune.study.own_studies import read_history


def run(args: argparse.Namespace) -> int:
    """Replay one method on one task, one JSON line per step.

    Or all tasks, to say what history saves.
    """
    meta = read_history(folder_of(args.meta))
    check_output(args.out)
    if args.would_have_saved:
        return would_have_saved(args, meta)
    for option in ("task", "method"):
        if getattr(args, option) is None:
            known = ", ".join(meta.tasks) if option == "task" else "see: foretune methods"
            raise BadInput(f"--{option} is missing ({known})")
    meta.check_task(args.task)
    chosen = searcher(args.method, **assignments(args.options))
    budget = 10 * meta.max_epoch if args.budget is None else args.budget
    sources = args.sources
    study, objective = replay_study(
        meta,
        args.task,
        budget=budget,
        sources=sources,
        seed=args.seed,
        curve_seed=args.curve_seed,
        method=args.method,
    )
    if method(args.method).needs_past and study.past is None:
        raise BadInput(f"method {args.method!r} needs past tasks, and --sources names none")
    lines = (
        json.dumps(step)
        for step in replay(study, objective, chosen, Score(meta, args.task, args.curve_seed))
    )
    if args.out is not None:
        write_atomic(args.out, "".join(f"{line}\n" for line in lines))
    else:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


def folder_of(meta: str) -> Path:
    """The folder that a command names: a path, or else a meta-dataset that comes with foretune."""
    own = FOLDER / "meta" / meta
    return own if not Path(meta).exists() and own.is_dir() else Path(meta)


def would_have_saved(args: argparse.Namespace, meta: MetaDataset) -> int:
    """Print epochs saved by task, their mean and its uncertainty; with --out also as JSON.

    Own studies have the shipped table as history too, where `tune` would give it to them.
    """
    from foretune.evaluation import would_have_saved as saved
    from foretune.searchers.registry import DEFAULT

    if args.task is not None or args.sources is not None:
        raise BadInput(
            "--would-have-saved replays every task with all others as history: leave out "
            "--task and --sources"
        )
    if args.options or args.seed or args.curve_seed:
        raise BadInput(
            "--would-have-saved replays each task with three seeds: leave out --option, "
            "--seed and --curve-seed"
        )
    name = args.method or DEFAULT
    if not method(name).needs_past:
        raise BadInput(
            f"method {name!r} learns from no past tasks, so history can save it nothing; try "
            f"{DEFAULT}"
        )
    folder = Path(args.meta)
    shipped = None
    if not (folder / "about.json").exists():
        history = find("meta", HISTORY, folder.resolve().parent)
        shipped = saved.shipped_for(meta, history) if history is not None else None
    savings = saved.would_have_saved(meta, args.budget, method=name, shipped=shipped)
    others = "the other studies" if shipped is not None else "the other tasks"
    if savings.shipped:
        others += f", and the {savings.shipped} tasks of the shipped table that tune learns from"
    print(f"history: {others}")
    width = max(4, *map(len, savings.by_task))
    print(f"{'task':<{width}}  epochs saved  of at most  choosing among")
    for task, value in sorted(savings.by_task.items(), key=lambda item: -item[1]):
        trained = f"{savings.configurations[task]} that it trained"
        print(f"{task:<{width}}  {value:>+12.1f}  {savings.budgets[task]:>10}  {trained}")
    print(f"\n{savings.sentence}")
    if args.out is not None:
        facts = {
            "by_task": dict(savings.by_task),
            "mean": savings.mean,
            "low": savings.low,
            "high": savings.high,
            "budgets": dict(savings.budgets),
            "configurations": dict(savings.configurations),
            "with_history": savings.with_history,
            "without": savings.without,
            "shipped_tasks": savings.shipped,
        }
        write_atomic(args.out, json.dumps(facts, indent=1))
    return 0
