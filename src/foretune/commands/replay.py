"""`foretune replay`."""

import argparse
import json
import sys
from pathlib import Path

from foretune.commands.cli import check_output, names, options
from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import write_atomic
from foretune.history.join import read_history
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import method, searcher


def run(args: argparse.Namespace) -> int:
    """Replay one method on one task, one JSON line per step.

    Or all tasks, to say what history saves.
    """
    meta = read_history(args.meta)
    check_output(args.out)
    if args.would_have_saved:
        return would_have_saved(args, meta)
    for option in ("task", "method"):
        if getattr(args, option) is None:
            known = ", ".join(meta.tasks) if option == "task" else "see: foretune methods"
            raise BadInput(f"--{option} is missing ({known})")
    meta.check_task(args.task)
    chosen = searcher(args.method, **options(args.option))
    budget = 10 * meta.max_epoch if args.budget is None else args.budget
    sources = names(args.sources)
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


def would_have_saved(args: argparse.Namespace, meta: MetaDataset) -> int:
    """Print epochs saved by task, their mean and its uncertainty; with --out also as JSON.

    Own studies have the shipped table as history too, where `tune` would give it to them: it lies
    in `meta/light` beside the folder of studies.
    """
    from foretune.evaluation import would_have_saved as saved
    from foretune.searchers.registry import DEFAULT

    if args.task is not None or args.sources is not None:
        raise BadInput(
            "--would-have-saved replays every task with all others as history: leave out "
            "--task and --sources"
        )
    if args.option or args.seed or args.curve_seed:
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
        shipped = saved.shipped_for(meta, folder.resolve().parent / "meta" / "light")
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
