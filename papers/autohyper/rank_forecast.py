"""Does Z help to forecast a learning curve's end?

A meta-dataset whose curves hold Z, and forecasts with and without it.

    python -m papers.autohyper.rank_forecast [--runs data/reports/autohyper/runs.jsonl]
        [--meta data/meta/spectral] [--out data/reports/autohyper]

The meta-dataset is made of the long runs of `papers.autohyper.runs`: networks x optimizers x
learning rates on embedded tasks, 15 epochs from random weights, with `zero_share` beside the
validation accuracy and the training loss of every epoch.

A forecast: from the first k epochs of a configuration on a task whose other curves are unknown, its
accuracy after the last epoch. What a forecaster knows is the configuration (network and optimizer
one-hot, log of the rate and its square), the accuracies so far, and in turn nothing more, Z_1 ..
Z_k, the training losses, or both. The forecasters (ridge regression; a Gaussian process with one
length scale for each kind of feature, chosen by the evidence) learn the gain of accuracy over epoch
k from the other tasks' curves: leave-one-task-out. `forecast.csv` has a row for each task, k,
forecaster and set of features:

| column      | meaning                                                                        |
|-------------|--------------------------------------------------------------------------------|
| rmse        | root of the mean squared error of the forecast accuracy                        |
| correlation | Spearman's, of forecasts and truth over configurations                         |
| regret      | best accuracy at the end minus that of the configuration that is forecast best |
"""

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.history.meta_dataset import MetaDataset
from foretune.running.collection import METRIC, RANK
from foretune.space.space import Space
from papers.autohyper.runs import LONG, LONG_EPOCHS, LONG_NETWORKS, LONG_RATES, Runs, rounded

SEEN = (1, 2, 3, 5)  # epochs that a forecaster sees
FEATURES: dict[str, tuple[str, ...]] = {
    "curve": (),
    "curve + Z": (RANK,),
    "curve + loss": ("train_loss",),
    "curve + loss + Z": ("train_loss", RANK),
}
FORECASTERS = ("ridge", "gp")
PENALTY = 1.0  # of ridge regression, features standardised


def space() -> Space:
    """Networks, optimizers and rates of the long runs."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float

    made = ConfigurationSpace(name="small networks")
    made.add(
        Categorical("network", LONG_NETWORKS),
        Categorical("optimizer", LONG),
        Float("learning_rate", (LONG_RATES[0], LONG_RATES[-1]), log=True, default=LONG_RATES[3]),
    )
    return Space(made)


def gather(runs: Runs) -> MetaDataset:
    """The meta-dataset of the long runs there are.

    A run that diverged ends with a row of NaN. Raises `BadInput` where there is none.
    """
    pool = [
        {"network": n, "optimizer": o, "learning_rate": r}
        for n, o, r in product(LONG_NETWORKS, LONG, LONG_RATES)
    ]
    place = {tuple(config.values()): i for i, config in enumerate(pool)}
    rows: list[dict[str, Any]] = []
    for run in runs.of("long"):
        cell = {
            "task": run["task"],
            "config_id": place[run["network"], run["optimizer"], run["rate"]],
            "seed": run["seed"],
        }
        for epoch, (z, loss, valid) in enumerate(
            zip(run["curve"], run["losses"], run["valid"], strict=True), 1
        ):
            lost = loss is None
            values = {METRIC: valid, RANK: z, "train_loss": loss}
            rows.append(
                {**cell, "epoch": epoch, **(dict.fromkeys(values, np.nan) if lost else values)}
            )
            if lost:
                break
    if not rows:
        raise BadInput(
            f"{runs.path} has no long runs; python -m papers.autohyper.tables makes them"
        )
    return MetaDataset.build(
        space(),
        dict(enumerate(pool)),
        rows,
        metric=METRIC,
        goal="maximize",
        name="spectral",
        source="small networks of papers.autohyper.small_networks at 12 px, from random weights",
        max_epoch=LONG_EPOCHS,
        tasks=sorted({row["task"] for row in rows}),
    )


def features(
    meta: MetaDataset, seen: int, more: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features of every curve trained to its end, and (task, config_id, now, end).

    `now` and `end` are accuracies after `seen` epochs and the last.
    """
    table = meta.table
    table = table[(table["epoch"] > 0) & (table["seed"] == table["seed"].min())]
    columns = {
        c: table.pivot_table(index=["task", "config_id"], columns="epoch", values=c)
        for c in (METRIC, *more)
    }
    accuracy = columns[METRIC]
    whole = accuracy.notna().all(axis=1) & (accuracy.columns.max() == meta.about["max_epoch"])
    accuracy = accuracy[whole]
    configs = pd.DataFrame(meta.configs, index=meta.config_ids).loc[
        accuracy.index.get_level_values("config_id")
    ]
    rate = np.log10(configs["learning_rate"].to_numpy(float))
    parts = {"rate": rate, "rate squared": (rate - rate.mean()) ** 2}
    for name in ("network", "optimizer"):
        for value in sorted(set(configs[name]))[1:]:
            parts[f"{name} {value}"] = (configs[name] == value).to_numpy(float)
    for column, values in columns.items():
        for epoch in range(1, seen + 1):
            parts[f"{column} {epoch}"] = values.loc[accuracy.index, epoch].to_numpy(float)
    facts = accuracy.index.to_frame(index=False).assign(
        now=accuracy[seen].to_numpy(), end=accuracy.iloc[:, -1].to_numpy()
    )
    return pd.DataFrame(parts), facts


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Forecasts (n,) at `new` (n, d) from `x` (m, d), standardised, and `y` (m,)."""
    weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return new @ weights + float(y.mean())


def gaussian_process(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, kinds: Sequence[int]
) -> np.ndarray:
    """As `ridge`: squared-exponential kernel and noise, by evidence from one start.

    Each kind of feature (`kinds` (d,)) has a length scale.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    groups = [np.flatnonzero(np.asarray(kinds) == k) for k in sorted(set(kinds))]
    level, scale = float(y.mean()), float(y.std()) or 1.0
    target = (y - level) / scale

    def distances(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        return [((a[:, None, g] - b[None, :, g]) ** 2).mean(2) for g in groups]

    own = distances(x, x)

    def kernel(parts: Sequence[np.ndarray], logs: np.ndarray) -> np.ndarray:
        total = sum(d * np.exp(-2 * s) for d, s in zip(parts, logs, strict=True))
        return np.exp(-0.5 * np.asarray(total))

    def loss(theta: np.ndarray) -> float:
        noise = np.exp(2 * theta[-1]) + 1e-8
        factor = cho_factor(kernel(own, theta[:-1]) + noise * np.eye(len(x)), lower=True)
        prior = 0.5 * float(
            ((theta[:-1] - 0.5) ** 2).sum() + (theta[-1] + 1.5) ** 2
        )  # lengths near 1.6, noise near 0.2
        return (
            float(0.5 * target @ cho_solve(factor, target) + np.log(np.diag(factor[0])).sum())
            + prior
        )

    start = np.array([*[0.5] * len(groups), -1.5])
    theta = minimize(
        loss,
        start,
        method="L-BFGS-B",
        bounds=[(-3, 5)] * len(groups) + [(-5, 1)],
        options={"maxiter": 25},
    ).x
    noisy = kernel(own, theta[:-1]) + (np.exp(2 * theta[-1]) + 1e-8) * np.eye(len(x))
    forecast = kernel(distances(new, x), theta[:-1]) @ cho_solve(
        cho_factor(noisy, lower=True), target
    )
    return np.asarray(forecast) * scale + level


def forecast(
    meta: MetaDataset, seen: int, more: Sequence[str], forecaster: str
) -> list[dict[str, Any]]:
    """Scores for each task, learned from the others. Raises `BadInput` for fewer than two tasks."""
    frame, facts = features(meta, seen, more)
    if facts["task"].nunique() < 2:
        raise BadInput("to leave one task out, curves of two tasks or more are needed")
    kinds = [
        0
        if name.startswith(("rate", "network", "optimizer"))
        else 1 + (METRIC, *more).index(name.rpartition(" ")[0])
        for name in map(str, frame)
    ]
    out = []
    for task in sorted(set(facts["task"])):
        held = (facts["task"] == task).to_numpy()
        values = frame.to_numpy(float)
        level, scale = values[~held].mean(0), values[~held].std(0)
        x = (values - level) / np.where(scale > 0, scale, 1.0)
        gain = (facts["end"] - facts["now"]).to_numpy(float)
        if forecaster == "ridge":
            found = ridge(x[~held], gain[~held], x[held])
        else:
            found = gaussian_process(x[~held], gain[~held], x[held], kinds)
        end, told = facts["end"].to_numpy(float)[held], found + facts["now"].to_numpy(float)[held]
        scores = {
            "rmse": float(np.sqrt(np.mean((told - end) ** 2))),
            "correlation": float(spearmanr(told, end).statistic),
            "regret": float(end.max() - end[int(np.argmax(told))]),
        }
        out.append(
            {
                "task": task,
                "epochs": seen,
                "forecaster": forecaster,
                **scores,
                "curves": int(held.sum()),
            }
        )
    return out


def compare(meta: MetaDataset) -> pd.DataFrame:
    """All scores: tasks x epochs seen x forecasters x features."""
    return pd.DataFrame(
        {"features": name, **row}
        for name, more in FEATURES.items()
        for forecaster, seen in product(FORECASTERS, SEEN)
        for row in forecast(meta, seen, more, forecaster)
    )


def summarise(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean scores of each set of features by forecaster and epochs seen, and what Z changes.

    The change comes with its standard error over tasks.
    """
    out = []
    for (forecaster, seen), part in scores.groupby(["forecaster", "epochs"]):
        row: dict[str, Any] = {"forecaster": forecaster, "epochs": int(str(seen))}
        wide = {
            score: part.pivot(index="task", columns="features", values=score)
            for score in ("rmse", "correlation", "regret")
        }
        for score, values in wide.items():
            row |= {f"{score}: {name}": float(values[name].mean()) for name in FEATURES}
            for base in ("curve", "curve + loss"):
                change = values[f"{base} + Z"] - values[base]
                row[f"{score}: Z changes {base} by"] = float(change.mean())
                row[f"{score}: Z changes {base} by, se"] = float(
                    change.std(ddof=1) / np.sqrt(len(change))
                )
        out.append(row)
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Write the meta-dataset from the long runs, then the scores, and print the summary."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.autohyper.rank_forecast", description=main.__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("data/reports/autohyper/runs.jsonl"))
    parser.add_argument("--meta", type=Path, default=Path("data/meta/spectral"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/autohyper"))
    args = parser.parse_args(argv)
    gather(Runs(args.runs)).save(args.meta)
    scores = compare(MetaDataset.load(args.meta))
    with replace(args.out / "forecast.csv") as temporary:
        scores.to_csv(temporary, index=False, float_format="%.5g")
    summary = rounded(summarise(scores))
    write_json(args.out / "forecast.json", summary)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
