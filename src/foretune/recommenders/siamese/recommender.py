"""Siamese-BHO's recommender (Kim, Kim and Choi, 2017).

It finds the past tasks whose pictures look as if the same configurations would work.

A Siamese network (`foretune.recommenders.siamese.network`) learns a distance between sets of images
that matches how much two tasks' mappings from configuration to accuracy differ. A new task is
ranked by its nearest past tasks' accuracies.

Notation: T past tasks, n configurations, `best` (T, n) = mapping of each past task, d (T, T) =
target distances, in units of their mean.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from foretune.errors import BadInput, at_least
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Arrays, Recommender
from foretune.recommenders.past import support_of
from foretune.recommenders.ranking import Ranking, in_unit
from foretune.recommenders.siamese.subtasks import Gallery, cut_subtasks, gallery, images_of
from foretune.tasks.task import Task

if TYPE_CHECKING:
    from foretune.recommenders.siamese.network import Wing

TARGETS = ("accuracy", "normalised")


def mapping_distance(best: np.ndarray) -> np.ndarray:
    """L1 distance of two tasks' mappings as a mean over the configurations that both know, (T, T).

    The overall mean for pairs that share none.
    """
    known = ~np.isnan(best)
    values = np.where(known, best, 0.0)
    shared = (known[:, None] & known[None]).sum(axis=2)
    gap = np.where(known[:, None] & known[None], np.abs(values[:, None] - values[None]), 0.0).sum(
        axis=2
    )
    distance = gap / np.maximum(shared, 1)
    apart = ~np.eye(len(best), dtype=bool)
    usual = float(distance[apart & (shared > 0)].mean()) if (apart & (shared > 0)).any() else 0.0
    return np.asarray(np.where(shared > 0, distance, np.where(apart, usual, 0.0)))


class SiameseNearest(Recommender):
    """Past tasks weighted by the network's distance.

    A configuration's score is their weighted mean of normalised accuracies.

    `k` nearest tasks count, by exp(-d / d_k) with d_k the k-th smallest distance. `target` says
    which mappings the distance compares: "accuracy" (the paper) or "normalised" (mean 0 and
    deviation 1 over configurations, so that an easy and a hard task can be near). An iteration
    draws `group` sub-tasks and trains on `beta` pairs of them, `tau` images each; a new task's
    meta-feature is the mean over `draws` of its own sub-tasks.
    """

    name: ClassVar[str] = "siamese"

    def __init__(
        self,
        k: int = 3,
        target: str = "normalised",
        tau: int = 12,
        beta: int = 66,
        group: int = 12,
        iterations: int = 120,
        rate: float = 2e-3,
        sub_tasks: int = 20,
        draws: int = 12,
        size: int = 32,
        most_images: int = 600,
    ):
        super().__init__(
            k=k,
            target=target,
            tau=tau,
            beta=beta,
            group=group,
            iterations=iterations,
            rate=rate,
            sub_tasks=sub_tasks,
            draws=draws,
            size=size,
            most_images=most_images,
        )
        if target not in TARGETS:
            raise BadInput(f"target={target!r} must be one of {', '.join(TARGETS)}")
        at_least(
            1, **{name: self.options[name] for name in ("k", "tau", "beta", "iterations", "draws")}
        )
        at_least(2, group=self.options["group"])
        if size % 8:
            raise BadInput(
                f"size={size} must be a multiple of 8 pixels: the wing halves the edge three times"
            )
        self.wing: Wing | None = None
        self.features = np.empty((0, 0))  # meta-features of the past tasks, (T, 2 h)
        self.looks = np.empty((0, 0))  # `statistics` of the past tasks, (T, 12)

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Train the network on pairs of sub-tasks (Algorithm 1), then embed the past tasks."""
        import torch

        from foretune.recommenders.siamese.network import Wing, train_wing

        o = self.options
        rng = np.random.default_rng(seed)
        galleries = [
            gallery(task, o["size"], o["most_images"], rng) for task in self.begin(meta, tasks)
        ]
        d = mapping_distance(
            self.past.normalised if o["target"] == "normalised" else self.past.best
        )
        positive = d[d > 0]
        d = d / (float(positive.mean()) if len(positive) else 1.0)
        cuts = [cut_subtasks(g, o["sub_tasks"], rng) for g in galleries]
        pool = [(t, k) for t, own in enumerate(cuts) for k in range(len(own))]

        def sample() -> tuple[np.ndarray, np.ndarray]:
            chosen = [
                pool[i]
                for i in rng.choice(len(pool), size=min(o["group"], len(pool)), replace=False)
            ]
            parents = np.array([t for t, _ in chosen])
            sets = np.stack([images_of(galleries[t], cuts[t][k], o["tau"], rng) for t, k in chosen])
            return sets, d[np.ix_(parents, parents)]

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            self.wing = Wing(o["size"])
            self.losses = train_wing(
                self.wing, sample, rng, iterations=o["iterations"], beta=o["beta"], rate=o["rate"]
            )  # of each iteration
        self.features = np.stack([self.meta_feature(g, rng) for g in galleries])
        self.looks = np.stack([statistics(g.images) for g in galleries])
        return self

    def meta_feature(self, of: Gallery, rng: np.random.Generator) -> np.ndarray:
        """Mean meta-feature over sub-tasks of a gallery, (2 h,)."""
        from foretune.recommenders.siamese.network import meta_features

        if self.wing is None:
            raise BadInput(f"recommender {self.name!r} is not fitted yet")
        sets = [
            images_of(of, part, self.options["tau"], rng)
            for part in cut_subtasks(of, self.options["draws"], rng)
        ]
        return np.asarray(meta_features(self.wing, sets).mean(axis=0))

    def distances(self, task: Task, seed: int = 0) -> np.ndarray:
        """Predicted distances to the past tasks, (T,), in units of their mean distance.

        `seed` draws the images.
        """
        rng = np.random.default_rng(seed)
        m = self.meta_feature(
            gallery(task, self.options["size"], self.options["most_images"], rng), rng
        )
        return np.asarray(np.linalg.norm(self.features - m, axis=1))

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """Scores = weighted mean of the nearest tasks' normalised accuracies.

        The network knows only what told past tasks apart, so pictures unlike any may still land
        among them. Support is therefore judged by plain image statistics as well, and the smaller
        of the two counts.
        """
        rng = np.random.default_rng(seed)
        shown = gallery(task, self.options["size"], self.options["most_images"], rng)
        m = self.meta_feature(shown, rng)
        nearest = nearness(
            np.linalg.norm(self.features - m, axis=1), self.past.tasks, self.options["k"]
        )
        weight = np.array([nearest.get(t, 0.0) for t in self.past.tasks])
        z = self.past.normalised
        scores = weight @ z
        doubt = np.sqrt(weight @ (z - scores) ** 2)
        predicted, spread = in_unit(self.past, scores, nearest, doubt)
        width = self.looks.std(axis=0) + 0.01
        learned = support_of(m, self.features)
        plain = support_of(statistics(shown.images) / width, self.looks / width)
        return Ranking(
            self.past,
            scores,
            nearest,
            min(learned[0], plain[0]),
            learned[1] and plain[1],
            predicted,
            spread,
            counts=nearest,
        )

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The wing's weights and the past tasks' meta-features."""
        if self.wing is None:
            raise BadInput(f"recommender {self.name!r} is not fitted yet")
        weights = {f"wing/{key}": value.numpy() for key, value in self.wing.state_dict().items()}
        return {"features": self.features, "looks": self.looks, **weights}, {}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        import torch

        from foretune.recommenders.siamese.network import Wing

        self.wing = Wing(self.options["size"])
        state = {
            k.removeprefix("wing/"): torch.from_numpy(v)
            for k, v in arrays.items()
            if k.startswith("wing/")
        }
        self.wing.load_state_dict(state)
        self.wing.eval()
        self.features, self.looks = arrays["features"], arrays["looks"]


def nearness(distance: np.ndarray, tasks: tuple[str, ...], k: int) -> dict[str, float]:
    """The `k` nearest tasks' shares, exp(-d / d_k), nearest first; sums to 1."""
    nearest = np.argsort(distance, kind="stable")[:k]
    scale = float(distance[nearest[-1]]) or 1.0
    share = np.exp(-(distance[nearest] - distance[nearest[0]]) / scale)
    return {tasks[i]: float(w) for i, w in zip(nearest, share / share.sum(), strict=True)}


def statistics(images: np.ndarray) -> np.ndarray:
    """What pictures (M, H, W, 3) look like, (12,), from pixels in [0, 1].

    Mean and standard deviation over images of brightness, contrast, colourfulness, and the mean
    absolute difference of neighbouring pixels across, down and between blocks of four.
    """
    pixels = images.astype(np.float32) / 255
    grey = pixels.mean(axis=3)
    coarse = grey.reshape(len(grey), grey.shape[1] // 4, 4, grey.shape[2] // 4, 4).mean(axis=(2, 4))
    by_image = np.stack(
        [
            grey.mean(axis=(1, 2)),
            grey.std(axis=(1, 2)),
            (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2)),
            np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)),
            np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)),
            np.abs(np.diff(coarse, axis=2)).mean(axis=(1, 2)),
        ]
    )
    return np.concatenate([by_image.mean(axis=1), by_image.std(axis=1)]).astype(float)
