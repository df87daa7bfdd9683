"""What `--stop-when-done` saves and loses, with whole sources held out.

    python -m papers.transfer.stopping FOLDER [--trainings 5] [--half even|odd]

FOLDER is a meta-dataset (`light`: the shipped one). Every task is new once; one study with the whole
budget says for each price when it would have ended (a study that ends does what it does anyway until
then). Means over tasks: trainings spent, regret over that of the whole budget, both in the metric's
unit, and the utility won: the price of what was saved less what was lost.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foretune.evaluation.replay import Score, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import DEFAULT, searcher
from foretune.searchers.when_done import WhenDone
from foretune.shipped import LIGHT
from papers.transfer.rivals import pasts_of, sources_of

PRICES = (0.001, 0.002, 0.005, 0.01, 0.02)


def ends(meta: MetaDataset, task: str, past: Sequence[str], trainings: int) -> np.ndarray:
    """Epochs spent and regret at each price's end, and of the whole budget, (prices + 1, 2)."""
    budget = trainings * meta.max_epoch
    study, objective = replay_study(meta, task, budget=budget, sources=past, method=DEFAULT)
    chosen, score = searcher(DEFAULT), Score(meta, task)
    ended: dict[float, tuple[int, float]] = {}
    while True:
        for price in PRICES:
            if price not in ended and WhenDone(chosen, price).done(study) is not None:
                ended[price] = study.spent, score.regret(study)
        step = study.ask(chosen)
        if step is None:
            break
        i = step.config_id
        outcome = objective.run(i, study.configs[i], step.start, step.stop)
        study.tell(step, outcome.rows)
        if outcome.failed:
            study.fail(step, int(study.epoch[i]), outcome.failed)
    whole = study.spent, score.regret(study)
    return np.array([*(ended.get(price, whole) for price in PRICES), whole])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line a price."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--trainings", type=int, default=5)
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    given = parser.parse_args(argv)
    meta = MetaDataset.load(LIGHT if given.folder == "light" else Path(given.folder))
    past, tasks = pasts_of(sources_of(meta)), sorted(meta.tasks)
    tasks = {"all": tasks, "even": tasks[::2], "odd": tasks[1::2]}[given.half]
    found = np.stack([ends(meta, task, past[task], given.trainings) for task in tasks])
    spent, regret = found[:, :-1, 0] / meta.max_epoch, found[:, :-1, 1]
    saved, lost = found[:, -1:, 0] / meta.max_epoch - spent, regret - found[:, -1:, 1]
    for k, price in enumerate(PRICES):
        won = price * saved[:, k] - lost[:, k]
        print(
            f"{price:g} a training: {spent[:, k].mean():.2f} of {given.trainings} spent, "
            f"{lost[:, k].mean():.4f} lost (at most {lost[:, k].max():.4f}), utility won "
            f"{won.mean():+.4f} ± {won.std(ddof=1) / np.sqrt(len(won)):.4f}"
        )


if __name__ == "__main__":
    main()
