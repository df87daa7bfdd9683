"""NePS: its ASHA."""

import neps
import numpy as np
from pool import Pool, main


def run(pool: Pool) -> None:
    np.random.seed(pool.seed)  # NePS draws from the global generators of numpy and torch
    import torch

    torch.manual_seed(pool.seed)
    space = neps.SearchSpace(
        {name: neps.HPOFloat(0.0, 1.0) for name in pool.names()}
        | {"epochs": neps.HPOInteger(1, pool.epochs, is_fidelity=True)}
    )
    optimizer = neps.AskAndTell(neps.algorithms.asha(space, eta=3))
    while True:
        trial = optimizer.ask()
        value = pool.train(pool.nearest(dict(trial.config)), trial.config["epochs"])
        optimizer.tell(trial, -value)


if __name__ == "__main__":
    main(run)
