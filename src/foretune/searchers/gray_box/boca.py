"""BOCA: Bayesian optimisation with continuous approximations, multi-fidelity GP-UCB (Kandasamy et
al., ICML 2017, Algorithm 1).

The method that DyHPO's authors run as Dragonfly. Notation: z = fidelity in [0, 1] (epochs, z* = 1
the last), x = configuration, lambda(z) = cost.

    x_t = argmax mu(z*, x) + beta^(1/2) sigma(z*, x),   beta = 0.5 d log(2 l t + 1)
    z_t = the cheapest z with sigma(z, x_t) > gamma(z) and xi(z) > ||xi||_inf / beta^(1/2), else z*
    xi(z) = sqrt(1 - phi(z - z*)^2)
    gamma(z) = sqrt(kappa_0) xi(z) (lambda(z) / lambda(z*))^(1 / (d + 3))

The process has kernel kappa_0 phi(z, z') C(x, x') with phi squared exponential, fitted as in
`curve_gp` with its other terms off. A trial goes on from where it stands, so only fidelities above
its own are asked for, and only what they add is paid.
"""

import numpy as np

from foretune.errors import positive
from foretune.searchers.gray_box.curve_gp import Prior
from foretune.searchers.gray_box.freeze_thaw import Curves, FreezeThaw, Outlook, Standard
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion


class ProductPrior(Prior):
    """kappa_0 phi(z, z') C(x, x'): the squared exponential in z/E of the grid, the shared and the
    own terms off.
    """

    def shapes(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """0, phi, 0, each (H, H). The length is half the range of log epochs."""
        distance = np.abs(u[:, None] - u[None])
        nothing = np.zeros_like(distance)
        return nothing, np.exp(-0.5 * (distance / self.length_explained) ** 2), nothing


class BOCA(FreezeThaw):
    """Multi-fidelity GP-UCB.

    `ell` is the l of beta, `first` the number of random configurations before the model decides.
    """

    name = "boca"

    def __init__(self, ell: float = 0.5, first: int = 3, candidates: int = 1000):
        super().__init__(first=first, candidates=candidates)
        positive(ell=ell)  # beta grows with its logarithm
        self.ell = ell
        self.prior = ProductPrior(length_explained=0.5, amplitudes=(0.25, 0.9, 0.4, 0.15))

    def index(self, study: Study, model: Curves) -> Outlook:
        """The upper confidence bound at the last epoch, and the level that the fidelity rule asks
        for.
        """
        assert model.posterior is not None
        values = np.array(model.values)
        standard = Standard(values)
        mean = model.posterior.mean(standard(values))
        deviation = model.posterior.deviation(self.pending(study, model))
        d = study.X.shape[1]
        beta = max(0.5 * d * np.log(2 * self.ell * len(values) + 1), 0.1)
        index = mean[:, -1] + np.sqrt(beta) * deviation[:, -1]
        phi = model.prior.shapes(model.u)[1][:, -1]
        xi = np.sqrt(np.maximum(1 - phi**2, 0))
        gamma = (
            np.sqrt(model.posterior.amplitude[1])
            * xi
            * (model.grid / model.grid[-1]) ** (1 / (d + 3))
        )
        useful = (deviation > gamma) & (xi > xi.max() / np.sqrt(beta))
        above = model.grid[None] > study.epoch[model.members][:, None]
        level = np.where(
            (useful & above).any(axis=1), (useful & above).argmax(axis=1), len(model.grid) - 1
        )
        return Outlook(index, level, mean, deviation, standard)

    def step(
        self, study: Study, model: Curves, choice: Choice, why: str, level: int = 0
    ) -> Suggestion:
        """To the epoch that the fidelity rule asks for."""
        start = int(study.epoch[choice]) if isinstance(choice, int) else 0
        stop = max(
            int(model.grid[level]),
            int(model.grid[np.searchsorted(model.grid, start, side="right")]),
        )
        return Suggestion(choice, start, stop, {"why": why})
