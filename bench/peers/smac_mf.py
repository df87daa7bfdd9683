"""SMAC3: its multi-fidelity facade (Hyperband with a random forest)."""

import tempfile
from pathlib import Path

from ConfigSpace import ConfigurationSpace, Float
from pool import Pool, main
from smac import MultiFidelityFacade, Scenario
from smac.runhistory import TrialValue


def run(pool: Pool) -> None:
    space = ConfigurationSpace(seed=pool.seed)
    space.add(*(Float(name, (0.0, 1.0)) for name in pool.names()))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            deterministic=True,
            n_trials=100_000,
            min_budget=1,
            max_budget=pool.epochs,
            seed=pool.seed,
            output_directory=Path(folder),
        )
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=3)
        optimizer = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            intensifier=intensifier,
            logging_level=False,
            overwrite=True,
        )
        while True:
            info = optimizer.ask()
            value = pool.train(pool.nearest(dict(info.config)), info.budget)
            optimizer.tell(info, TrialValue(cost=-value))


if __name__ == "__main__":
    main(run)
