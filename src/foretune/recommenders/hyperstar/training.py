"""Offline meta-learning of HyperSTAR (Algorithm 1), and how long and strongly to train.

The latter is chosen by inner leave-one-source-out.

What differs from the paper, and why: it has ten data sets of up to millions of images and a GPU, we
have about fifteen tasks of a few hundred images.

- One step sees an image batch of every past task at once (the paper: one task after the other), and
  all configurations (the paper: ten).
- The trunk's tail stays frozen at first; the last steps train it with the rest, each on the batches
  of `tail_tasks` tasks.
- A batch may come from a sub-task, a random subset of the classes, whose scores are the parent's:
  nobody trained on it, an approximation.
- `residual`: the target of a past task is its score minus the mean score of the tasks of other
  sources, so that g learns what tells tasks apart.

Shapes: T tasks, n configurations; scores Z (T, n); activations of task i (N_i, ...); image batches
(T, N, ...).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from foretune.history.average_precision import similarity
from foretune.recommenders.hyperstar.network import (
    Discriminator,
    HyperSTARNetwork,
    adversarial_loss,
    performance_loss,
    similarity_loss,
)


@dataclass(frozen=True)
class NetworkRecipe:
    """How a network is trained.

    `alpha`, `beta`: weights of the similarity and adversarial losses, 0 = off; `window`: L batches
    of the global representation.
    """

    width: int = 32
    hidden: int = 64
    dropout: float = 0.1
    residual: bool = True
    alpha: float = 0.0
    beta: float = 0.0
    window: int = 10
    images: int = 64  # N_img
    steps: int = 80
    tail_tasks: int = 4
    learning_rate: float = 3e-3
    tail_rate: float = 1e-4
    weight_decay: float = 1e-2
    subtasks: float = 0.5  # share of batches that come from a subset of the classes
    # folds of the inner leave-sources-out; 0 = take the last step and the residual as it is
    inner: int = 4


@dataclass(frozen=True, eq=False)
class Lesson:
    """The past, as training takes it.

    Activations and labels by task, scores Z (T, n), true values for r_ij, sources, encoded
    configurations (n, c), the tail to start from.
    """

    activations: Sequence[Tensor]
    labels: Sequence[np.ndarray]
    scores: np.ndarray
    values: np.ndarray
    sources: Sequence[str]
    encoded: np.ndarray
    tail: nn.Module | None = None
    # what the untrained tail makes of `activations`, if it is known
    pooled: Sequence[Tensor] | None = None

    def only(self, rows: Sequence[int]) -> "Lesson":
        """The same of these tasks alone."""
        return Lesson(
            [self.activations[i] for i in rows],
            [self.labels[i] for i in rows],
            self.scores[rows],
            self.values[rows],
            [self.sources[i] for i in rows],
            self.encoded,
            self.tail,
            None if self.pooled is None else [self.pooled[i] for i in rows],
        )


def base_scores(scores: np.ndarray, sources: Sequence[str]) -> np.ndarray:
    """For each task the mean score over tasks of other sources, (T, n).

    It is what is known about a task without its images; over all tasks where there is one source.
    """
    own = np.array(sources)
    return np.stack(
        [
            scores[own != s].mean(axis=0) if (own != s).any() else scores.mean(axis=0)
            for s in sources
        ]
    )


def folds_of(sources: Sequence[str], folds: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows held out by fold; tasks of one source stay together.

    At most as many folds as sources.
    """
    names = rng.permutation(sorted(set(sources)))
    parts = np.array_split(names, min(folds, len(names)))
    return [np.flatnonzero(np.isin(sources, part)) for part in parts]


class Batches:
    """Image batches of tasks, `images` indices into each task's activations.

    Some of them are from a random subset of the classes.
    """

    def __init__(
        self, labels: Sequence[np.ndarray], images: int, subtasks: float, rng: np.random.Generator
    ):
        self.images, self.subtasks, self.rng = images, subtasks, rng
        self.labels = labels
        self.by_class = [[np.flatnonzero(own == c) for c in np.unique(own)] for own in labels]

    def draw(self, tasks: Sequence[int]) -> list[Tensor]:
        """One batch for each of these tasks, (N,) indices each.

        With replacement where there are too few images.
        """
        out = []
        for task in tasks:
            own, classes = self.labels[task], self.by_class[task]
            pool = np.arange(len(own))
            if len(classes) > 2 and self.rng.random() < self.subtasks:
                count = int(self.rng.integers(2, len(classes)))
                pool = np.concatenate(
                    [classes[c] for c in self.rng.choice(len(classes), count, replace=False)]
                )
            out.append(
                torch.from_numpy(
                    self.rng.choice(pool, self.images, replace=len(pool) < self.images)
                )
            )
        return out


@dataclass(eq=False)
class Trained:
    """A network in training: `step` is Algorithm 1's inner loop for all tasks at once."""

    lesson: Lesson
    recipe: NetworkRecipe
    seed: int
    network: HyperSTARNetwork = field(init=False)

    def __post_init__(self) -> None:
        lesson, recipe = self.lesson, self.recipe
        rng = np.random.default_rng(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.batches = Batches(lesson.labels, recipe.images, recipe.subtasks, rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            features = self._features()
            self.network = HyperSTARNetwork(
                lesson.tail,
                features,
                lesson.encoded.shape[1],
                lesson.scores.shape[1],
                width=recipe.width,
                hidden=recipe.hidden,
                dropout=recipe.dropout,
                residual=recipe.residual,
            )
            self.discriminator = Discriminator(recipe.width)
        with torch.no_grad():
            self.frozen = list(lesson.pooled or map(self.network.pooled, lesson.activations))
            every = torch.cat(self.frozen)
            self.network.centre.copy_(every.mean(dim=0))
            spread = every.std(dim=0, correction=0)
            least = max(
                0.05 * float(spread.mean()), 1e-6
            )  # a feature that past images hardly move must not shout on new ones
            self.network.scale.copy_(spread.clamp(min=least))
        scores = lesson.scores
        base = base_scores(scores, lesson.sources) if recipe.residual else np.zeros_like(scores)
        self.target = torch.from_numpy(scores - base).float()
        if recipe.residual:
            self.network.base.copy_(torch.from_numpy(scores.mean(axis=0)))
        self.r = torch.from_numpy(similarity(lesson.values)).float()
        self.encoded = torch.from_numpy(lesson.encoded).float()
        head = [p for name, p in self.network.named_parameters() if not name.startswith("tail.")]
        groups = [{"params": head, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}]
        if lesson.tail is not None:
            groups.append(
                {
                    "params": list(lesson.tail.parameters()),
                    "lr": recipe.tail_rate,
                    "weight_decay": 0.0,
                }
            )
        self.optimizer = torch.optim.AdamW(groups)
        self.critic = torch.optim.AdamW(self.discriminator.parameters(), lr=recipe.learning_rate)
        self.recent: list[deque[Tensor]] = [deque(maxlen=recipe.window) for _ in lesson.scores]

    def _features(self) -> int:
        first = self.lesson.activations[0][:1]
        if first.dim() == 2 or self.lesson.tail is None:
            return int(first.shape[1])
        with torch.no_grad():
            return int(self.lesson.tail(first.float()).shape[1])

    def _global(self, tasks: Sequence[int]) -> Tensor:
        """t_G of these tasks: mean over their last `window` batches, (B, d)."""
        return torch.stack([torch.stack(list(self.recent[task])).mean(dim=0) for task in tasks])

    def step(self, *, tail: bool) -> float:
        """One update of g, h and f on equation (4), then one of the discriminator.

        Returns the regression loss.
        """
        recipe, net = self.recipe, self.network
        count = len(self.target)
        tasks = list(range(count))
        if tail and count > recipe.tail_tasks:
            chosen_tasks = self.batches.rng.choice(count, recipe.tail_tasks, replace=False)
            tasks = sorted(chosen_tasks.tolist())
        drawn = self.batches.draw(tasks)
        read = self.lesson.activations if tail else self.frozen
        rows = [read[task][chosen] for task, chosen in zip(tasks, drawn, strict=True)]
        if tail:
            pooled = net.pooled(torch.cat(rows)).unflatten(0, (len(rows), -1))
        else:
            pooled = torch.stack(rows)
        net.train()
        if net.tail is not None:
            net.tail.eval()
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=self.generator)))
            t = net.represent(pooled)
            regression = performance_loss(net.scores(t, self.encoded), self.target[tasks])
        loss = regression
        if recipe.alpha:
            loss = loss + recipe.alpha * similarity_loss(t, self.r[tasks][:, tasks])
        if recipe.beta and all(self.recent[task] for task in tasks):
            loss = loss + recipe.beta * adversarial_loss(
                self.discriminator(self._global(tasks)), self.discriminator(t)
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if recipe.beta:
            for task, own in zip(tasks, t.detach(), strict=True):
                self.recent[task].append(own)
            critic = -adversarial_loss(
                self.discriminator(self._global(tasks)), self.discriminator(t.detach())
            )
            self.critic.zero_grad()
            critic.backward()
            self.critic.step()
        return float(regression.detach())

    def run(self, steps: int, *, tail: bool = False) -> "Trained":
        """That many steps."""
        for _ in range(steps):
            self.step(tail=tail)
        return self

    @torch.no_grad()
    def predict(self, pooled: Tensor) -> np.ndarray:
        """Scores without `base` for batches of a task, (B, N, features) to (n,).

        The mean over the batches (Algorithm 2).
        """
        self.network.eval()
        return self.network.scores(self.network.represent(pooled), self.encoded).mean(dim=0).numpy()
