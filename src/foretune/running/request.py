"""What can be asked of foretune, said once: a tuning request, and a request to collect a
meta-dataset.

The options of `foretune tune`, the parameters of the flows `tune` and `inbox`, and those of
`foretune.tune(...)` come from the fields of `Request`; those of `python -m
foretune.pipeline.meta_dataset` and of the flow `meta-dataset` from `CollectionRequest`
(`foretune.running.options`). Nothing is imported here that takes time.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretune import shipped
from foretune.running.scripts.options import Script
from foretune.training.settings import Settings

LEARNS, TRAINS = "what it learns from", "what it trains"
WORTH = 0.002  # of the metric, that a full training must be expected to gain
SCRIPT = "your own script in place of our trainer"


@dataclass(frozen=True)
class Request:
    """What the user asked for. `None` means: as the meta-dataset has it, or the default."""

    images: str = field(
        metadata={
            "help": "a folder of class folders (or of train, valid and test), a table of "
            "path,label[,split][,group], a prepared task's name, an .npz file, or torchvision:NAME",
            "metavar": "IMAGES",
        }
    )
    budget: int | None = field(
        default=None,
        metadata={
            "help": "epochs to spend in all trials together (default: ten full trainings, or what "
            "--minutes has room for)",
            "metavar": "EPOCHS",
            "least": 1,
        },
    )
    minutes: float | None = field(
        default=None,
        metadata={
            "help": "time that all of it may take, from reading the images to the finished model; "
            "the study stops at whichever budget ends first",
            "metavar": "M",
            "above": 0,
        },
    )
    method: str | None = field(
        default=None,
        metadata={
            "help": "how to choose the next step (see: foretune methods); default: the best there "
            "is for what is at hand"
        },
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "an option of the method, such as eta=2",
            "flag": "--option",
            "metavar": "NAME=VALUE",
        },
    )
    workers: int = field(
        default=2,
        metadata={"help": "trials that train at the same time (default: 2)", "least": 1},
    )
    study: str | None = field(
        default=None,
        metadata={
            "help": "name of the study; the same name continues a study that was stopped, with a "
            "raised budget too",
            "metavar": "NAME",
        },
    )
    continue_from: str | None = field(
        default=None,
        metadata={
            "help": "start from this study, edited: with another space, network or settings, and all "
            "else as it was; its trials are kept where they still are of the space (--budget counts "
            "what is trained from now on)",
            "metavar": "STUDY",
        },
    )
    seed: int = field(
        default=0,
        metadata={
            "help": "of the method's random choices and of training (default: 0)",
            "least": 0,
        },
    )
    stop_when_done: bool = field(
        default=False,
        metadata={
            "help": "end the study when what the rest of the budget can still gain is worth less than "
            "it costs (see --worth; after the first full training, where the method forecasts "
            "curves)",
        },
    )
    worth: float = field(
        default=WORTH,
        metadata={
            "help": "gain of the metric that a full training must promise to be worth its cost, for "
            f"--stop-when-done (default: {WORTH:g})",
            "metavar": "GAIN",
            "above": 0,
        },
    )
    compare: bool = field(
        default=False,
        metadata={
            "help": "also train the default configuration, and random search with equal epochs, or "
            "for equal time where minutes are the budget; comes on top of it"
        },
    )
    final: bool | None = field(
        default=None,
        metadata={
            "help": "train the best configuration once more on all images but the test part's, "
            "whatever that costs (default: where it costs at most half the budget's epochs, and "
            "fits into the time)",
        },
    )
    default: bool = field(
        default=True,
        metadata={
            "help": "train the network's default configuration first (from five full trainings of "
            "budget on), so that the result is never below it",
            "off": (
                "--no-default",
                "do not train the network's default configuration first (done from five full "
                "trainings of budget on)",
            ),
        },
    )
    skip_bad: bool = field(
        default=False,
        metadata={"help": "leave out images that cannot be read, instead of refusing the folder"},
    )
    crop: str = field(
        default="center",
        metadata={
            "help": "how pictures become square: center (the shorter side is scaled, the centre cut "
            "out), squash or pad (default: center)",
        },
    )
    memory: float | None = field(
        default=None,
        metadata={
            "help": "GiB of pixels that a process may hold; those of a larger data set are read from "
            "a file in DATA/cache (default: a quarter of the free memory)",
            "metavar": "GIB",
            "least": 0,
        },
    )
    meta: str = field(
        default=shipped.HISTORY,
        metadata={
            "help": "meta-dataset in DATA/meta, or one that comes with foretune (default: light; "
            "none: start from nothing)",
            "metavar": "NAME",
            "group": LEARNS,
        },
    )
    sources: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "use these past tasks only", "metavar": "A,B", "group": LEARNS},
    )
    without: tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "leave these past tasks out", "metavar": "A,B", "group": LEARNS},
    )
    own_studies: bool = field(
        default=True,
        metadata={
            "help": "learn from your own studies and imported runs in DATA too",
            "off": (
                "--no-own-studies",
                "learn from the meta-dataset alone, not from your own studies and imported runs in "
                "DATA too",
            ),
            "group": LEARNS,
        },
    )
    recommender: str | None = field(
        default=None,
        metadata={
            "help": "whose ranking a method gets that takes one (task-aware-hyperband, "
            "recommended, siamese-bo)",
            "metavar": "NAME",
            "group": LEARNS,
        },
    )
    space: str = field(
        default="transfer",
        metadata={
            "help": "what is tuned: transfer (default), quick, standard, strong, heavy, hyperrec, a "
            "YAML file with lines such as `learning_rate: {low: 1e-5, high: 1e-1, log: true}` or "
            "`optimizer: [adamw, sgd]` (docs/guide/recipes.md), or a ConfigSpace JSON file",
            "group": TRAINS,
        },
    )
    metric: str = field(
        default="accuracy",
        metadata={
            "help": "what the best configuration is best in, on validation images: accuracy "
            "(default), balanced_accuracy, macro_f1, auroc, top5, kappa, log_loss",
            "metavar": "NAME",
            "group": TRAINS,
        },
    )
    open: bool = field(
        default=False,
        metadata={
            "help": "also try configurations between those of the pool",
            "group": TRAINS,
        },
    )
    settings: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "training settings that differ from the meta-dataset's, such as "
            '{"max_epoch": 20, "device": "cuda"}',
            "fields": Settings,
            "group": TRAINS,
        },
    )
    script: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "your own script in place of our trainer, such as "
            '{"command": "python train.py --lr {learning_rate}", "read": "results.csv:acc"}',
            "fields": Script,
            "group": SCRIPT,
        },
    )
    data: Path = field(
        default=Path("data"),
        metadata={
            "help": "the data folder (default: $FORETUNE_DATA, else data)",
            "metavar": "FOLDER",
            "env": "FORETUNE_DATA",
        },
    )

    @property
    def seconds(self) -> float | None:
        """The time budget in seconds."""
        return None if self.minutes is None else 60 * self.minutes

    def epochs(self, max_epoch: int) -> int | None:
        """The budget in epochs, None where time alone is the budget."""
        if self.budget is None and self.minutes is None:
            return 10 * max_epoch
        return self.budget


@dataclass(frozen=True)
class CollectionRequest:
    """Which cells of the meta-dataset are to be trained. `None` means: as `params` has it
    (`minutes`: no limit).
    """

    tasks: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "prepared tasks to train (default: those of params.yaml)",
            "metavar": "A,B",
        },
    )
    configurations: int | None = field(
        default=None,
        metadata={
            "help": "how many of the pool, in the collector's order (default: params.yaml)",
            "least": 1,
        },
    )
    minutes: float | None = field(
        default=None,
        metadata={"help": "submit no new work after so long; the next run goes on", "above": 0},
    )
    workers: int | None = field(
        default=None, metadata={"help": "processes (default: params.yaml)", "least": 1}
    )
    data: Path = field(
        default=Path("data"),
        metadata={"help": "folder with images/ (default: data)", "metavar": "FOLDER"},
    )
    out: Path | None = field(
        default=None,
        metadata={
            "help": "folder of the meta-dataset (default: params.yaml)",
            "metavar": "FOLDER",
        },
    )
    params: Path = field(
        default=Path("params.yaml"),
        metadata={
            "help": "file of the pipeline's parameters (default: params.yaml)",
            "metavar": "FILE",
        },
    )
    seed: int | None = field(
        default=None,
        metadata={
            "help": "of the trials: another one adds curves beside those there "
            "(default: params.yaml)",
            "least": 0,
        },
    )
    rank: bool = field(
        default=False,
        metadata={
            "help": "keep zero_share, the share of layers still noise (docs/notes/autohyper.md)"
        },
    )
