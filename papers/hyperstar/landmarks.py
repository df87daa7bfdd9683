"""Kernel ridge on landmarks beside what ships: the ranking, and how sure its first three are.

    python -m papers.hyperstar.landmarks [--params params.yaml] [--images data/images]
        [--reports data/reports]

Each source of the meta-dataset's full grid is held out in turn; the regression and its constants
come from the others (`foretune.recommenders.kernel_ridge`). Networks are not trained: the scores of
HyperSTAR's plain variant and of the one that ships are those of `REPORTS/rankings.parquet`,
averaged over its ten trials (three trainings), so all rows are means of an ensemble where there is
anything to average. Descriptions of tasks are kept in `descriptions.csv`; a task that it holds
needs no images.

The chance that one of the first three is within two points of the best is told from the past alone:
what the ranking missed on each past task, with its source left out, is added to the forecast of
the new one, and it is the share of the past tasks with which it comes true, with one more that
does and one that does not (`chance`).

Written to `REPORTS/landmarks`:

| file               | rows                                                                        |
|--------------------|-----------------------------------------------------------------------------|
| `descriptions.csv` | task: hash of its images, landmarks, metadata                               |
| `tasks.csv`        | ranking, task: AP@10, regret of the first and of the first five             |
| `summary.csv`      | ranking: their means, and standard errors over sources                      |
| `tests.csv`        | baseline, ranking: AP@10 by source, difference, interval, Wilcoxon's p,     |
|                    | Holm's                                                                      |
| `chances.csv`      | task: the chance told, the share of past tasks on which the first three     |
|                    | were good (the base rate), whether it came true; last rows: Brier scores    |
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.statistics import against
from foretune.files import write_atomic
from foretune.history.average_precision import ap_at_k, regret_after
from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.params import load
from foretune.recommenders.kernel_ridge import choose, described, left_out
from foretune.recommenders.landmarks import NAMES as LANDMARKS
from foretune.recommenders.metadata import NAMES as METADATA
from foretune.recommenders.metadata import standardise
from foretune.recommenders.past import Past
from foretune.tasks.task import Task
from papers.command import command

BASELINES = ("list", "raw-mean", "hyperstar, averaged")
KEPT = {  # ranking here -> scores of `rankings.parquet`
    "hyperstar-bm, averaged": "hyperstar-bm",
    "hyperstar, averaged": "hyperstar",
}
FIRST, POINTS = 3, 0.02
PARTS = {
    "metadata": slice(len(LANDMARKS), None),
    "landmarks": slice(0, len(LANDMARKS)),
    "landmarks + metadata": slice(None),
}


def descriptions(tasks: Sequence[str], images: Path, file: Path) -> pd.DataFrame:
    """Descriptions by task, those that `file` holds and the others measured; it keeps both.

    Raises `BadInput` for a task without images of which nothing is kept.
    """
    kept = pd.read_csv(file, index_col="task") if file.is_file() else pd.DataFrame()
    for name in tasks:
        path = images / f"{name}.npz"
        if not path.is_file():
            if name not in kept.index:
                raise BadInput(f"{path} is missing, and {file} does not describe {name}")
            continue
        task = Task.load(path)
        if name in kept.index and kept.loc[name, "hash"] == task.hash:
            continue
        row = dict(zip((*LANDMARKS, *METADATA), described(task).round(6), strict=True))
        fresh = pd.DataFrame([{"hash": task.hash, **row}], index=pd.Index([name], name="task"))
        kept = pd.concat([kept.drop(index=name, errors="ignore"), fresh])
        write_atomic(file, kept.sort_index().to_csv())
    return kept.loc[list(tasks), [*LANDMARKS, *METADATA]]


def held_out(raw: np.ndarray, scores: np.ndarray, sources: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (T, n) of each task with its source held out: the `list`, and what kernel ridge on
    descriptions `raw` (T, p) adds to it, with all the `strength` that past tasks show or `half`.
    """
    out = {key: np.empty_like(scores) for key in ("list", "strength", "half")}
    for source in dict.fromkeys(sources):
        held = sources == source
        past = scores[~held]
        chosen = choose(raw[~held], past, sources[~held].tolist())
        centre, scale = standardise(raw[~held])
        x, new = (raw[~held] - centre) / scale, (raw[held] - centre) / scale
        added = chosen.strength * chosen.beyond(x, past, new)
        out["list"][held] = past.mean(axis=0)
        out["strength"][held] = past.mean(axis=0) + added
        out["half"][held] = past.mean(axis=0) + added / 2
    return out


def kept_scores(reports: Path, name: str, meta: MetaDataset) -> np.ndarray | None:
    """Mean over trials of a recommender's scores in `rankings.parquet`, (T, n), standardised by
    task; None where it has none.
    """
    table = pd.read_parquet(reports / "rankings.parquet", filters=[("recommender", "==", name)])
    if table.empty:
        return None
    wide = table.groupby(["task", "config_id"])["score"].mean().unstack()
    found = wide.loc[list(meta.tasks), list(meta.config_ids)].to_numpy(dtype=float)
    return np.asarray(found)


def rankings(meta: MetaDataset, raw: pd.DataFrame, reports: Path) -> dict[str, np.ndarray]:
    """All rankings: name -> scores (T, n)."""
    past = Past.of(meta)
    known = meta.about.get("sources", {})
    sources = np.array([known.get(task, task) for task in meta.tasks])
    out: dict[str, np.ndarray] = {}
    for part, columns in PARTS.items():
        made = held_out(raw.to_numpy()[:, columns], past.normalised, sources)
        out["list"] = made["list"]
        out[f"ridge on {part}"] = made["strength"]
        out[f"ridge on {part}, halved"] = made["half"]
    for name, of in KEPT.items():
        if (scores := kept_scores(reports, of, meta)) is not None:
            out[name] = scores
    for name in ("raw-mean", "random-forest"):
        if (scores := kept_scores(reports, name, meta)) is not None:
            out[name] = scores
    if "hyperstar-bm, averaged" in out:
        for half in ("", ", halved"):
            both = out[f"ridge on landmarks + metadata{half}"] + out["hyperstar-bm, averaged"]
            out[f"ridge on landmarks + metadata{half}, with hyperstar-bm"] = both / 2
    return out


def judged(meta: MetaDataset, found: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """AP@10 and regrets (normalized) by ranking and task."""
    truth, k = Past.of(meta).best, min(10, len(meta))
    rows = []
    for name, scores in found.items():
        for task, mine, values in zip(meta.tasks, scores, truth, strict=True):
            regret = regret_after(mine, values)
            row = {"ranking": name, "task": task, "AP@10": ap_at_k(mine, values, k)}
            rows.append(row | {"regret@1": regret[0], "regret@5": regret[min(4, len(regret) - 1)]})
    return pd.DataFrame(rows)


def by_source(table: pd.DataFrame, meta: MetaDataset, column: str) -> pd.DataFrame:
    """A column of `judged`, sources by rankings: tasks of one source averaged."""
    sources = meta.about.get("sources", {})
    wide = table.pivot(index="task", columns="ranking", values=column)
    return wide.groupby([sources.get(task, task) for task in wide.index]).mean()


def near_best(scores: np.ndarray, values: np.ndarray, points: float = POINTS) -> bool:
    """Whether one of the `FIRST` by `scores` (n,) has a value within `points` of the best."""
    first = np.argsort(-scores, kind="stable")[:FIRST]
    return bool(values[first].max() >= values.max() - points)


def chance(
    scores: np.ndarray, missed: np.ndarray, width: np.ndarray, points: float = POINTS
) -> float:
    """The chance that one of the first of `scores` (n,) is near the best: the share of past tasks
    whose miss (T, n), added to the scores, leaves it so, `width` (T,) being past tasks' deviations
    over configurations in the metric's unit.
    """
    hits = [
        near_best(scores, (scores + miss) * unit, points)
        for miss, unit in zip(missed, width, strict=True)
    ]
    return (1 + sum(hits)) / (len(hits) + 2)


def chances(meta: MetaDataset, raw: np.ndarray) -> pd.DataFrame:
    """The chance told for each task by kernel ridge on `raw` (T, p), its source held out, beside
    the base rate and what came true.
    """
    past = Past.of(meta)
    scores, width, values = past.normalised, past.level[1], past.filled
    known = meta.about.get("sources", {})
    sources = np.array([known.get(task, task) for task in meta.tasks])
    told = held_out(raw, scores, sources)["strength"]
    rows = []
    for place, (task, source) in enumerate(zip(meta.tasks, sources, strict=True)):
        rest = sources != source
        chosen = choose(raw[rest], scores[rest], sources[rest].tolist())
        mean, beyond = left_out(raw[rest], scores[rest], sources[rest].tolist(), chosen)
        said = mean + chosen.strength * beyond
        before = [near_best(s, v) for s, v in zip(said, values[rest], strict=True)]
        rows.append(
            {
                "task": task,
                "chance": chance(told[place], scores[rest] - said, width[rest]),
                "base rate": (1 + sum(before)) / (len(before) + 2),
                "came true": float(near_best(told[place], values[place])),
            }
        )
    table = pd.DataFrame(rows).set_index("task")
    brier = {
        column: float(((table[column] - table["came true"]) ** 2).mean())
        for column in ("chance", "base rate")
    }
    table.loc["mean"] = table.mean()
    table.loc["Brier score"] = brier
    return table


def write(meta: MetaDataset, raw: pd.DataFrame, reports: Path) -> str:
    """Write the tables; returns summary and tests as text."""
    found = rankings(meta, raw, reports)
    table, out = judged(meta, found), reports / "landmarks"
    figures = ("AP@10", "regret@1", "regret@5")
    wide = {column: by_source(table, meta, column) for column in figures}
    summary = pd.concat(
        [table.groupby("ranking")[list(figures)].mean()]
        + [wide[column].sem().rename(f"{column} se") for column in figures],
        axis=1,
    ).loc[list(found)]
    tests = pd.concat(
        {base: against(wide["AP@10"], base) for base in BASELINES if base in wide["AP@10"]},
        names=["baseline"],
    )
    odds = chances(meta, raw.to_numpy())
    write_atomic(out / "tasks.csv", table.round(4).to_csv(index=False))
    write_atomic(out / "summary.csv", summary.round(4).to_csv())
    write_atomic(out / "tests.csv", tests.round(4).to_csv())
    write_atomic(out / "chances.csv", odds.round(4).to_csv())
    return "\n\n".join(part.round(3).to_string() for part in (summary, tests, odds.tail(2)))


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Judge kernel ridge on landmarks by sources held out."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.hyperstar.landmarks", description=main.__doc__
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument("--reports", type=Path, default=Path("data/reports"))
    given = parser.parse_args(argv)
    meta = full_grid(MetaDataset.load(load(given.params).meta_dataset.folder))
    file = given.reports / "landmarks" / "descriptions.csv"
    print(write(meta, descriptions(meta.tasks, given.images, file), given.reports))


if __name__ == "__main__":
    sys.exit(main())
