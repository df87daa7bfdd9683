"""DPL: an ensemble of networks that predict power laws of learning curves (Kadra et al., NeurIPS
2023).

Notation: x (d,) configuration, b = epoch / E, K members. Member k: a network with two hidden layers
gives (alpha, beta, gamma) of x, and

    y_k(x, b) = alpha + beta b^(-gamma),   gamma >= 0

trained on the absolute error with Adam. Prediction: mean and standard deviation over members at b =
1. The configuration with the largest expected improvement of its final value over the best value so
far trains for one more step.

The paper trains 5 members for 250 epochs at the start and 20 after each step, from scratch every
1/5 of the budget; here refits follow the growth of the data (as in `dyhpo`), the loss is smoothed
near 0 so that its gradient is defined, and members are trained at once as one batched network.
Values are standardised with the bad tail cut (`dyhpo_surrogate.Scaling`). Fits are functions of the
number of observations: nothing is lost by a resume.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss, softplus

from foretune.errors import at_least, positive
from foretune.gaussian.acquisition import log_expected_improvement, pick
from foretune.searchers.base import PerStudy, Searcher, draw, seen_from, with_choice
from foretune.searchers.gray_box.dyhpo_surrogate import Scaling
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

HIDDEN = 64
GROWTH = 0.1  # share of new observations that asks for a refit
SMOOTH = 0.05  # standard values below which the absolute error is quadratic


class PowerLaws:
    """K networks of configurations to power laws: weights (K, in, out) and biases (K, 1, out), in
    double precision.
    """

    def __init__(self, members: int, d: int, rng: np.random.Generator):
        """Random weights (uniform within 1 / sqrt(inputs)); the laws start flat at 0."""
        self.layers = []
        for inputs, outputs in ((d, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 3)):
            weight = rng.uniform(-1, 1, (members, inputs, outputs)) / np.sqrt(inputs)
            bias = torch.zeros((members, 1, outputs), dtype=torch.double)
            self.layers.append((torch.as_tensor(weight), bias))
        self.members = members

    def __call__(self, x: Tensor, b: Tensor) -> Tensor:
        """Values of x (K, n, d) at b (K, n), (K, n)."""
        (w1, b1), (w2, b2), (w3, b3) = self.layers
        hidden = torch.relu(torch.baddbmm(b2, torch.relu(torch.baddbmm(b1, x, w1)), w2))
        alpha, beta, gamma = torch.baddbmm(b3, hidden, w3).unbind(-1)
        return alpha + beta * b ** -softplus(gamma)

    def predict(self, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Values of x (n, d) at b (n,), (K, n)."""
        with torch.no_grad():
            at, epochs = torch.as_tensor(x), torch.as_tensor(b)
            values = self(at.expand(self.members, *x.shape), epochs.expand(self.members, len(b)))
            return np.asarray(values.numpy())

    def fit(
        self,
        x: np.ndarray,
        b: np.ndarray,
        y: np.ndarray,
        *,
        steps: int,
        lr: float,
        batch: int,
        rng: np.random.Generator,
    ) -> None:
        """Adam on the smoothed absolute error; every member draws batches of its own from x (n, d),
        b (n,), y (n,).
        """
        inputs, epochs, values = (torch.as_tensor(a) for a in (x, b, y))
        parameters = [p.requires_grad_() for layer in self.layers for p in layer]
        optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        for _ in range(steps):
            rows = torch.as_tensor(rng.integers(len(y), size=(self.members, min(batch, len(y)))))
            predicted = self(inputs[rows], epochs[rows])
            # members share nothing: the sum of their means trains each by its own
            loss = self.members * smooth_l1_loss(predicted, values[rows], beta=SMOOTH)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Ensemble(NamedTuple):
    """Power laws of standard values, and how values become standard."""

    scaling: Scaling
    laws: PowerLaws


class DPL(Searcher):
    """Power-law ensembles; `members` networks, `epochs` per step, `steps` of Adam per fit."""

    name = "dpl"

    def __init__(
        self,
        members: int = 5,
        epochs: int = 1,
        steps: int = 150,
        lr: float = 3e-3,
        batch: int = 64,
        first: int = 1,
    ):
        at_least(1, members=members, epochs=epochs, steps=steps, batch=batch, first=first)
        positive(lr=lr, fused=True)
        self.members, self.epochs, self.steps, self.lr, self.batch, self.first = (
            members,
            epochs,
            steps,
            lr,
            batch,
            first,
        )
        self._ensembles: PerStudy[Ensemble] = PerStudy()

    def scheduled(self, n: int) -> int:
        """The last number of observations up to n at which the ensemble is fitted."""
        at = 1
        while (after := at + max(1, int(GROWTH * at))) <= n:
            at = after
        return at

    def ensemble(self, study: Study) -> Ensemble:
        """The ensemble fitted on the first observations that the schedule names; from scratch, so
        that no history is needed to repeat it.
        """
        n = self.scheduled(len(study.order))
        return self._ensembles.get(study, n, lambda: self.fitted(study, n))

    def fitted(self, study: Study, n: int) -> Ensemble:
        """The ensemble of the first n observations."""
        ids, epochs = (np.array(v) for v in zip(*study.order[:n], strict=True))
        values = study.Y[ids, epochs - 1]
        scaling = Scaling.of(values)
        rng = np.random.default_rng([study.seed, n])
        laws = PowerLaws(self.members, study.X.shape[1], rng)
        laws.fit(
            study.X[ids],
            epochs / study.max_epoch,
            scaling(values),
            steps=self.steps,
            lr=self.lr,
            batch=self.batch,
            rng=rng,
        )
        return Ensemble(scaling, laws)

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """One more step for the largest expected improvement at the last epoch that the budget can
        reach.
        """
        fresh = draw(study, rng) if study.open_space or len(study.started) < self.first else None
        if not study.order:
            chosen = fresh if fresh is not None else draw(study, rng)
            return (
                None
                if chosen is None
                else self.step(study, chosen, "first configurations are random")
            )
        view = with_choice(study, fresh)
        return seen_from(study, view, self.best(view, self.ensemble(study), rng))

    def best(self, study: Study, ensemble: Ensemble, rng: np.random.Generator) -> Suggestion | None:
        """The next step of the configuration of the pool with the largest expected improvement."""
        free = np.flatnonzero(study.available)
        if not len(free):
            return None
        scaling, laws = ensemble
        reach = (
            np.minimum(study.epoch[free] + max(1, study.remaining), study.max_epoch)
            / study.max_epoch
        )
        predicted = laws.predict(study.X[free], reach)
        mean, deviation = predicted.mean(axis=0), predicted.std(axis=0) + 1e-6
        best = (
            float(scaling(study.Y[np.isfinite(study.Y)]).max(initial=-np.inf))
            if np.isfinite(study.Y).any()
            else scaling.floor
        )
        # improvement for each second, where time is the budget
        utility = log_expected_improvement(mean, deviation, best)
        k = pick(utility - np.log(study.relative_costs[free]), rng, 1e-9)
        value = study.plan.sign * (scaling.centre + scaling.spread * mean[k])
        why = (
            f"power laws predict {value:.4g} ± {scaling.spread * deviation[k]:.2g} at epoch "
            f"{round(reach[k] * study.max_epoch)}"
        )
        return self.step(study, int(free[k]), why)

    def step(self, study: Study, choice: Choice, why: str) -> Suggestion:
        """`epochs` more epochs of a configuration."""
        start = int(study.epoch[choice]) if isinstance(choice, int) else 0
        return Suggestion(choice, start, min(start + self.epochs, study.max_epoch), {"why": why})
