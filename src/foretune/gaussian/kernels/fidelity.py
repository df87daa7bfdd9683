"""Fidelity kernels of AT2 (section 3.3.3), on epochs scaled to (0, 1] by the most epochs E. Each
returns (m1, m2).
"""

import torch
from torch import Tensor, nn

from foretune.gaussian.kernels.task import inverse_softplus, positive


def parameter(value: float) -> nn.Parameter:
    """A positive parameter that starts at `value`."""
    return nn.Parameter(torch.tensor(inverse_softplus(value)))


class AccCurve(nn.Module):
    """s [1 + (b / (e + e' + b))^a - (b / (e + b))^a - (b / (e' + b))^a]: saturating exponentials,
    gamma-mixed; 0 at e = 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta, self.scale = parameter(1.0), parameter(0.2), parameter(1.0)

    def forward(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Gram matrix of scaled epochs e1 (m1,) and e2 (m2,)."""
        a, b = positive(self.alpha), positive(self.beta)

        def decay(e: Tensor) -> Tensor:
            return (b / (e + b)) ** a

        return positive(self.scale) * (
            1 + decay(e1[:, None] + e2[None]) - decay(e1)[:, None] - decay(e2)[None]
        )


class Fabolas(nn.Module):
    """phi(e)^T L L^T phi(e') with phi(e) = (1, (1 - e)^2): monotone in e (Klein et al., AISTATS
    2017, for accuracies).
    """

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.Parameter(torch.tensor([[1.0, 0.0], [-0.5, 0.5]]))

    def forward(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Gram matrix of scaled epochs."""
        L = torch.tril(self.lower)

        def basis(e: Tensor) -> Tensor:
            return torch.stack([torch.ones_like(e), (1 - e) ** 2], dim=1) @ L

        return basis(e1) @ basis(e2).T


class RBF(nn.Module):
    """s exp(-(e - e')^2 / (2 l^2))."""

    def __init__(self) -> None:
        super().__init__()
        self.length, self.scale = parameter(0.3), parameter(1.0)

    def forward(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Gram matrix of scaled epochs."""
        apart = (e1[:, None] - e2[None]) / positive(self.length)
        return positive(self.scale) * torch.exp(-0.5 * apart**2)


class Matern(RBF):
    """The Matern 5/2 kernel."""

    def forward(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Gram matrix of scaled epochs."""
        r = 5**0.5 * (e1[:, None] - e2[None]).abs() / positive(self.length)
        return positive(self.scale) * (1 + r + r**2 / 3) * torch.exp(-r)


FIDELITY_KERNELS: dict[str, type[nn.Module]] = {
    "AccCurve": AccCurve,
    "Fabolas": Fabolas,
    "Matern": Matern,
    "RBF": RBF,
}
