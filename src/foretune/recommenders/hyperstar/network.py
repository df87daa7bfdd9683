"""The networks of HyperSTAR: task representation g, embedding h, predictor f, discriminator.

The notation of Mittal et al. (HyperSTAR, CVPR 2020): t = g(D) the task representation, s = h(c) the
configuration's, v = f(t, s) the normalised score.

Shapes: B batches of N images, activations (B, N, C, h, w) at the trunk's cut or fixed features (B,
N, p); d = width of a representation; n configurations, encoded (n, c); scores (B, n).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HyperSTARNetwork(nn.Module):
    """The networks g, h and f.

    With `residual` the predictor starts as the mean score of the past tasks and learns what images
    change about it.

    g: tail of the trunk, mean over pixels, standardised, a linear transformation with ReLU for each
    image, mean over the batch's images. f: a perceptron on [t, s, t * s]; the last layer starts at
    0 with `residual`.
    """

    base: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        tail: nn.Module | None,
        features: int,
        encoding: int,
        configs: int,
        *,
        width: int,
        hidden: int,
        dropout: float,
        residual: bool,
    ):
        super().__init__()
        self.tail = tail
        self.transform = nn.Linear(features, width)
        self.embed = nn.Linear(encoding, width)
        self.predictor = nn.Sequential(
            nn.Linear(3 * width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
        )
        self.register_buffer("base", torch.zeros(configs))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        if residual:
            last = self.predictor[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def pooled(self, activations: Tensor) -> Tensor:
        """The trunk's output by image, mean over pixels: (N, C, h, w) to (N, features).

        Fixed features (N, p) pass.
        """
        if activations.dim() == 2:
            return activations.float()
        x = activations.float()
        return (x if self.tail is None else self.tail(x)).mean(dim=(2, 3))

    def represent(self, pooled: Tensor) -> Tensor:
        """t of each batch: (B, N, features) to (B, d), the batchwise mean."""
        return F.relu(self.transform((pooled - self.centre) / self.scale)).mean(dim=1)

    def scores(self, t: Tensor, encoded: Tensor) -> Tensor:
        """Scores (B, n) of tasks t (B, d) and configurations (n, c).

        What images add to `base`, or the whole score without it.
        """
        s = F.relu(self.embed(encoded))
        b, n = len(t), len(s)
        t, s = t[:, None].expand(b, n, -1), s[None].expand(b, n, -1)
        return self.predictor(torch.cat([t, s, t * s], dim=2)).squeeze(2)


class Discriminator(nn.Module):
    """Tells a task's global representation from one of a single batch, (B, d) to logits (B,)."""

    def __init__(self, width: int, hidden: int = 32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(t).squeeze(1)


def performance_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Equation (1): mean squared error of normalised scores."""
    return (predicted - target).square().mean()


def similarity_loss(t: Tensor, r: Tensor) -> Tensor:
    """Equation (2), mean over pairs i != j: (r_ij - cosine similarity of t_i and t_j)^2.

    T (B, d), r (B, B).
    """
    unit = F.normalize(t, dim=1)
    apart = ~torch.eye(len(t), dtype=torch.bool)
    return (r - unit @ unit.T)[apart].square().mean() if len(t) > 1 else t.sum() * 0.0


def adversarial_loss(real: Tensor, batch: Tensor) -> Tensor:
    """Equation (3) from logits: E[log D(t_G)] + E[log(1 - D(t_l))].

    The discriminator maximises it, g minimises it.
    """
    return F.logsigmoid(real).mean() + F.logsigmoid(-batch).mean()
