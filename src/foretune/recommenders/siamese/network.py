"""The Siamese network of Siamese-BHO and its training.

Kim, Kim and Choi (2017), section 3, Figure 1 and Algorithm 1.

Notation: B = sets of images (sub-tasks), tau = images of a set, m (B, 2 h) = meta-features, d =
target distance.

A wing takes one set to its meta-feature: two convolutional and two fully-connected layers on each
image, then a bidirectional LSTM over the tau images. Both wings share their weights, so one pass
over B sets serves all pairs among them. The loss of a pair is (d_ij - ||m_i - m_j||_2)^2.

The paper gives no sizes. Ours keep a training at seconds of one core: images of 32 px, 16 and 32
channels, 64 features an image, h = 32. The meta-feature is the mean of the LSTM's outputs over the
images, which depends on their (random) order less than its last state.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

CENTRE, WIDTH = 0.5, 0.25  # pixels in [0, 1] are shifted and scaled by these


class Wing(nn.Module):
    """Sets of images uint8 (B, tau, size, size, 3) to meta-features (B, 2 h)."""

    def __init__(
        self,
        size: int = 32,
        channels: tuple[int, int] = (16, 32),
        features: int = 64,
        hidden: int = 32,
    ):
        super().__init__()
        first, second = channels
        self.images = nn.Sequential(
            nn.Conv2d(3, first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (size // 8) ** 2, 2 * features),
            nn.ReLU(),
            nn.Linear(2 * features, features),
            nn.ReLU(),
        )
        self.sets = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Meta-features of B sets."""
        pixels = (images.flatten(0, 1).movedim(-1, 1).float() / 255 - CENTRE) / WIDTH
        outputs, _ = self.sets(self.images(pixels).unflatten(0, images.shape[:2]))
        return outputs.mean(dim=1)


def pairs(count: int, beta: int, rng: np.random.Generator) -> np.ndarray:
    """`beta` different pairs i < j of `count` sets (all if there are fewer), int (pairs, 2)."""
    every = np.stack(np.triu_indices(count, 1), axis=1)
    return every[rng.permutation(len(every))[:beta]]


def pair_loss(m: torch.Tensor, which: np.ndarray, target: np.ndarray) -> torch.Tensor:
    """Mean over pairs of (d_ij - ||m_i - m_j||)^2; `target` (B, B) holds d."""
    i, j = which.T
    # its gradient is finite where two are equal
    distance = (m[i] - m[j]).square().sum(dim=1).clamp_min(1e-12).sqrt()
    wanted = torch.as_tensor(target[i, j], dtype=distance.dtype)
    return (wanted - distance).square().mean()


def train_wing(
    wing: Wing,
    sample: Callable[[], tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
    *,
    iterations: int,
    beta: int,
    rate: float,
    decay: float = 1e-4,
) -> list[float]:
    """Algorithm 1: `iterations` steps of AdamW on `beta` pairs each; returns the losses.

    The rate falls to 0 by a cosine.

    `sample()` gives B sets, uint8 (B, tau, size, size, 3), and their target distances (B, B).
    """
    optimizer = torch.optim.AdamW(wing.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    losses = []
    wing.train()
    for _ in range(iterations):
        images, target = sample()
        loss = pair_loss(wing(torch.from_numpy(images)), pairs(len(images), beta, rng), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wing.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    wing.eval()
    return losses


def meta_features(wing: Wing, sets: Sequence[np.ndarray]) -> np.ndarray:
    """Meta-features of sets of images, float64 (B, 2 h)."""
    with torch.no_grad():
        return np.asarray(wing(torch.from_numpy(np.stack(sets))).double().numpy())
