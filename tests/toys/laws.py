"""Laws that hold for many methods: one test a law, which names every method that breaks it.

    @each("random", "asha")
    def test_it_ends(name, table): ...

runs the body once a method, as subtests of one test: the first offender does not hide the others.
The functions below run studies with settings that keep slow methods quick: fits of a few steps
hold to the same laws as long ones.
"""

import inspect
from collections.abc import Callable

import numpy as np

from foretune.searchers.base import Searcher
from foretune.searchers.registry import METHODS, searcher

# method -> why it has tests of its own instead
SPECIAL = {
    "autohyper": "needs an open study and the share of layers without knowledge gain as a "
    "column of the curves"
}
PLAIN = [name for name in METHODS if name not in SPECIAL]
WITH_PAST = [name for name in PLAIN if METHODS[name].needs_past]
WITHOUT_PAST = [name for name in PLAIN if not METHODS[name].needs_past]

# method -> options of a quick fit
QUICK: dict[str, dict[str, int]] = {
    "ablr": {"steps": 5},
    "ablr-hb": {"steps": 5},
    "at2": {"steps": 5},
    "boca": {"candidates": 100},
    "bohamiann": {"burn_in": 6, "steps": 6},
    "box-bo": {"steps": 5},
    "dpl": {"members": 2, "steps": 5},
    "dyhpo": {"first_steps": 5, "refit_steps": 2, "samples": 64},
    "dyhpo+": {"first_steps": 5, "refit_steps": 2, "samples": 64},
    "freeze-thaw": {"candidates": 100},
    "rgpe": {"samples": 8},
}


def each(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a test of one method, given as `name`, into one test of all `names`."""

    def decorated(law: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(law).parameters if p != "name"]

        def test(**fixtures):
            subtests = fixtures["subtests"]
            given = {p: fixtures[p] for p in own}
            for name in names:
                with subtests.test(method=name):
                    law(name, **given)

        test.__name__, test.__doc__, test.__module__ = law.__name__, law.__doc__, law.__module__
        # pytest reads from the signature which fixtures to hand over
        test.__signature__ = inspect.Signature(
            [
                inspect.Parameter(p, inspect.Parameter.KEYWORD_ONLY)
                for p in dict.fromkeys(("subtests", *own))
            ]
        )
        return test

    return decorated


def quick(name: str, **options: object) -> Searcher:
    """The searcher of this name with fits of a few steps."""
    return searcher(name, **QUICK.get(name, {}) | options)


def outcome(objective, study, step):
    """What the objective makes of a step."""
    return objective.run(step.config_id, study.configs[step.config_id], step.start, step.stop)


def run(study, objective, chosen, limit=10_000):
    """Run a study to its end; returns its steps. `chosen` is a searcher, or a function that gives a
    fresh one each time.
    """
    steps = []
    while len(steps) < limit:
        step = study.ask(chosen() if callable(chosen) else chosen)
        if step is None:
            break
        done = outcome(objective, study, step)
        study.tell(step, done.rows)
        if done.failed:
            study.fail(step, int(study.epoch[step.config_id]) + 1, done.failed)
        steps.append((step.config_id, step.start, step.stop))
    return steps


def rising(configs=24, epochs=9):
    """Curves (1, configs, epochs) with a best region at two thirds of the line."""
    x = np.linspace(0, 1, configs)
    top = 0.9 - (x - 0.66) ** 2
    return (top[:, None] * (1 - np.exp(-0.5 * np.arange(1, epochs + 1))))[None]
