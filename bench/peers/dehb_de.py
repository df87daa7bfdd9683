"""DEHB, by its authors."""

import tempfile

from ConfigSpace import ConfigurationSpace, Float
from dehb import DEHB
from pool import Pool, main


def run(pool: Pool) -> None:
    space = ConfigurationSpace(seed=pool.seed)
    space.add(*(Float(name, (0.0, 1.0)) for name in pool.names()))
    with tempfile.TemporaryDirectory() as folder:
        optimizer = DEHB(
            cs=space,
            min_fidelity=1,
            max_fidelity=pool.epochs,
            eta=3,
            seed=pool.seed,
            n_workers=1,
            output_path=folder,
            log_level="ERROR",
        )
        while True:
            job = optimizer.ask()
            value = pool.train(pool.nearest(dict(job["config"])), job["fidelity"])
            optimizer.tell(job, {"fitness": -value, "cost": float(job["fidelity"])})


if __name__ == "__main__":
    main(run)
