"""DEHB: Hyperband whose configurations evolve by differential evolution (Awad, Mallik and Hutter,
IJCAI 2021).

Notation: b = budget of a rung (epochs), P_b = the population at b, as many as the largest rung with
budget b, F = mutation factor, p = crossover rate.

The first bracket is successive halving from random configurations. In every later slot of a
bracket, at budget b:

    target x = the member of P_b whose turn it is; parents r1, r2, r3 from P_b, filled up from the
    best at any budget while P_b is small; mutant v = r1 + F (r2 - r3) (rand/1), cut to the box by
    reflection; trial u takes each hyperparameter from v with probability p, at least one, else from
    x; u is trained from 0 to b epochs and stays in P_b if it is among the best there

P_b is read off the history as the best configurations trained to b (the published code keeps the
better of x and u in place, which keeps nearly the same ones).

Differs from the paper: there, above the lowest budget, r1, r2 and r3 come from the parent pool, the
best of the population at the budget below, as many as P_b has; they carry what few epochs taught
upwards. Here they are members of P_b itself, and those that are best at any budget fill it up to
three only while it is smaller. A slot thus learns from its own budget, and from cheaper ones hardly
at all once three configurations were trained to b.

The slot of the next step is the number of steps asked for so far, so nothing is stored. In a finite
pool u stands for the nearest configuration that was not started.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foretune.errors import positive, within
from foretune.searchers.base import Searcher, draw, startable
from foretune.searchers.gray_box.asha import score_at
from foretune.searchers.gray_box.hyperband import best_paused, brackets
from foretune.space.space import Config, Space, from_unit, unit
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion


@dataclass(frozen=True)
class Slot:
    """One evaluation of the schedule: bracket number, rung, budget, and the budget of the rung
    below (0 at the lowest).
    """

    bracket: int
    rung: int
    budget: int
    below: int


def slots(most_epochs: int, eta: float) -> Iterator[Slot]:
    """The evaluations of Hyperband's brackets in order, without end."""
    round_ = brackets(most_epochs, eta)
    number = 0
    while True:
        bracket = round_[number % len(round_)]
        for rung, (size, budget) in enumerate(zip(bracket.sizes, bracket.epochs, strict=True)):
            for _ in range(size):
                yield Slot(number, rung, budget, bracket.epochs[rung - 1] if rung else 0)
        number += 1


class DEHB(Searcher):
    """DEHB with rand/1 mutation and binomial crossover; `F` and `crossover` = 0.5 as in the
    paper.
    """

    name = "dehb"

    def __init__(self, eta: float = 3.0, F: float = 0.5, crossover: float = 0.5):
        brackets(1, eta)
        positive(F=F)
        within(0, 1, crossover=crossover)
        self.eta, self.mutation, self.crossover = eta, F, crossover

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The next slot of the schedule: a promotion in the first bracket, else an evolved
        configuration.
        """
        schedule = slots(study.max_epoch, self.eta)
        slot = next(schedule)
        for _ in range(len(study.steps)):
            slot = next(schedule)
        if slot.bracket == 0 and slot.rung:
            promoted = self.promoted(study, slot)
            if promoted is not None:
                return Suggestion(
                    promoted,
                    int(study.epoch[promoted]),
                    slot.budget,
                    {"why": f"promoted to {slot.budget} epochs"},
                )
        evolves = slot.bracket > 0 or slot.rung > 0
        chosen = self.evolve(study, rng, slot) if evolves else draw(study, rng)
        if chosen is None:
            return best_paused(study, "the pool is used up: best paused trial")
        why = (
            f"evolved for {slot.budget} epochs"
            if evolves
            else "random configuration of the first bracket"
        )
        return Suggestion(chosen, 0, slot.budget, {"why": why})

    def promoted(self, study: Study, slot: Slot) -> int | None:
        """The best configuration that stands at the rung below; None while there is none."""
        waiting = np.flatnonzero(
            study.available & (study.epoch >= slot.below) & (study.epoch < slot.budget)
        )
        score = score_at(study, slot.below)[waiting]
        return int(waiting[np.argmax(score)]) if len(waiting) and np.isfinite(score.max()) else None

    def parents(self, study: Study, slot: Slot) -> list[int]:
        """The population at the slot's budget, filled up to three with the best at any budget."""
        size = max(
            s
            for b in brackets(study.max_epoch, self.eta)
            for s, e in zip(b.sizes, b.epochs, strict=True)
            if e == slot.budget
        )
        score = score_at(study, slot.budget)
        here = [int(i) for i in np.argsort(-score, kind="stable")[:size] if np.isfinite(score[i])]
        if len(here) < 3:
            best = study.best
            here += [
                int(i)
                for i in np.argsort(-best, kind="stable")
                if np.isfinite(best[i]) and int(i) not in here
            ][: 3 - len(here)]
        return here

    def evolve(self, study: Study, rng: np.random.Generator, slot: Slot) -> Choice | None:
        """A configuration from the population; a random one while fewer than three were seen.

        None when the pool is used up.
        """
        population = self.parents(study, slot)
        fresh = np.flatnonzero(study.available & (study.epoch == 0))
        if len(population) < 3 or (not study.open_space and not len(fresh)):
            return draw(study, rng)
        target = population[len(study.steps) % len(population)]
        r1, r2, r3 = (population[k] for k in rng.permutation(len(population))[:3])
        configs = [study.configs[k] for k in (target, r1, r2, r3)]
        trial = cross(study.space, configs, self.mutation, self.crossover, rng)
        if study.open_space:
            chosen = startable(study, trial)
            return draw(study, rng) if chosen is None else chosen
        return int(
            fresh[((study.X[fresh] - study.space.encode([trial])) ** 2).sum(axis=1).argmin()]
        )


def cross(
    space: Space, configs: list[Config], factor: float, rate: float, rng: np.random.Generator
) -> Config:
    """The trial vector of target, r1, r2, r3 as a configuration.

    A number mutates in its unit interval, reflected at the bounds; a choice takes r1's, or with
    probability `factor` one of r2's and r3's. A hyperparameter that a parent lacks is taken from a
    parent that has it.
    """
    target, *parents = configs
    names = [n for n in space.names if space.parameters[n].kind != "constant"]
    forced = names[int(rng.integers(len(names)))] if names else ""
    values: Config = {}
    for name in names:
        known = [p[name] for p in parents if name in p]
        if name in target and name != forced and rng.random() >= rate:
            values[name] = target[name]
        elif len(known) == 3 and space.parameters[name].numeric:
            parameter = space.parameters[name]
            a, b, c = unit(np.asarray(known, dtype=float), parameter)
            position = abs(a + factor * (b - c)) % 2
            values[name] = from_unit(float(2 - position if position > 1 else position), parameter)
        elif known:
            values[name] = (
                known[0] if rng.random() >= factor else known[int(rng.integers(len(known)))]
            )
    return space.completed(values, space.sample(1, rng)[0])
