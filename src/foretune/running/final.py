"""The winner of a study, trained once more on all images but those of the test part.

    best = read_best(Path("best.yaml"))
    final = train_final(best, task, folder)         # final.pt, final.json, final.yaml

A search trains on few images and keeps some to choose by; what is put to work should have seen them
all. Configuration, number of epochs and schedule are the winner's; the test part is looked at once,
at the end. It goes on from its last epoch where it was stopped. Files in `folder`:

| file                      | is                                                        |
|---------------------------|-----------------------------------------------------------|
| `final.pt`, `final.json`  | the network (`foretune.training.model_file`)              |
| `final.yaml`              | what it was trained with, and its metrics on the test part|
| `final-test.npz`          | what it says about each test image                        |
| `final-KEY.ckpt`          | where it stands, while it is not done                     |

Under a limit of time it may end before its last epoch: with as many images seen as the winner had
in the search it is handed over as it is then (`Final.epochs` of `Final.cost.epochs`), and another
run goes on from there.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from foretune.errors import BadInput, as_argument, plural
from foretune.files import write_atomic
from foretune.history.join import learning_settings
from foretune.running.options import filled
from foretune.space.space import Config
from foretune.study.outcome import Row
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.training.settings import Settings

SHARE = 0.5  # of a budget in epochs: what the final training may cost beside the search
DOUBT = 1.5  # factor that an estimate of seconds may be too large by
TRAIN, VALID, TEST = (PARTS.index(part) for part in ("train", "valid", "test"))


@dataclass(frozen=True)
class Best:
    """What `best.yaml` says: the winner of a study and what it was trained with.
    `seconds_per_image` is what an epoch took there, by its training images; None where it is not
    known.
    """

    config: Config
    epoch: int
    settings: Settings
    crop: str = "center"
    seed: int = 0
    study: str = ""
    seconds_per_image: float | None = None


@dataclass(frozen=True)
class Cost:
    """What the final training takes: `epochs` of `images` images, as much as `worth` epochs of the
    search, about `seconds` (None: not known).
    """

    epochs: int
    images: int
    worth: float
    seconds: float | None

    def __str__(self) -> str:
        text = f"{self.epochs} {plural('epoch', self.epochs)} on {self.images:,} images"
        return f"{text}, as much as {math.ceil(self.worth):,} of the search"


@dataclass(frozen=True)
class Final:
    """The model that came out: its file and its metrics on the test part, each with its standard
    error. It was trained for `epochs`, `new` of them now; fewer than `cost.epochs` where time was
    up.
    """

    path: Path
    cost: Cost
    test: Mapping[str, tuple[float, float]]
    epochs: int
    new: int


class OutOfTime(RuntimeError):
    """The time that was allowed is over, after `epoch` epochs, too few for a model that is better
    than the search's; the next run goes on from there.
    """

    def __init__(self, epoch: int):
        super().__init__(f"stopped after {epoch} epochs")
        self.epoch = epoch


def read_best(path: Path) -> Best:
    """What a `best.yaml` says. Raises `BadInput` for a file that is none."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(said, Mapping):
            raise TypeError("it is no mapping of names to values")
        known = set(asdict(Settings()))
        settings = {k: v for k, v in dict(said["settings"]).items() if k in known}
        seconds = said.get("seconds_per_image")
        if (epoch := int(said["epoch"])) < 1:
            raise ValueError(f"epoch is {epoch}, which must be 1 or more")
        return Best(
            config=dict(said["config"]),
            epoch=epoch,
            settings=filled(Settings, settings),
            crop=str(said.get("crop", "center")),
            seed=int(said.get("seed", 0)),
            study=str(said.get("study", "")),
            seconds_per_image=None if seconds is None else float(seconds),
        )
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no file {path}; tune writes a best.yaml into its study"
        ) from error
    except KeyError as error:
        raise BadInput(f"{path} is no best.yaml of a study: it lacks {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no best.yaml of a study: {error}") from error


def all_but_test(task: Task) -> Task:
    """The task with its validation images among the training images."""
    split = np.where(task.split == VALID, TRAIN, task.split).astype(np.uint8)
    merged = replace(task, split=split)
    # the images are the same: what says which they are need not be read from them again
    merged.__dict__["hash"] = hashlib.sha256(f"all but test of {task.hash}".encode()).hexdigest()
    return merged


def search_images(task: Task, settings: Settings) -> int:
    """How many images an epoch of the search trains on."""
    count = int((task.split == TRAIN).sum())
    return min(settings.train_limit, count) if settings.train_limit else count


def cost_of(
    task: Task, settings: Settings, epochs: int, seconds_per_image: float | None = None
) -> Cost:
    """What a final training of `epochs` epochs takes."""
    images = int((task.split != TEST).sum())
    seconds = None if seconds_per_image is None else seconds_per_image * images * epochs
    return Cost(epochs, images, epochs * images / search_images(task, settings), seconds)


def fewest_epochs(cost: Cost) -> int:
    """Epochs after which as many images were seen as in all of the winner's training."""
    return max(1, math.ceil(cost.epochs**2 / cost.worth))


def no_room(cost: Cost, budget: int | None, left: float | None) -> str | None:
    """Why a final training does not fit into what the user allowed, as one line: a budget in epochs
    has room for `SHARE` of it, one in seconds for what is `left` (None: there is no such limit),
    in which one epoch must end, and `fewest_epochs`, if the estimate is too large by `DOUBT`: the
    training stops in time itself. None where it fits.
    """
    if budget is not None and cost.worth > SHARE * budget:
        return (
            f"{cost}: more than the {SHARE * budget:,.0f} that a budget of {budget:,} leaves for it"
        )
    if left is None:
        return None
    if cost.seconds is None:
        return f"{cost}, an unknown time: more than the {max(left, 0):,.0f} s that are left"
    epoch = cost.seconds / cost.epochs
    if epoch > left or epoch * fewest_epochs(cost) > DOUBT * left:
        takes = f"about {cost.seconds:,.0f} s"
        return f"{cost}, {takes}: more than the {max(left, 0):,.0f} s that are left"
    return None


def train_final(
    best: Best,
    task: Task,
    folder: Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    seconds: float | None = None,
    grace: float = 0.0,
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Final:
    """Train, measure on the test part, write the files; what is done already is not done again.

    `threads`: of the CPU (default: as the search had, whose seconds the estimate goes by). With
    `seconds`, no epoch is begun that would end later, `grace` seconds later for those of
    `fewest_epochs`; raises `OutOfTime` where fewer end in them. Raises `BadInput` for a task or a
    configuration that cannot be trained, and `foretune.training.trial.TrialFailed`.
    """
    from foretune.training.model_file import write_model
    from foretune.training.trial import assess

    threads = threads or best.settings.threads
    settings = replace(best.settings, train_limit=0, valid_limit=0, threads=threads)
    settings = replace(settings, device=device or best.settings.device)
    merged = all_but_test(task)
    key = _key(best, merged, settings)
    cost = cost_of(task, best.settings, best.epoch, best.seconds_per_image)
    path, about = folder / "final.pt", folder / "final.yaml"
    if (done := _done(about, key, best.epoch)) is not None and path.exists():
        return Final(path, cost, done, best.epoch, 0)
    checkpoint = folder / f"final-{key[:12]}.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.glob("final-*.ckpt"):
        if other != checkpoint:  # of another winner
            other.unlink(missing_ok=True)
    start = _epochs_of(checkpoint)
    fewest = min(best.epoch, fewest_epochs(cost))

    def allowed(epoch: int) -> float:
        return math.inf if seconds is None else seconds + grace * (epoch < fewest)

    _go_on(best, merged, settings, checkpoint, start, allowed, on_epoch)
    epochs = _epochs_of(checkpoint)
    if epochs < fewest:
        raise OutOfTime(epochs)
    found = assess(merged, checkpoint, "test", settings.device)
    found.save(folder / "final-test.npz")
    test = {name: (one.value, one.error) for name, one in found.metrics.items()}
    facts = {"test_accuracy": test["accuracy"][0], "trained_on": ["train", "valid"]}
    write_model(checkpoint, path, **facts)
    _write(about, best, settings, task, epochs, key, test)
    if epochs == best.epoch:
        checkpoint.unlink(missing_ok=True)
    return Final(path, cost, test, epochs, epochs - start)


class _TimeIsUp(Exception):
    """Ends a training between two epochs."""


def _go_on(
    best: Best,
    task: Task,
    settings: Settings,
    checkpoint: Path,
    start: int,
    allowed: Callable[[int], float],
    on_epoch: Callable[[Row], None],
) -> None:
    """Train from epoch `start` to the winner's last, or as far as the seconds that are `allowed`
    after each epoch.
    """
    from foretune.training.trial import train

    began = time.monotonic()

    def ended(row: Row) -> None:
        on_epoch(row)
        epoch, spent = int(row["epoch"]), time.monotonic() - began
        if epoch < best.epoch and spent + row["seconds"] > allowed(epoch):
            raise _TimeIsUp

    if start < best.epoch:
        with suppress(_TimeIsUp):
            train(
                task, best.config, start, best.epoch, settings=settings, seed=best.seed,
                checkpoint=checkpoint, on_epoch=ended,
            )  # fmt: skip


def _key(best: Best, task: Task, settings: Settings) -> str:
    """A hash of what decides the final model."""
    what = [
        task.hash,
        dict(best.config),
        best.epoch,
        learning_settings(asdict(settings)),
        best.seed,
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=float).encode()).hexdigest()


def _epochs_of(checkpoint: Path) -> int:
    """How many epochs a checkpoint holds."""
    from foretune.training import checkpoints

    state = checkpoints.load(checkpoint)
    return len(state["rows"]) if state is not None else 0


def _done(about: Path, key: str, epochs: int) -> dict[str, tuple[float, float]] | None:
    """The test metrics of the final model that was trained before, if it is this one, whole."""
    try:
        said = yaml.safe_load(about.read_text(encoding="utf-8"))
        if said["key"] != key or said["epochs"] != epochs:
            return None
        return {
            name: (float(said["test"][name]), float(said["standard_errors"][name]))
            for name in said["test"]
        }
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
        return None


def _write(
    path: Path,
    best: Best,
    settings: Settings,
    task: Task,
    epochs: int,
    key: str,
    test: Mapping[str, tuple[float, float]],
) -> None:
    said: dict[str, Any] = {
        "task": task.name,
        "config": best.config,
        "epochs": epochs,
        "epochs_of_the_winner": best.epoch,
        "images": int((task.split != TEST).sum()),
        "test_images": int((task.split == TEST).sum()),
        "test": {name: round(value, 6) for name, (value, _) in test.items()},
        "standard_errors": {name: round(error, 6) for name, (_, error) in test.items()},
        "settings": asdict(settings),
        "crop": task.crop,
        "seed": best.seed,
        "study": best.study,
        "key": key,
    }
    write_atomic(path, yaml.safe_dump(said, sort_keys=False))


def after_search(
    folder: Path,
    task: Task,
    *,
    wanted: bool | None,
    budget: int | None,
    left: float | None,
    grace: float = 0.0,
    estimate: float | None = None,
    on_start: Callable[[Cost], None] = lambda cost: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Final | str:
    """The final training of the study in `folder`, which has its `best.yaml`, or one line that says
    why there is none. `wanted`: False never, None where it fits into the budget (see `no_room`),
    True whatever it costs in epochs; what is `left` of a time is kept in any case, but for `grace`
    seconds where they save a model. `estimate` are
    the seconds that the study reckons with (default: those of `best.yaml`'s epochs).
    """
    from foretune.training.trial import TrialFailed

    best = read_best(folder / "best.yaml")
    again = f"foretune train {as_argument(folder / 'best.yaml')} IMAGES"
    if wanted is False:
        return f"no final training (--no-final); {again} makes one"
    cost = cost_of(task, best.settings, best.epoch, best.seconds_per_image)
    cost = cost if estimate is None else replace(cost, seconds=estimate)
    if why := no_room(cost, None if wanted else budget, left):
        return f"no final training: {why}; {again} makes one"
    on_start(cost)
    try:
        return train_final(best, task, folder, seconds=left, grace=grace, on_epoch=on_epoch)
    except OutOfTime as stopped:
        return (
            f"final training broken off after {stopped.epoch} of {cost.epochs} epochs, the time "
            f"being up; {again} goes on"
        )
    except TrialFailed as failure:
        return f"no final training: it failed in epoch {failure.epoch}: {failure.reason}"
