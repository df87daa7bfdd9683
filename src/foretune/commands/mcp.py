"""`foretune mcp`: recommend, next, history, tell and report as tools of the Model Context Protocol,
for coding agents (extra `mcp`).

What it reads is what it is pointed at; what it writes (`tell`, `report`) lies in the data folder.
What cannot be used is answered in words, as on the command line.
"""

import argparse
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from foretune import __version__
from foretune.errors import BadInput, extra, few, near

F = TypeVar("F", bound=Callable[..., dict[str, Any]])
TOP = 5  # configurations of a ranking, and runs of a store, that an answer has
STORE = "told"
INSTRUCTIONS = """\
Hyperparameters for fine-tuning image classifiers, from what earlier trainings taught.
1. recommend(images) before anything is trained; with trainer= it gives command lines.
2. Train. tell(...) each run, also one that failed or diverged.
3. next(store, task) says which run to make next, and how likely it is to beat the best one.
next also reads what other tools logged: mlruns, an Optuna storage, W&B, a CSV, ...
Stop when `chance` is small. report(name) sums a study or a store up; history() says what is known.
"""


def run(args: argparse.Namespace) -> int:
    """Serve on standard input and output until these are closed."""
    if args.data.exists() and not args.data.is_dir():
        raise BadInput(f"--data {args.data} is a file; give the data folder")
    server(args.data).run("stdio")
    return 0


def server(data: Path) -> Any:
    """The server (`mcp.server.mcpserver.MCPServer`) for a data folder. Raises `BadInput` where the SDK is missing."""
    with extra("mcp", "foretune mcp"):
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.types import ToolAnnotations

    out = MCPServer("foretune", instructions=INSTRUCTIONS, version=__version__, log_level="ERROR")
    one_at_a_time = threading.Lock()

    def in_words(function: F) -> F:
        """`function` with its refusals as the protocol's own."""

        @functools.wraps(function)
        def answer(*args: Any, **kwargs: Any) -> dict[str, Any]:
            try:
                with one_at_a_time:
                    return function(*args, **kwargs)
            except BadInput as error:
                raise ToolError(" ".join(str(error).split())) from error
            except OSError as error:
                raise ToolError(f"{error.filename or ''}: {error.strerror or error}") from error

        return answer  # type: ignore[return-value]

    tools = Tools(data)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    adds = ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    out.tool(annotations=reads)(in_words(tools.recommend))
    out.tool(annotations=reads)(in_words(tools.next))
    out.tool(annotations=reads)(in_words(tools.history))
    out.tool(annotations=adds)(in_words(tools.tell))
    out.tool(annotations=adds)(in_words(tools.report))
    return out


class Tools:
    """The tools, on one data folder. All raise `BadInput`."""

    def __init__(self, data: Path):
        self.data = data

    def recommend(
        self,
        images: str,
        trainer: str | None = None,
        network: str | None = None,
        image_size: int | None = None,
        epochs: int | None = None,
    ) -> dict[str, Any]:
        """The first runs to make on a set of images that nobody has trained on yet.

        images: a folder of class folders, or of train, val and test with class folders in each.
        trainer: timm, huggingface, lightning or ultralytics, for three command lines; without it,
        the best configurations of foretune's own trainer. network, image_size (pixels) and epochs
        go with a trainer; network is called as the trainer calls it.
        Answers with configurations, what is expected of them, minutes, reasons and a confidence.
        """
        from foretune.commands.recommend import as_json, first_runs_json
        from foretune.recommenders.recommendation import recommend
        from foretune.running.first_runs import first_runs, trainer_named

        if trainer is not None:
            trainer_named(trainer)
        elif any(value is not None for value in (network, image_size, epochs)):
            raise BadInput("network, image_size and epochs say what a trainer is to do: name one")
        answer = recommend(readable(images, "images"), data=self.data)
        if trainer is None:
            return as_json(answer, TOP)
        first = first_runs(
            answer, trainer, images=images, network=network, image_size=image_size, epochs=epochs
        )
        return first_runs_json(answer, first)

    def next(
        self,
        store: str,
        task: str | None = None,
        trainer: str | None = None,
        images: str | None = None,
        vary: list[str] | None = None,
        new: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The run to make next on a task, after all that was logged.

        store: a file or folder of runs of any tool (CSV, mlruns, Optuna, W&B, timm, ...), or the
        name of a store, such as the one that tell writes ("told"). task: which one (default: the
        only one there). new: the task has no run yet. vary: search in these columns alone.
        trainer: also as a command line of timm, huggingface, lightning or ultralytics, on the
        folder images. seed: another one gives another suggestion where several are equally good.
        Answers with config (what varies), held (the rest), expected ± spread, and chance, that of
        beating the best run so far.
        """
        from foretune.commands.next_run import as_json, found_next
        from foretune.running.first_runs import trainer_named

        if trainer is not None:
            trainer_named(trainer)
        if images is not None:
            if trainer is None:
                raise BadInput("images go into a command line: name a trainer too")
            if not Path(readable(images, "images")).is_dir():
                raise BadInput(f"images={images!r}: there is no such folder")
        if seed < 0:
            raise BadInput(f"seed={seed} must be at least 0")
        found = found_next(
            readable(store, "store"),
            task,
            data=self.data,
            new=new,
            vary=tuple(vary or ()),
            seed=seed,
        )
        return as_json(found, trainer, images or "")

    def history(self) -> dict[str, Any]:
        """What is known from earlier runs: foretune's own table, studies, and run stores, with their
        tasks, numbers of runs, networks and the columns that varied.
        """
        from foretune.commands.history import inputs, values
        from foretune.running.history import sources_of

        return {
            "data": str(self.data),
            "sources": [
                {"name": source.name, "fault": source.fault}
                if source.fault
                else {
                    "name": source.name,
                    "tasks": source.tasks,
                    "runs": len(source.table),
                    "networks": values(source.table, "network"),
                    "varied": [c for c in inputs(source.table) if source.table[c].nunique() > 1],
                }
                for source in sources_of(self.data)
            ],
        }

    def tell(
        self,
        task: str,
        config: dict[str, Any],
        metric: str,
        values: list[float | None],
        store: str = STORE,
        goal: str | None = None,
        state: str = "finished",
        planned_epochs: int | None = None,
        seconds: float | None = None,
        name: str | None = None,
        trainer: str = "",
    ) -> dict[str, Any]:
        """Keep a run, so that next and every later study learn from it.

        task: what was trained on. config: all it was trained with, by any usual names (lr,
        batch_size, model, ...). metric: as you call it, such as val_acc. values: the metric after
        each epoch, or its last one alone; null where it diverged. goal: maximize or minimize, where
        the metric's name does not say. state: finished, failed, stopped (before planned_epochs) or
        running. name: the run's own, so that telling it again with more epochs takes its place.
        trainer: timm, huggingface, ultralytics, ... if it was one of these.
        """
        from foretune.running.told_runs import tell_run

        told = tell_run(
            self.data,
            store,
            task=task,
            config=config,
            metric=metric,
            values=values,
            goal=goal,
            state=state,
            planned=planned_epochs,
            seconds=seconds,
            name=name,
            trainer=trainer,
        )
        return {
            "store": store,
            "new": told.part is not None,
            "run": {k: plain(v) for k, v in told.run.items()},
            "left_out": {why: list(names) for why, names in told.left_out.items()},
        }

    def report(self, name: str, task: str | None = None) -> dict[str, Any]:
        """What came out: of a foretune study by its name (its page is written into its folder), or
        of a run store by its name or path, of one task or of all.
        """
        from foretune.running.studies import all_studies

        studies = {folder.name: folder for folder in all_studies(self.data)}
        if name in studies:
            return study_summary(studies[name])
        try:
            return store_summary(self.data, readable(name, "name"), task)
        except BadInput as error:
            if (self.data / "history" / name).is_dir() or Path(name).exists():
                raise
            known = near(name, studies) or (
                f"; studies there are {few(sorted(studies), ', ')}" if studies else ""
            )
            raise BadInput(f"{error}; nor is it a study{known}") from error


def readable(path: str, what: str) -> str:
    """A path or name that an operating system can be asked for. Raises `BadInput`."""
    if not path.strip() or "\0" in path or len(path) > 4096:
        raise BadInput(f"{what}={path[:40]!r} must be a path or a name")
    return path


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    return value.item() if hasattr(value, "item") else value


def study_summary(folder: Path) -> dict[str, Any]:
    """Where a study stands, with its page written anew."""
    from foretune.commands.studies import status
    from foretune.commands.study_report import write_study_report
    from foretune.study.study import Study

    study = Study.load(folder)
    found = study.incumbent
    return {
        "study": folder.name,
        "task": study.plan.task,
        "metric": study.plan.metric,
        "status": status(study),
        "best": None if found is None else study.plan.sign * found[2],
        "config": None if found is None else study.configs[found[0]],
        "epoch": None if found is None else found[1],
        "trials": len(study.started),
        "failed": len(study.failures),
        "epochs": study.spent,
        "seconds": round(study.elapsed, 1),
        "page": str(write_study_report(folder, None)),
    }


def store_summary(data: Path, name: str, task: str | None) -> dict[str, Any]:
    """The best runs of each task of a run store."""
    from foretune.running.next_run import open_store, rows_of, task_named

    store = open_store(name, data)
    wanted = [task_named(store, task)] if task is not None else store.tasks
    settings = dict(zip(store.runs["run_id"], rows_of(store), strict=True))
    tasks = []
    for one in wanted:
        runs = store.runs[store.runs["task"] == one]
        metric, goal = runs["metric"].mode().iloc[0], runs["goal"].mode().iloc[0]
        judged = runs[runs["value"].notna() & (runs["metric"] == metric)]
        order = judged.sort_values("value", ascending=goal == "minimize", kind="stable")
        tasks.append(
            {
                "task": one,
                "metric": metric,
                "goal": goal,
                "runs": len(runs),
                "states": {str(k): int(v) for k, v in runs["state"].value_counts().items()},
                "best": [
                    {
                        "run": row.source_id,
                        "value": float(row.value),
                        "config": settings[row.run_id],
                    }
                    for row in order.head(TOP).itertuples()
                ],
            }
        )
    return {"store": name, "tasks": tasks}
