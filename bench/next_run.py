"""What `foretune next` says, held against runs that were made: a task of a store at a time left out.

    python bench/next_run.py STORE [--shown 4 8] [--draws 8]

Of each task with 12 configurations or more, so many runs are shown, drawn at random; the pick of
the largest expected improvement among its other configurations is forecast from these and from the
runs of all other tasks, and held against what it came to. Printed: how often the 90 % interval held
it, as the laws give it, as widened (`foretune.running.forecast_widening`), and as it is said, in the
metric's own unit; the chance of an improvement, forecast and real; the pick's regret in the task's
range, that of a random pick, and the share of the others that it was better than. Intervals are of
95 %, by bootstrap over tasks. `--most` runs of a task are used at most, drawn at random.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.gaussian.acquisition import expected_improvement
from foretune.history.scoring import scored
from foretune.running.forecast_widening import DEVIATE, moments, widening
from foretune.running.next_run import (
    IMAGES,
    MOST_SEEN,
    Pool,
    chance_of,
    framed,
    history_of,
    open_store,
    rows_of,
    stacked,
    taught,
)
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_prior import RunPrior, past_unit

LEAST = 12


def picks(pool: Pool, task: str, shown: list[int], draws: int) -> list[dict[str, object]]:
    """A row for each number of runs shown and each draw."""
    seen = pool.seen(np.random.default_rng(0))
    rows = np.argsort(-pool.own[SCORE].to_numpy(dtype=float), kind="stable")  # as in `seen`
    value = pool.sign * pool.own["value"].to_numpy(dtype=float)[rows]
    n = len(seen.configs)
    history = history_of(pool.other, (), task, pool.kind)
    if n < LEAST or history is None:
        return []
    frame = stacked([framed(seen.configs)])
    surrogate, forecast = taught(history, pool.own, frame)
    prior = RunPrior(
        forecast,
        past_unit(surrogate.location, surrogate.scale, surrogate.laws.level),
        surrogate.columns.encode(frame),
        1,
        variance=surrogate.variance,
        new=len(pool.varied - set(surrogate.columns.names)),
    )
    out = []
    for count in [k for k in shown if k <= n // 2]:
        wider = widening(history, surrogate, count)
        for draw in range(draws):
            rng = np.random.default_rng([draw, count])
            known = rng.permutation(n)[:count]
            told = np.isin(seen.at, known)
            belief = prior.believe(
                seen.at[told], np.zeros(told.sum(), dtype=int), seen.scores[told], np.zeros(1, int)
            )
            rest = np.setdiff1d(np.arange(n), known)
            drawn = [rng.choice(np.flatnonzero(seen.at == c)) for c in rest]
            y = seen.scores[drawn]
            mean, std = belief.mean[:, rest, 0], belief.std[:, rest, 0]
            middle, spread = moments(belief.weight, mean, std)
            best = float(seen.scores[told].max())
            k = int((belief.weight @ expected_improvement(mean, std, best)).argmax())
            off = abs(y[k] - middle[k]) / (DEVIATE * spread[k])
            apart = middle[k] + wider * (mean[:, k] - middle[k])
            span = float(np.ptp(seen.scores))
            known_alone = Pool(pool.own.iloc[rows[told]], pool.other, pool.named)
            low, high = (
                pool.sign * known_alone.value(middle[k] + by * wider * spread[k]) for by in (-1, 1)
            )
            half = DEVIATE * abs(high - low) / 2
            off_said = abs(value[drawn[k]] - pool.sign * known_alone.value(middle[k]))
            out.append(
                {
                    "shown": count,
                    "off": off,
                    "held": off <= 1,
                    "held_widened": off <= wider,
                    "held_as_said": off_said <= half,
                    "factor": wider,
                    "chance": chance_of(belief.weight, mean[:, k], std[:, k], best),
                    "chance_widened": chance_of(belief.weight, apart, wider * std[:, k], best),
                    "improved": y[k] > best,
                    "regret": (y.max() - y[k]) / span,
                    "regret_random": (y.max() - y.mean()) / span,
                    "better_than": (y[k] > np.delete(y, k)).mean(),
                }
            )
    print(f"{task}: {n} configurations", flush=True)
    return [{"task": task, **{name: float(v) for name, v in row.items()}} for row in out]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--shown", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--most", type=int, default=MOST_SEEN)
    asked = parser.parse_args()
    store = open_store(asked.store, Path("data"))
    table = scored(store)
    named = dict(zip(store.runs["run_id"], rows_of(store), strict=True))
    rows: list[dict[str, object]] = []
    for task in sorted(table[TASK].unique()):
        own = table[table[TASK] == task]
        own = own.sample(min(len(own), asked.most), random_state=0).reset_index(drop=True)
        other = table[(table[TASK] != task) & (table[IMAGES] != task)].reset_index(drop=True)
        rows += picks(Pool(own, other, named), str(task), asked.shown, asked.draws)
    rng = np.random.default_rng(0)
    for count, part in pd.DataFrame(rows).groupby("shown"):
        needed = part.pop("off").quantile([0.8, 0.9, 0.95]).round(3).tolist()
        print(f"after {count:.0f}: factors that 80, 90 and 95 % of the intervals need: {needed}")
        means = part.drop(columns="shown").groupby("task").mean()
        drawn = rng.integers(len(means), size=(4000, len(means)))
        for name, column in means.items():
            low, high = np.quantile(column.to_numpy()[drawn].mean(axis=1), [0.025, 0.975])
            print(
                f"after {count:.0f}: {name} {column.mean():.3f} [{low:.3f}, {high:.3f}], "
                f"{len(means)} tasks"
            )


if __name__ == "__main__":
    main()
