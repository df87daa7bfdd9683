"""Task-aware baselines: tasks by metadata, by frozen ImageNet features, by trial runs.

| class             | task described by                    | ranking                               |
|-------------------|--------------------------------------|---------------------------------------|
| `RandomForest`    | metadata                             | regression over (metadata, one-hot)   |
|                   |                                      | (Feurer et al. [12])                  |
| `NearestMetadata` | metadata                             | that of the nearest past task (Feurer |
|                   |                                      | et al. [10])                          |
| `MetadataNetwork` | metadata                             | HyperSTAR's predictor                 |
| `GlobalMean`      | mean ImageNet feature over the       | HyperSTAR's predictor (Wong et al.    |
|                   | images, nothing learned              | [44])                                 |
| `TrAutoML`        | results of ten configurations on the | that of the past task with the most   |
|                   | task itself                          | similar results (Xue et al. [47])     |

The numbers in brackets are the references of the HyperSTAR paper.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from foretune.errors import BadInput, at_least
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Arrays, Recommender
from foretune.recommenders.encoding import encoded
from foretune.recommenders.hyperstar.recommender import JointPredictor
from foretune.recommenders.metadata import metadata, standardise
from foretune.recommenders.past import support_of, weights_of
from foretune.recommenders.ranking import Ranking, in_unit
from foretune.recommenders.trunk import kept_activations, trunk
from foretune.tasks.task import Task


class Described(Recommender):
    """A recommender that goes by metadata; `described` (T, p) are the past tasks', standardised."""

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Describe the past tasks, then learn what the subclass does."""
        raw = np.stack([metadata(task) for task in self.begin(meta, tasks)])
        self.centre, self.scale = standardise(raw)
        self.described = (raw - self.centre) / self.scale
        self.encoded = encoded(meta, "one-hot")
        self.seed = seed
        self.learn()
        return self

    def learn(self) -> None:
        """What a subclass fits beyond the descriptions."""

    def score(self, described: np.ndarray) -> np.ndarray:
        """Normalised scores (n,) of a task described by (p,)."""
        raise BadInput(f"recommender {self.name!r} has no scores")

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """The subclass's scores; level and range are those of the nearest past tasks."""
        new = (metadata(task) - self.centre) / self.scale
        distances = np.linalg.norm(self.described - new, axis=1)
        nearest = weights_of(distances, self.past.tasks, self.neighbours)
        scores = self.score(new)
        predicted, spread = in_unit(self.past, scores, nearest, self.past.normalised.std(axis=0))
        support = support_of(new, self.described)
        counts = nearest if self.of_nearest else None
        return Ranking(self.past, scores, nearest, *support, predicted, spread, counts=counts)

    neighbours: ClassVar[int] = 5
    of_nearest: ClassVar[bool] = False  # whether the scores are the nearest tasks' own

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The descriptions and the encoded configurations; what is learned is learned again."""
        arrays = {
            "described": self.described,
            "centre": self.centre,
            "scale": self.scale,
            "encoded": self.encoded,
        }
        return arrays, {"seed": self.seed}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave and learn again."""
        self.described, self.centre = arrays["described"], arrays["centre"]
        self.scale, self.encoded = arrays["scale"], arrays["encoded"]
        self.seed = values["seed"]
        self.learn()


class RandomForest(Described):
    """A random forest over metadata and one-hot configuration.

    It is grown again from its data where it is loaded.
    """

    name: ClassVar[str] = "random-forest"

    def __init__(self, trees: int = 100):
        at_least(1, trees=trees)
        super().__init__(trees=trees)

    def learn(self) -> None:
        """Grow the forest on all pairs of a past task and a configuration."""
        from sklearn.ensemble import RandomForestRegressor

        n = len(self.encoded)
        rows = np.concatenate([self._rows(one) for one in self.described])
        self.forest = RandomForestRegressor(
            self.options["trees"], max_features=1 / 3, random_state=self.seed, min_samples_leaf=2
        )
        self.forest.fit(rows, self.past.normalised.reshape(len(self.described) * n))

    def _rows(self, described: np.ndarray) -> np.ndarray:
        return np.concatenate([np.tile(described, (len(self.encoded), 1)), self.encoded], axis=1)

    def score(self, described: np.ndarray) -> np.ndarray:
        """The forest's predictions."""
        return self.forest.predict(self._rows(described))


class NearestMetadata(Described):
    """The scores of the past task whose metadata is nearest."""

    name: ClassVar[str] = "nearest-metadata"
    neighbours: ClassVar[int] = 1
    of_nearest: ClassVar[bool] = True

    def score(self, described: np.ndarray) -> np.ndarray:
        """The nearest past task's own scores."""
        distances = np.linalg.norm(self.described - described, axis=1)
        return self.past.normalised[int(distances.argmin())]


class MetadataNetwork(JointPredictor):
    """HyperSTAR's predictor on metadata instead of images."""

    name: ClassVar[str] = "metadata-network"

    def activations(self, task: Task) -> tuple[Tensor, np.ndarray]:
        """The metadata, as the only image of the only class, (1, p)."""
        return torch.from_numpy(metadata(task)).float()[None], np.zeros(1, dtype=int)


class GlobalMean(JointPredictor):
    """HyperSTAR's predictor on one point per task.

    That is the mean over images of the frozen ImageNet network's last features.
    """

    name: ClassVar[str] = "global-mean"

    defaults: ClassVar[Mapping[str, Any]] = {
        **JointPredictor.defaults,
        "trunk": "mobilenet_v2",
        "size": 48,
        "pool": 384,
    }

    def activations(self, task: Task) -> tuple[Tensor, np.ndarray]:
        """The mean feature, as the only image of the only class, (1, p)."""
        name, size = self.options["trunk"], self.options["size"]
        activations, _ = kept_activations(name, size, task, self.options["pool"])
        features = trunk(name, size).penultimate(activations)
        return features.mean(dim=0, keepdim=True), np.zeros(1, dtype=int)


def probes(n: int, count: int, seed: int) -> np.ndarray:
    """The configurations that Tr-AutoML runs on every task, drawn from `seed`, (count,)."""
    return np.random.default_rng(seed).choice(n, size=min(count, n), replace=False)


class TrAutoML(Recommender):
    """Tr-AutoML: the ranking of the past task with the most similar results of `probes` runs.

    HyperSTAR, section 4.3.
    """

    name: ClassVar[str] = "tr-automl"

    def __init__(self, count: int = 10):
        at_least(1, count=count)
        super().__init__(count=count)

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Take the past tasks; `seed` draws the configurations to run."""
        self.begin(meta, tasks)
        self.seed = seed
        return self

    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """Raise `BadInput`: this one has to train first, see `rank_given`."""
        raise BadInput(
            "recommender 'tr-automl' compares results: it must train ten configurations "
            "first (`rank_given`)"
        )

    def rank_given(self, evaluate: Callable[[Sequence[int]], np.ndarray]) -> Ranking:
        """The ranking given the probed rows' best values on the new task.

        `evaluate` returns them, higher is better.
        """
        rows = probes(len(self.past.config_ids), self.options["count"], self.seed)
        new = np.asarray(evaluate(rows.tolist()), dtype=float)
        new = np.where(np.isnan(new), np.nanmin(new), new)
        results = np.vstack([new, self.past.filled[:, rows]])  # (1 + T, count)
        # standardised, since raw results tell how hard a task is
        spread = results.std(axis=1, keepdims=True)
        results = results - results.mean(axis=1, keepdims=True)
        results = results / np.where(spread > 1e-12, spread, 1.0)
        distances = np.linalg.norm(results[1:] - results[0], axis=1)
        nearest = weights_of(distances, self.past.tasks, 1)
        scores = self.past.normalised[int(distances.argmin())]
        return Ranking(self.past, scores, nearest, counts=nearest)

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The seed of the configurations to run."""
        return {}, {"seed": self.seed}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take it back."""
        self.seed = values["seed"]
