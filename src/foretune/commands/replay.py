"""`foretune replay`."""

import argparse
import json
import sys

from foretune.cli import names, options
from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import write_atomic
from foretune.meta import MetaDataset
from foretune.searchers.registry import method, searcher


def run(args: argparse.Namespace) -> int:
    """Replay one method on one task; writes one JSON line per step."""
    meta = MetaDataset.load(args.meta)
    for option in ("task", "method"):
        if getattr(args, option) is None:
            known = ", ".join(meta.tasks) if option == "task" else "see: foretune methods"
            raise BadInput(f"--{option} is missing ({known})")
    meta.check_task(args.task)
    chosen = searcher(args.method, **options(args.option))
    budget = 10 * meta.max_epoch if args.budget is None else args.budget
    sources = names(args.sources)
    study, objective = replay_study(
        meta, args.task, budget=budget, sources=sources, seed=args.seed, curve_seed=args.curve_seed, method=args.method
    )
    if method(args.method).needs_past and study.past is None:
        raise BadInput(f"method {args.method!r} needs past tasks, and --sources names none")
    if args.out is not None and args.out.is_dir():
        raise BadInput(f"--out {args.out} is a folder; give a file")
    lines = (json.dumps(step) for step in replay(study, objective, chosen, Score(meta, args.task, args.curve_seed)))
    if args.out is not None:
        write_atomic(args.out, "".join(f"{line}\n" for line in lines))
    else:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0
