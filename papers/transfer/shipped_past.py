"""What the history that comes with foretune is worth to runs of other networks, sizes and spaces.

    foretune import csv RUNS.csv --into runs --data DATA
    python -m papers.transfer.shipped_past DATA runs

Every task of the run store is new; its pool are its own runs. Past are the runs of the shipped table
alone: four hyperparameters of one network at 48 px, of which the store's space shares some. Each pick is
told its score before the next. Normalized regret after 1, 3 and 5 trainings, the mean over tasks with
its standard error (of each task the mean over seeds, which order the pool), with that past and without,
by the same search, and a paired Wilcoxon test.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from foretune import shipped
from foretune.evaluation.history_worth import FEWEST_RUNS, picks_of, prior_of, without_history
from foretune.running.history import FOLDER, IMAGES, KIND, OF, sources_of, stored
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_surrogate import RunSurrogate, usable
from papers.transfer.runs import PICKS, regret


def regrets(
    surrogate: RunSurrogate, runs: pd.DataFrame, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Regret after `PICKS` on each task, with the surrogate's past and without, (tasks, 3) each."""
    out: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _, own in runs.groupby(TASK):
        if len(own) < FEWEST_RUNS:
            continue
        rows: tuple[list[list[float]], list[list[float]]] = ([], [])
        for seed in range(seeds):
            pool = own.sample(frac=1.0, random_state=seed)
            scores = pool[SCORE].to_numpy(dtype=float)
            forecasts = (surrogate.forecast(pool), without_history(len(pool)))
            for found, said in zip(rows, forecasts, strict=True):
                order = picks_of(prior_of(surrogate, said, pool), scores, max(PICKS))
                found.append(regret(scores, order))
        for means, found in zip(out, rows, strict=True):
            means.append(np.mean(found, axis=0))
    return np.array(out[0]), np.array(out[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("store")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    (past,) = sources_of(given.data, shipped.HISTORY, own=False)
    runs = usable(stored(given.data / FOLDER / given.store).table)
    table = past.table.drop(columns=[IMAGES, KIND, OF])
    columns = [str(c) for c in table if table[c].nunique() > 1 and c not in (TASK, SCORE)]
    shared = [c for c in columns if c in runs and runs[c].nunique() > 1]
    surrogate = RunSurrogate(table)
    found, none = regrets(surrogate, runs, given.seeds)
    print(
        f"{len(found)} tasks, {len(runs)} runs, {given.seeds} seed(s); shared: {', '.join(shared)}"
    )
    for name, rows in (("shipped past", found), ("none", none)):
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(rows.mean(axis=0), error, strict=True)]
        print(f"{name:<13} after {' / '.join(map(str, PICKS))}: {' / '.join(cells)}")
    apart = found - none
    p = [wilcoxon(a, zero_method="pratt").pvalue if a.any() else 1.0 for a in apart.T]
    print("p " + " / ".join(f"{one:.3f}" for one in p))


if __name__ == "__main__":
    main()
