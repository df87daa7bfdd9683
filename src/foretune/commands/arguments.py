"""What each command takes, and the module that carries it out; nothing is imported here that takes
time.
"""

import argparse
from pathlib import Path
from typing import Any

from foretune.running.options import add_options, split_names
from foretune.running.request import Request
from foretune.training.settings import Settings


def add_commands(commands: Any) -> None:
    """Add every command to the subparsers `commands`, in the order that help shows."""
    for add in (_tune, _use, _recommend, _next, _lr, _replay, _import, _history, _small):
        add(commands)


def _tune(commands: Any) -> None:
    p = commands.add_parser(
        "tune",
        help="find the best hyperparameters for a folder of images",
        description="Tune a network on IMAGES.",
    )
    add_options(p, Request, optional=("images",))
    _tracking(p)
    p.set_defaults(run="foretune.commands.tune:run")


def _use(commands: Any) -> None:
    p = commands.add_parser(
        "train",
        help="train a study's best configuration on all images",
        description="Train the winner of a study once more, on all IMAGES but those of the test "
        "part, and measure it there once. Goes on where it was stopped.",
    )
    p.add_argument("best", type=Path, metavar="BEST.YAML", help="what tune wrote into its study")
    add_options(p, Request, only=("images", "skip_bad"))
    p.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for final.pt (default: that of BEST.YAML)"
    )
    p.add_argument(
        "--epochs", type=int, metavar="EPOCHS", help="how many (default: as the winner had)"
    )
    p.add_argument("--device", help="auto, cpu, cuda, cuda:1 (default: as the study had)")
    p.add_argument("--threads", type=int, help="of the CPU (default: as the study had)")
    _data(p)
    p.set_defaults(run="foretune.commands.train:run")

    p = commands.add_parser(
        "predict",
        help="say which class pictures are of",
        description="Predict with the MODEL that tune or train wrote; pictures become what the "
        "network sees in the very way that they did in training.",
    )
    _model(p)
    p.add_argument(
        "files", type=Path, nargs="+", metavar="FILES", help="pictures, or folders of them"
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.add_argument("--csv", action="store_true", help="print CSV")
    p.add_argument(
        "--top", type=int, default=3, metavar="K", help="how many classes of each (default: 3)"
    )
    add_options(p, Request, only=("skip_bad",))
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    p.set_defaults(run="foretune.commands.predict:run")

    p = commands.add_parser(
        "evaluate",
        help="measure a model on labelled images",
        description="All metrics of MODEL on IMAGES with standard errors, each class, and which "
        "are confused.",
    )
    _model(p)
    add_options(p, Request, only=("images", "skip_bad"))
    p.add_argument(
        "--part",
        default="test",
        help="train, valid, test, or all for images that the model never saw (default: test)",
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    _data(p)
    p.set_defaults(run="foretune.commands.evaluate:run")

    p = commands.add_parser(
        "export",
        help="write a model for those who have no foretune",
        description="Write MODEL as a plain state_dict of timm or torchvision, as TorchScript or "
        "as ONNX, and check that by running it.",
    )
    _model(p)
    p.add_argument("--to", required=True, metavar="KIND", help="state_dict, torchscript or onnx")
    p.add_argument("--out", type=Path, metavar="FILE", help="default: beside MODEL, named after it")
    p.set_defaults(run="foretune.commands.export:run")


def _model(p: Any) -> None:
    p.add_argument("model", type=Path, metavar="MODEL", help="best.pt or final.pt of a study")


def _recommend(commands: Any) -> None:
    p = commands.add_parser(
        "recommend",
        help="rank configurations for a folder of images, without training any",
        description="Rank the meta-dataset's configurations for IMAGES by what worked on the "
        "past tasks that look like them; with --for, print the first three runs to make with "
        "another trainer.",
    )
    add_options(p, Request, only=("images",))
    p.add_argument(
        "--for",
        dest="trainer",
        metavar="TRAINER",
        help="print the command lines of the first three runs to make with timm, huggingface, "
        "lightning or ultralytics",
    )
    p.add_argument("--network", metavar="NAME", help="with --for: the network, as TRAINER calls it")
    p.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="with --for: its images (default: 224)"
    )
    p.add_argument(
        "--epochs", type=int, metavar="N", help="with --for: of each run (default: the past's)"
    )
    p.add_argument(
        "--top", type=int, default=10, metavar="K", help="how many to show (default: 10)"
    )
    p.add_argument(
        "--explain", action="store_true", help="say which past runs each suggestion leans on"
    )
    p.add_argument(
        "--recommender",
        default="hyperstar",
        metavar="NAME",
        help="hyperstar, siamese, portfolio, mean-rank, ...",
    )
    p.add_argument(
        "--meta",
        default="light",
        metavar="NAME",
        help="meta-dataset in DATA/meta, or one that comes with foretune (default: light)",
    )
    p.add_argument(
        "--without",
        type=split_names,
        default=(),
        metavar="A,B",
        help="leave these past tasks out; with a recommender that looks at no images (portfolio, "
        "mean-rank)",
    )
    p.add_argument("--seed", type=int, default=0, help="draws the images that are looked at")
    p.add_argument(
        "--no-own-studies",
        action="store_true",
        help="rank by the shipped recommender, not by one that was fitted on your own studies too",
    )
    p.add_argument(
        "--json", action="store_true", help="print the ranking for programs, and write no page"
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page to write (default: DATA/recommendations/NAME-RECOMMENDER.html)",
    )
    _data(p)
    p.set_defaults(run="foretune.commands.recommend:run")


def _next(commands: Any) -> None:
    p = commands.add_parser(
        "next",
        help="the run to make next after whatever was logged",
        description="Read the runs in STORE, which any tool may have logged, and say which one to "
        "make next on a task, why, and what is expected of it. Nothing is written.",
    )
    p.add_argument(
        "store",
        metavar="STORE",
        help="whatever `foretune import` reads (a CSV, mlruns, an Optuna storage, ...), a run "
        "store or a study, as a path or by name",
    )
    p.add_argument("--task", metavar="NAME", help="the task (default: the only one of the store)")
    p.add_argument("--new", action="store_true", help="the task is new: it has no run yet")
    p.add_argument(
        "--vary",
        type=split_names,
        default=(),
        metavar="A,B",
        help="search in these columns alone (default: all that the runs varied)",
    )
    p.add_argument(
        "--for",
        dest="trainer",
        metavar="TRAINER",
        help="also as a command line of timm, huggingface, lightning or ultralytics",
    )
    p.add_argument("--images", metavar="FOLDER", help="with --for: the images' folder")
    p.add_argument(
        "--format", default="auto", metavar="NAME", help="of STORE (default: the one that shows)"
    )
    p.add_argument(
        "--no-own-studies",
        action="store_true",
        help="leave your own studies and other run stores out of the history",
    )
    p.add_argument("--seed", type=int, default=0, help="draws the candidates")
    p.add_argument("--json", action="store_true", help="print JSON")
    add_options(p, Request, only=("meta",))
    _data(p)
    p.set_defaults(run="foretune.commands.next_run:run")


def _lr(commands: Any) -> None:
    p = commands.add_parser(
        "lr",
        help="find the initial learning rate from the weights themselves",
        description="Find the initial learning rate of a network trained from random weights "
        "on IMAGES, by how much of its weights is still noise "
        "after five epochs (autoHyper). For networks that start from ImageNet weights, use tune.",
    )
    add_options(p, Request, only=("images",))
    p.add_argument(
        "--optimizer",
        default="adam",
        help="adam, adagrad, rmsprop, sgd, adabound, adas or sls (default: adam)",
    )
    p.add_argument(
        "--option",
        action="append",
        default=[],
        dest="options",
        metavar="NAME=VALUE",
        help="a constant of the search: low, high, size, trials, alpha, variant=published, ...",
    )
    p.add_argument(
        "--study",
        metavar="NAME",
        help="name of the search; the same command continues one that was stopped",
    )
    p.add_argument("--seed", type=int, default=0)
    _training(p)
    _data(p)
    _tracking(p)
    p.set_defaults(run="foretune.commands.lr:run")


def _replay(commands: Any) -> None:
    p = commands.add_parser(
        "replay",
        help="run a method on a published table instead of training",
        description="Run one method on one task of a meta-dataset and write one JSON line "
        "per step.",
    )
    p.add_argument(
        "meta",
        metavar="META",
        help="a meta-dataset folder, the name of one that comes with foretune (light), or a "
        "folder of studies such as data/studies",
    )
    p.add_argument(
        "--would-have-saved",
        action="store_true",
        help="replay every task with the others as history and without: what did, or would, "
        "history save? A replay chooses among the configurations that "
        "the task has trained. For a folder of studies, the history that tune takes is history "
        "too where the settings are the same, as in tune",
    )
    p.add_argument("--task", help="the task to tune")
    p.add_argument("--method", help="see: foretune methods")
    add_options(p, Request, only=("options",))
    p.add_argument(
        "--budget",
        type=int,
        metavar="EPOCHS",
        help="epochs to spend in all (default: ten full trainings; with --would-have-saved "
        "five, and at most what the table holds of a task)",
    )
    p.add_argument(
        "--sources",
        type=split_names,
        metavar="A,B",
        help="tasks that count as past (default: all others)",
    )
    p.add_argument("--seed", type=int, default=0, help="seed of the method")
    p.add_argument("--curve-seed", type=int, default=0, help="which seed's curves to replay")
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the lines here, by rename (default: standard output)",
    )
    p.set_defaults(run="foretune.commands.replay:run")


def _import(commands: Any) -> None:
    p = commands.add_parser(
        "import",
        help="turn runs of other tools into history, or a published table into a meta-dataset",
        description="Read runs that were made with any tool (csv, timm, mlflow, optuna, wandb, "
        "tensorboard, huggingface, lightning, ultralytics, ray, keras-tuner, neptune, foretune) "
        "into a store of runs; or a published table (hyperrec, lcbench, taskset, nasbench201, "
        "lemur) as its authors ship it into a meta-dataset DEST. Nothing that is read is run, and "
        "no path or secret is copied.",
    )
    p.add_argument(
        "format", metavar="FORMAT", help="one of these; may be left out where SRC shows it"
    )
    p.add_argument(
        "source", nargs="?", metavar="SRC", help="file, folder, or address of an MLflow server"
    )
    p.add_argument("target", nargs="?", metavar="DEST", help="of a published table: the folder")
    p.add_argument(
        "--into", metavar="STORE", help="name in DATA/history, or a folder (default: imported)"
    )
    p.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="how names become foretune's: the mapping.yaml of an earlier import, edited",
    )
    p.add_argument("--task", metavar="NAME", help="all runs are of this task")
    p.add_argument("--metric", metavar="NAME", help="the metric, as the source names it")
    p.add_argument("--goal", choices=("maximize", "minimize"), help="which way it is better")
    p.add_argument("--dry-run", action="store_true", help="say what is found, write nothing")
    _data(p)
    p.set_defaults(run="foretune.commands.import_runs:run")


def _history(commands: Any) -> None:
    p = commands.add_parser(
        "history",
        help="what is known from earlier runs, and what it is worth",
        description="The runs that a new study can learn from: those that come with foretune, your own "
        "studies in DATA/studies, and imported ones in DATA/history.",
    )
    p.add_argument(
        "--check",
        action="store_true",
        help="replay each of your tasks with the others as history and without: trainings saved, "
        "tasks on which history hurt, sources that count nothing since they make forecasts worse, "
        "and what runs of other settings count (--meta none: your own runs alone)",
    )
    p.add_argument(
        "--study", metavar="STUDY", help="what this study learns from, and leaves out and why"
    )
    p.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="replays of a task (default: 3)"
    )
    add_options(p, Request, only=("meta",))
    _data(p)
    p.set_defaults(run="foretune.commands.history:run")


def _small(commands: Any) -> None:
    p = commands.add_parser(
        "tasks",
        help="list the embedded image tasks, or prepare them",
        description="The image tasks that need nothing but the package index.",
    )
    p.add_argument(
        "names", nargs="*", metavar="NAME", help="tasks to prepare (with none: list them)"
    )
    p.add_argument("--prepare", action="store_true", help="prepare all tasks, or those named")
    _data(p)
    p.set_defaults(run="foretune.commands.tables:tasks")

    p = commands.add_parser(
        "methods", help="list the methods", description="The methods that --method can name."
    )
    p.add_argument(
        "--default",
        action="store_true",
        help="print only the name of the method that tune takes where past tasks exist",
    )
    p.set_defaults(run="foretune.commands.tables:methods")

    p = commands.add_parser(
        "studies", help="list the studies", description="All studies in DATA/studies."
    )
    _data(p)
    p.set_defaults(run="foretune.commands.studies:studies")

    p = commands.add_parser(
        "report",
        help="write a study's report",
        description="Write the HTML report of a study, finished or not.",
    )
    p.add_argument("study", metavar="STUDY", help="name or folder of a study")
    p.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the study's folder"
    )
    _data(p)
    p.set_defaults(run="foretune.commands.studies:report")

    p = commands.add_parser(
        "watch",
        help="look at a study while it runs",
        description="Serve one page of a study on this machine, which follows it as it runs: "
        "incumbent, curves, what is being trained where and why, time left, and a button that "
        "stops it.",
    )
    p.add_argument(
        "study",
        nargs="?",
        metavar="STUDY",
        help="name or folder of a study (default: the one that is being run, or was last)",
    )
    p.add_argument(
        "--port", type=int, default=0, metavar="N", help="port of the page (default: a free one)"
    )
    p.add_argument("--browser", action="store_true", help="open the page in a browser")
    _data(p)
    p.set_defaults(run="foretune.commands.watch:run")

    p = commands.add_parser(
        "compare",
        help="set studies beside each other",
        description="Set studies beside each other: a table of what they found and cost, and a "
        "page with their incumbents.",
    )
    p.add_argument(
        "studies", nargs="+", metavar="STUDY", help="names or folders of two studies or more"
    )
    p.add_argument("--json", action="store_true", help="print the table for programs")
    p.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write (default: none is written)"
    )
    _data(p)
    p.set_defaults(run="foretune.commands.compare:run")

    p = commands.add_parser(
        "mcp",
        help="serve recommend, next, history, tell and report to coding agents",
        description="Speak the Model Context Protocol on standard input and output: the tools "
        "recommend, next, history, tell and report for coding agents. An agent starts it itself; "
        "only DATA is written to.",
    )
    _data(p)
    p.set_defaults(run="foretune.commands.mcp:run")

    p = commands.add_parser(
        "doctor",
        help="check that everything works here",
        description="Look at the installation, the machine and the data.",
    )
    p.add_argument(
        "--repair",
        metavar="STUDY",
        help="cut the damaged journal of a study (name or folder) back to the part that is whole, "
        "and keep the damaged file beside it",
    )
    _data(p)
    p.set_defaults(run="foretune.commands.doctor:run")


def _training(p: Any) -> None:
    names = ("network", "image_size", "train_limit", "valid_limit", "device")
    add_options(p, Settings, only=names, unset=True)


def _tracking(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--tracking",
        metavar="URI",
        help="MLflow tracking address (default: $MLFLOW_TRACKING_URI, else "
        "sqlite:///DATA/mlflow.db; none: off)",
    )


def _data(p: argparse.ArgumentParser) -> None:
    add_options(p, Request, only=("data",))
