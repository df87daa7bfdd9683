"""`foretune lr`: autoHyper's initial learning rate, as a resumable study and a search space."""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import yaml

from foretune.errors import BadInput, plural
from foretune.files import write_atomic
from foretune.running.learning_rate import SUGGESTED, Found, learning_rate_search
from foretune.running.opening import check_name
from foretune.running.options import assignments
from foretune.searchers.autohyper import Rules, narrowed
from foretune.space.parameters import coerce
from foretune.study.study import Study
from foretune.tasks.loading import load_task
from foretune.training.recipe import Settings
from foretune.views.report import write_report
from foretune.views.summary import duration
from foretune.views.tracking import Tracker

# in an epoch: the rate at which Z falls moves with their number (docs/notes/autohyper.md)
FEW_STEPS = 100


def run(args: argparse.Namespace) -> int:
    """Search, print Z of every rate and the rate chosen, write the results.

    Exit code 1 if Z did not respond to the rate.
    """
    from foretune.training.networks import check_buildable
    from foretune.training.trial import device_of

    if args.optimizer not in SUGGESTED:
        raise BadInput(f"--optimizer {args.optimizer!r} must be one of {', '.join(SUGGESTED)}")
    check_name(args.study)
    rules = rules_of(assignments(args.options))
    given = {
        k: getattr(args, k)
        for k in ("network", "image_size", "train_limit", "valid_limit", "device")
    }
    settings = replace(
        Settings(pretrained=False), **{k: v for k, v in given.items() if v is not None}
    )
    # refused before an image is decoded: a device, a network, a size that it does not take
    device_of(settings.device)
    check_buildable(settings.network, False, None, settings.image_size, 0.0)
    task = load_task(args.images, args.data, settings.image_size)
    folder = args.data / "studies" / (args.study or f"{task.name}-lr-{args.optimizer}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"{task.name}: {len(task.labels)} images, {task.num_classes} classes")
    print(
        f"  {settings.network} (random weights) at {settings.image_size} px, "
        f"{args.optimizer}; at most {rules.trials} rates"
    )
    have = len(task.part("train")[1])
    used = min(settings.train_limit or have, have)
    steps = -(-used // settings.batch_size)
    print(f"  {used} of {have} training images, {steps} {plural('step', steps)} an epoch")
    if steps < FEW_STEPS:
        _warn(
            f"with fewer than {FEW_STEPS} steps an epoch (the paper has 390) the rate found "
            "tends to be too large; foretune tune looks at accuracy"
        )
    if (folder / "study.json").exists():
        print(f"  goes on with {folder}: {Study.load(folder).spent} epochs are there")
    tracker = None if args.tracking == "none" else Tracker(args.tracking, args.data, warn=_warn)
    running: Study | None = None  # once it has started a trial
    trials = 0  # of those started, how many were looked at

    def changed(study: Study) -> None:
        nonlocal running, trials
        if len(study.started) > trials:
            running, trials = study, len(study.started)
            if not study.pending[study.started[-1]]:
                line = trial_line(study, study.started[-1])
                if trials == 1 and rules.trials > 1:
                    line += f" (at most {duration((rules.trials - 1) * study.elapsed)} to go)"
                print(f"  {trials:>2}. {line}", flush=True)
        if tracker:
            tracker.submit(study)

    try:
        found = learning_rate_search(
            task,
            args.optimizer,
            settings=settings,
            rules=rules,
            folder=folder,
            seed=args.seed,
            on_change=changed,
        )
    except KeyboardInterrupt:
        print(
            "\nstopped; the same command continues it. Nothing is lost but the epoch that "
            "was in flight."
        )
        return 130
    finally:
        if tracker and running is not None:
            tracker.close(running)
    study = Study.load(folder)
    report = write_report(study, folder / "report.html", extras={})
    write_results(study, found, folder)
    summarise(study, found, folder, report, tracker)
    return 0 if found.informative else 1


def trial_line(study: Study, config_id: int) -> str:
    """The rate of a trial and how the weights responded to it."""
    z = [row["zero_share"] for row in study.rows[config_id] if "zero_share" in row]
    response = f"Z {sum(z) / len(z):.3f}" if z else ""
    if study.failed[config_id]:
        response = "diverged"
    return f"rate {study.configs[config_id]['learning_rate']:.4g}: {response}"


def rules_of(given: dict[str, object]) -> Rules:
    """The walk's constants, with those the user gave. Raises `BadInput` for a name that is none."""
    known = Rules.__dataclass_fields__
    if unknown := [name for name in given if name not in known]:
        raise BadInput(f"--option {unknown[0]!r} is none of {', '.join(known)}")
    like = Rules()
    rules = {
        name: coerce(
            type(getattr(like, name)),
            value,
            f"--option {name}={value}",
            f", such as {getattr(like, name)}",
        )
        for name, value in given.items()
    }
    return replace(like, **rules)


def write_results(study: Study, found: Found, folder: Path) -> None:
    """Write `learning_rate.yaml` and, where the search found a rate, `narrowed.json`.

    The latter has the learning rate from a tenth to ten times the one found.
    """
    result = {
        "task": study.plan.task,
        "network": study.plan.notes.settings["network"],
        "optimizer": found.optimizer,
        "learning_rate": float(f"{found.rate:.6g}") if found.informative else None,
        "converged": found.converged,
        "informative": found.informative,
        "why": found.why,
        "trials": len(found.trials),
        "epochs": found.epochs,
        "seconds": round(found.seconds, 1),
    }
    write_atomic(folder / "learning_rate.yaml", yaml.safe_dump(result, sort_keys=False))
    if found.informative:
        narrowed(study.space, found.rate).save(folder / "narrowed.json")
    else:
        (folder / "narrowed.json").unlink(missing_ok=True)  # of an earlier, shorter search


def summarise(
    study: Study, found: Found, folder: Path, report: Path, tracker: Tracker | None
) -> None:
    """What came out."""
    print("\n  rate       Z      training loss after the last epoch")
    for trial in sorted(found.trials, key=lambda t: t.rate):
        z = "  -  " if math.isnan(trial.z) else f"{trial.z:.3f}"
        loss = f"{trial.losses[-1]:.4f}" if trial.losses and not math.isnan(trial.z) else "diverged"
        print(f"  {trial.rate:<9.3g}  {z}  {loss}")
    print(f"\n{found.text}")
    if found.informative:
        suggested = SUGGESTED[found.optimizer]
        print(
            f"  (what its authors suggest for {found.optimizer}: {suggested:g}; "
            f"{duration(found.seconds)} of training)"
        )
        print(
            "tune around it:     foretune tune IMAGES --from-scratch --space "
            f"{folder / 'narrowed.json'}"
        )
    print(f"learning_rate.yaml: {folder}")
    print(f"report:             {report}")
    if tracker:
        for what, where in tracker.directions(study):
            print(f"{what + ':':<19} {where}")


def _warn(line: str) -> None:
    print(f"  {line}", file=sys.stderr)
