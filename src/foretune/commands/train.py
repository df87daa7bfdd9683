"""`foretune train`: a study's winner once more, on all images but those of the test part."""

import argparse
import sys
from dataclasses import replace

from foretune.commands.tune import announce_final, show_epoch
from foretune.errors import BadInput, as_argument
from foretune.running.final import Best, Final, cost_of, read_best, train_final
from foretune.tasks.loading import find_source, task_of
from foretune.tasks.reading import Reading
from foretune.tasks.task import Task
from foretune.views.progress import Decoding
from foretune.views.summary import plus_minus, spelled


def run(args: argparse.Namespace) -> int:
    """Train, and say what came out."""
    from foretune.training.trial import TrialFailed, device_of

    best = read_best(args.best)
    if args.epochs is not None:
        best = with_epochs(best, args.epochs)
    folder = args.out or args.best.parent
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file; give a folder")
    if args.threads is not None and args.threads < 1:
        raise BadInput(f"--threads {args.threads} must be at least 1")
    device_of(args.device or best.settings.device)
    check_recipe(best)
    how = Reading(best.settings.image_size, best.crop, args.skip_bad, processes=1)
    source = find_source(args.images, args.data)
    task = task_of(source, how, args.data, progress=Decoding())
    print(f"{task.name}: {len(task.labels)} images, {task.num_classes} classes")
    print(f"  {spelled(best.config)}")
    announce_final(cost_of(task, best.settings, best.epoch, best.seconds_per_image))
    try:
        final = train_final(
            best, task, folder, device=args.device, threads=args.threads, on_epoch=show_epoch
        )
    except TrialFailed as failure:
        print(f"foretune train: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    summarise(final, task)
    return 0


def with_epochs(best: Best, epochs: int) -> Best:
    """The winner with another number of epochs, over which its schedule is stretched."""
    if epochs < 1:
        raise BadInput(f"--epochs {epochs} must be at least 1")
    most = best.settings.max_epoch if epochs <= best.settings.max_epoch else epochs
    return replace(best, epoch=epochs, settings=replace(best.settings, max_epoch=most))


def check_recipe(best: Best) -> None:
    """Raise `BadInput` now for what the trainer does not know, or weights that cannot be had."""
    from foretune.training.networks import check_buildable
    from foretune.training.recipe import recipe

    asked = recipe(best.config, best.settings)
    settings = best.settings
    check_buildable(
        asked.network, settings.pretrained, settings.weights, settings.image_size, asked.drop_path
    )


def summarise(final: Final, task: Task) -> None:
    """What came out."""
    value, error = final.test["accuracy"]
    tested = len(task.part("test")[1])
    print(f"test accuracy {plus_minus('accuracy', value, error)} ({tested} images, measured once)")
    print(f"{final.path}: foretune predict {as_argument(final.path)} FILES")
