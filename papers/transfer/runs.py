"""What runs of other networks, settings and spaces are worth to a new task.

    python -m papers.transfer.runs RUNS.csv [--metric eval_top1] [--task dataset] [--half odd|even]
    python -m papers.transfer.runs RUNS.csv --past permuted|none

RUNS.csv has one row a run, as Weights & Biases exports a project. Made for the 1,000 fine-tuning
runs of the Quick-Tune authors (Arango et al., ICLR 2024; 30 Meta-Album tasks, 24 pretrained
networks, 32 hyperparameters, final values). Every task in turn is new; its pool are its own runs
that reached the last epoch, and each pick is told its value before the next. Normalized regret
after 1, 3 and 5 picks, the mean over tasks with its standard error, Spearman's correlation between
forecast and truth, and paired Wilcoxon tests against the rivals:

| method       | what it does                                                                        |
|--------------|-------------------------------------------------------------------------------------|
| runs         | the surrogate of the default searcher, told                                          |
| runs, untold | its first ranking                                                                   |
| network      | extra-trees on the network alone, ranks within tasks, untold                        |
| forest       | extra-trees on every column, untold                                                 |
| none         | the same search without history (`--past none`)                                     |

`--past permuted` deals the scores of each past task out at random: what a useless past costs. The
laws of the process are learned on tasks that do not have the new one among them, for a fifth of the
tasks at a time; what past tasks say of a new one is conditioned on all the others.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr, wilcoxon

from foretune.gaussian.acquisition import expected_improvement
from foretune.searchers.transfer.run_prior import RunPrior, past_unit
from foretune.searchers.transfer.run_surrogate import Forecast, RunSurrogate

PICKS = (1, 3, 5)
FOLDS = 5
# columns of an export that say which run it was, where it ran, or what came out
NOT_HYPERPARAMETERS = frozenset(
    [
        "Name",
        "ID",
        "State",
        "Created",
        "Updated",
        "Runtime",
        "Sweep",
        "Tags",
        "experiment",
        "device",
        "test_mode",
        "num_classes",
        "epoch",
        "eval_loss",
        "eval_time",
        "eval_top1",
        "eval_top5",
        "train_backbone_grad_norm",
        "train_head_grad_norm",
        "train_loss",
        "train_time",
    ]
) | {"End Time", "GPU Type", "GPU Count", "Job Type"}


def read_runs(path: Path, metric: str, task: str) -> pd.DataFrame:
    """Runs that reached the last epoch: `task`, `score` as a share, and the columns that differ."""
    table = pd.read_csv(path, low_memory=False)
    full = table[table[metric].notna() & (table["epoch"] == table["epoch"].max())]
    names = [
        c
        for c in full.columns
        if c not in NOT_HYPERPARAMETERS | {task} and full[c].nunique(dropna=False) > 1
    ]
    runs = full[names].reset_index(drop=True)
    return runs.assign(task=full[task].to_numpy(), score=full[metric].to_numpy() / 100)


def picks_of(prior: RunPrior, scores: np.ndarray, count: int) -> list[int]:
    """The first `count` picks by expected improvement, each told before the next."""
    picks: list[int] = []
    ladder = np.zeros(1, dtype=int)
    while len(picks) < min(count, len(scores)):
        c = np.array(picks, dtype=int)
        belief = prior.believe(c, np.zeros(len(c), dtype=int), scores[c], ladder)
        value = belief.expected[:, 0]
        if picks:
            gain = expected_improvement(belief.mean, belief.std, float(scores[c].max()))
            value = np.tensordot(belief.weight, gain, axes=1)[:, 0]
        value[c] = -np.inf
        picks.append(int(value.argmax()))
    return picks


def regret(scores: np.ndarray, order: "list[int] | np.ndarray") -> list[float]:
    """Normalized regret after `PICKS` of `order`."""
    spread = float(np.ptp(scores)) or 1.0
    best = np.maximum.accumulate(scores[np.asarray(order)])
    return [float(scores.max() - best[min(k, len(best)) - 1]) / spread for k in PICKS]


def permuted(runs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The runs with the scores of each task dealt out at random."""
    return runs.assign(score=runs.groupby("task")["score"].transform(rng.permutation))


def without_history(pool: int, surrogate: RunSurrogate) -> Forecast:
    """A forecast that says nothing."""
    return Forecast(np.zeros(pool), np.zeros((pool, pool)), 1.0, np.zeros((1, pool)))


def forest(runs: pd.DataFrame, new: pd.DataFrame, names: list[str], seed: int) -> np.ndarray:
    """Extra-trees on ranks within tasks: the forecast for `new`, (n,)."""
    from sklearn.ensemble import ExtraTreesRegressor

    both = pd.concat([runs[names], new[names]])
    text = [c for c in names if not pd.api.types.is_numeric_dtype(both[c])]
    X = pd.get_dummies(both, columns=text, dummy_na=False).fillna(-1.0).to_numpy(dtype=float)
    y = runs.groupby("task")["score"].transform(lambda s: (rankdata(s) - 0.5) / len(s))
    model = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=seed)
    return np.asarray(model.fit(X[: len(runs)], y).predict(X[len(runs) :]))


def results(
    runs: pd.DataFrame, tasks: list[str], past: str, seed: int, rivals: bool
) -> dict[str, np.ndarray]:
    """Rows (regret after `PICKS`, Spearman) by method, (tasks, 4)."""
    rng = np.random.default_rng(seed)
    out: dict[str, list[list[float]]] = {}
    everything = sorted(runs["task"].unique())
    past_runs = permuted(runs, rng) if past == "permuted" else runs
    laws: dict[str, Any] = {}
    for fold in range(FOLDS):
        held_out = set(everything[fold::FOLDS])
        learned = RunSurrogate(past_runs[~past_runs["task"].isin(held_out)], seed=seed).laws
        laws |= dict.fromkeys(held_out, learned)
    for task in tasks:
        # the pool's order says nothing: ties of a method without history fall at random
        pool = runs[runs["task"] == task].sample(frac=1.0, random_state=seed)
        scores = pool["score"].to_numpy()
        others = past_runs[past_runs["task"] != task]
        surrogate = RunSurrogate(others, seed=seed, laws=laws[task])
        said = surrogate.forecast(pool)
        if past == "none":
            said = without_history(len(pool), surrogate)
        unit = past_unit(surrogate.location, surrogate.scale, surrogate.laws.level)
        X = surrogate.columns.encode(pool) / np.sqrt(len(surrogate.columns.names))
        prior = RunPrior(said, unit, X, 1, variance=surrogate.variance)
        rows = {"runs": regret(scores, picks_of(prior, scores, max(PICKS)))}
        rows["runs, untold"] = regret(scores, np.argsort(-said.mean, kind="stable"))
        forecasts = {"runs": said.mean, "runs, untold": said.mean}
        if rivals:
            names = [c for c in runs.columns if c not in ("task", "score")]
            for name, columns in (("network", ["model"]), ("forest", names)):
                forecasts[name] = forest(others, pool, columns, seed)
                rows[name] = regret(scores, np.argsort(-forecasts[name], kind="stable"))
        for name, row in rows.items():
            said_so = forecasts[name]
            rho = float(spearmanr(said_so, scores)[0]) if np.ptp(said_so) > 0 else 0.0
            out.setdefault(name, []).append([*row, rho])
    return {name: np.array(rows) for name, rows in out.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--metric", default="eval_top1", help="column of the score, in per cent")
    parser.add_argument("--task", default="dataset", help="column of the task")
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    parser.add_argument("--past", choices=("real", "permuted", "none"), default="real")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rivals", action="store_true", help="forests beside it")
    given = parser.parse_args()
    runs = read_runs(given.runs, given.metric, given.task)
    tasks = sorted(runs["task"].unique())
    tasks = {"all": tasks, "even": tasks[::2], "odd": tasks[1::2]}[given.half]
    each = [results(runs, tasks, given.past, seed, given.rivals) for seed in range(given.seeds)]
    found = {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}
    print(f"{len(runs)} runs, {len(tasks)} tasks, {given.seeds} seed(s), past: {given.past}")
    print(f"{'method':<14}" + "".join(f"{f'after {k}':>16}" for k in PICKS) + f"{'Spearman':>16}")
    for name, rows in found.items():
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        cells = "".join(
            f"  {m:6.3f} ± {e:5.3f}" for m, e in zip(rows.mean(axis=0), error, strict=True)
        )
        print(f"{name:<14}{cells}")
    for name, rows in found.items():
        if name != "runs":
            apart = found["runs"][:, :3] - rows[:, :3]
            tests = [wilcoxon(a, zero_method="pratt").pvalue if a.any() else 1.0 for a in apart.T]
            print(
                f"runs - {name}: "
                + ", ".join(
                    f"{a.mean():+.3f} ± {a.std(ddof=1) / np.sqrt(len(a)):.3f} (p {p:.3f})"
                    for a, p in zip(apart.T, tests, strict=True)
                )
            )


if __name__ == "__main__":
    main()
