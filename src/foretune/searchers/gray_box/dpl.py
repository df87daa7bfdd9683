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

from dataclasses import dataclass

import numpy as np

from foretune.errors import BadInput
from foretune.gaussian.acquisition import log_expected_improvement, pick
from foretune.searchers.base import Searcher, draw
from foretune.searchers.gray_box.dyhpo_surrogate import Scaling
from foretune.study.study import Step, Study

HIDDEN = 64
GROWTH = 0.1  # share of new observations that asks for a refit
SMOOTH = 0.05  # standard values below which the absolute error is quadratic


@dataclass
class PowerLaws:
    """K networks of configurations to power laws, with weights as arrays (K, in, out)."""

    p: dict[str, np.ndarray]

    @classmethod
    def new(cls, members: int, d: int, rng: np.random.Generator) -> "PowerLaws":
        """Random weights (uniform within 1 / sqrt(inputs)); the laws start flat at 0."""

        def layer(inputs: int, outputs: int) -> np.ndarray:
            return rng.uniform(-1, 1, (members, inputs, outputs)) / np.sqrt(inputs)

        p = {
            "w1": layer(d, HIDDEN),
            "b1": np.zeros((members, 1, HIDDEN)),
            "w2": layer(HIDDEN, HIDDEN),
            "b2": np.zeros((members, 1, HIDDEN)),
        }
        return cls(p | {"w3": layer(HIDDEN, 3), "b3": np.zeros((members, 1, 3))})

    def laws(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, n, 3) raw alpha, beta, gamma of x (n, d) or (K, n, d), and both hidden layers."""
        first = np.maximum(x @ self.p["w1"] + self.p["b1"], 0)
        second = np.maximum(first @ self.p["w2"] + self.p["b2"], 0)
        return second @ self.p["w3"] + self.p["b3"], first, second

    def predict(self, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Values of x (n, d) at b (n,), (K, n)."""
        raw = self.laws(x)[0]
        return raw[..., 0] + raw[..., 1] * b ** -np.logaddexp(0, raw[..., 2])

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
        first = {k: np.zeros_like(v) for k, v in self.p.items()}
        second = {k: np.zeros_like(v) for k, v in self.p.items()}
        members = len(self.p["w1"])
        for step in range(1, steps + 1):
            rows = rng.integers(len(y), size=(members, min(batch, len(y))))
            gradient = self.gradient(x[rows], b[rows], y[rows])
            rate = lr * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            for name, g in gradient.items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                self.p[name] = self.p[name] - rate * first[name] / (np.sqrt(second[name]) + 1e-8)

    def gradient(self, x: np.ndarray, b: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Of the mean smoothed absolute error, for inputs (K, n, d), (K, n), (K, n)."""
        raw, first, second = self.laws(x)
        power = np.logaddexp(0, raw[..., 2])
        decay = b**-power
        error = np.clip((raw[..., 0] + raw[..., 1] * decay - y) / SMOOTH, -1, 1) / y.shape[1]
        by_gamma = -error * raw[..., 1] * decay * np.log(b) / (1 + np.exp(-raw[..., 2]))
        by_raw = np.stack([error, error * decay, by_gamma], axis=-1)
        by_second = (by_raw @ self.p["w3"].transpose(0, 2, 1)) * (second > 0)
        by_first = (by_second @ self.p["w2"].transpose(0, 2, 1)) * (first > 0)
        out = {}
        for k, (below, by) in enumerate(((x, by_first), (first, by_second), (second, by_raw)), 1):
            out[f"w{k}"] = below.transpose(0, 2, 1) @ by
            out[f"b{k}"] = by.sum(axis=1, keepdims=True)
        return out


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
        for name, value in (
            ("members", members),
            ("epochs", epochs),
            ("steps", steps),
            ("batch", batch),
            ("first", first),
        ):
            if value < 1:
                raise BadInput(f"{name}={value} must be at least 1")
        if not lr > 0:
            raise BadInput(f"lr={lr:g} must be positive")
        self.members, self.epochs, self.steps, self.lr, self.batch, self.first = (
            members,
            epochs,
            steps,
            lr,
            batch,
            first,
        )
        self.fitted: tuple[list[tuple[int, int]], Scaling, PowerLaws] | None = None

    def scheduled(self, n: int) -> int:
        """The last number of observations up to n at which the ensemble is fitted."""
        at = 1
        while (after := at + max(1, int(GROWTH * at))) <= n:
            at = after
        return at

    def ensemble(self, study: Study) -> tuple[Scaling, PowerLaws]:
        """The ensemble fitted on the first observations that the schedule names; from scratch, so
        that no history is needed to repeat it.
        """
        prefix = study.order[: self.scheduled(len(study.order))]
        if (
            self.fitted is None
            or self.fitted[0] != prefix
            or len(self.fitted[2].p["w1"][0]) != study.X.shape[1]
        ):
            ids, epochs = (np.array(v) for v in zip(*prefix, strict=True))
            values = study.Y[ids, epochs - 1]
            scaling = Scaling.of(values)
            rng = np.random.default_rng([study.seed, len(prefix)])
            laws = PowerLaws.new(self.members, study.X.shape[1], rng)
            b = epochs / study.max_epoch
            laws.fit(
                study.X[ids],
                b,
                scaling(values),
                steps=self.steps,
                lr=self.lr,
                batch=self.batch,
                rng=rng,
            )
            self.fitted = (prefix, scaling, laws)
        return self.fitted[1], self.fitted[2]

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """One more step for the largest expected improvement at the last epoch that the budget can
        reach.
        """
        fresh = draw(study, rng) if study.open_space or len(study.started) < self.first else None
        free = np.flatnonzero(study.available)
        if not study.order:
            chosen = fresh if fresh is not None else draw(study, rng)
            return (
                None
                if chosen is None
                else self.step(study, chosen, "first configurations are random")
            )
        if not len(free):
            return None
        scaling, laws = self.ensemble(study)
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
        k = pick(log_expected_improvement(mean, deviation, best), rng, 1e-9)
        value = study.plan.sign * (scaling.centre + scaling.spread * mean[k])
        why = (
            f"power laws predict {value:.4g} ± {scaling.spread * deviation[k]:.2g} at epoch "
            f"{round(reach[k] * study.max_epoch)}"
        )
        return self.step(study, int(free[k]), why)

    def step(self, study: Study, config_id: int, why: str) -> Step:
        """`epochs` more epochs of a configuration."""
        start = int(study.epoch[config_id])
        return Step(config_id, start, min(start + self.epochs, study.max_epoch), {"why": why})
