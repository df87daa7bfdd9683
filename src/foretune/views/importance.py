"""How much each hyperparameter matters in a study.

It is told by Sobol's total-effect indices of a random forest that is fitted to the trials.

The forest predicts a trial's best value from its encoded configuration and the epochs it was given;
the index of hyperparameter h is the share of the prediction's variance that is lost when h alone is
unknown, interactions included:

    S_h = E[(f(A) - f(A_h))^2] / (2 Var f(A))

(Jansen, Computer Physics Communications 117, 1999), with A the configurations at full epochs and
A_h the same with the columns of h shuffled among the rows where h is active. Forests for this
purpose: Hutter, Hoos and Leyton-Brown, ICML 2014. Values below the tenth percentile are raised to
it, so that "very bad" counts once, not by how bad.
"""

from dataclasses import dataclass

import numpy as np

from foretune.study.study import Study

LEAST_TRIALS = 12
TREES = 100
ROWS = 400  # configurations that the variance is taken over
ROUNDS = 4  # shuffles of each hyperparameter


@dataclass(frozen=True)
class Importance:
    """Index by hyperparameter, largest first.

    `explained` = variance explained out of bag, `trials` that were fitted; `problem` if there is
    none.
    """

    index: dict[str, float]
    explained: float
    trials: int
    problem: str = ""


def importance(study: Study, rng: np.random.Generator) -> Importance:
    """Importance of the study's hyperparameters.

    Says why there is none with few trials or when the forest does not predict.
    """
    rows = np.array([i for i in study.started if np.isfinite(study.Y[i]).any()], dtype=int)
    n = len(rows)
    if n < LEAST_TRIALS:
        return Importance(
            {}, 0.0, n, f"{n} trials have a value; at least {LEAST_TRIALS} are needed"
        )
    y = study.best[rows]
    y = np.maximum(y, np.quantile(y, 0.1))
    if np.ptp(y) == 0:
        return Importance({}, 0.0, n, "all trials have the same value")
    from sklearn.ensemble import RandomForestRegressor

    epochs = np.log(study.epoch[rows])[:, None]
    forest = RandomForestRegressor(
        TREES,
        min_samples_leaf=2,
        max_features=0.6,
        oob_score=True,
        random_state=int(rng.integers(2**31)),
        n_jobs=1,
    )
    forest.fit(np.hstack([study.X[rows], epochs]), y)
    explained = float(forest.oob_score_)
    if explained < 0.1:
        return Importance(
            {},
            explained,
            n,
            f"from {n} trials the forest explains {max(explained, 0):.0%} of what it has not "
            "seen: too little to tell",
        )
    space = study.space
    if study.open_space:
        population = space.encode(space.sample(ROWS, rng))
    else:
        population = study.X[rng.permutation(len(study.X))[:ROWS]]
    a = np.hstack([population, np.full((len(population), 1), np.log(study.max_epoch))])
    before = forest.predict(a)
    variance = float(before.var()) or 1.0
    first_activity = space.dims - len(space.conditional)
    index = {}
    for name, columns in space.columns.items():
        active = np.arange(len(a))
        if name in space.conditional:
            active = np.flatnonzero(a[:, first_activity + space.conditional.index(name)] > 0)
        if len(np.unique(a[active, columns], axis=0)) < 2:
            continue  # the study cannot tell
        shuffled = np.tile(a, (ROUNDS, 1, 1))
        for k in range(ROUNDS):
            shuffled[k, active, columns] = a[rng.permutation(active), columns]
        after = forest.predict(shuffled.reshape(-1, a.shape[1])).reshape(ROUNDS, -1)
        index[name] = float(np.mean((before - after) ** 2)) / (2 * variance)
    return Importance(dict(sorted(index.items(), key=lambda pair: -pair[1])), explained, n)
