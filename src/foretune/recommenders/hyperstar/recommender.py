"""HyperSTAR: rank configurations for a task from its raw images (Mittal et al., CVPR 2020).

Offline (`fit`, Algorithm 1) a network learns to predict the normalised score of a configuration
from batches of a past task's images, its convolutional trunk included. Online (`rank`, Algorithm 2)
it averages its predictions over `DRAWS` = 10 batches of 64 images of the new task. Options switch
the regularisers (`similarity`, `adversarial`), the parametrisation (`residual`) and the encoding of
configurations; docs/notes/recommenders.md says what each is worth.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import (
    Arrays,
    Ranking,
    Recommender,
    equal_shares,
    in_unit,
    support_of,
    weights_of,
)
from foretune.recommenders.encoding import encoded
from foretune.recommenders.hyperstar.choice import Choice, batches, choose
from foretune.recommenders.hyperstar.network import HyperSTARNetwork
from foretune.recommenders.hyperstar.training import Lesson, Recipe, Trained, base_scores
from foretune.recommenders.trunk import kept_activations, trunk
from foretune.tasks.task import Task

ALPHA, BETA = 0.5, 0.1  # weights of the regularisers in equation (4), open in the paper
TAIL_SHARE = 0.25  # of the steps, the last ones, also train the trunk's tail


class JointPredictor(Recommender):
    """A task representation, a configuration embedding and a predictor on both, trained together;
    how a task is read is the subclass's.

    `members` networks of different seeds are averaged. `steps` and `strength` fix what the inner
    leave-one-source-out would choose.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "members": 1,
        "residual": True,
        "encoding": "one-hot",
        "inner": 4,
        "steps": 0,
        "strength": 1.0,
    }

    def __init__(self, **options: Any):
        if unknown := [o for o in options if o not in self.defaults]:
            raise BadInput(
                f"recommender {self.name!r} has no option {unknown[0]!r}; it has "
                f"{', '.join(self.defaults)}"
            )
        super().__init__(**{**self.defaults, **options})
        members, inner, steps, strength = (
            self.options[o] for o in ("members", "inner", "steps", "strength")
        )
        if members < 1 or inner < 0 or steps < 0 or not 0 <= strength <= 1:
            raise BadInput(
                f"members={members} must be 1 or more, inner={inner} and steps={steps} 0 or "
                f"more, strength={strength} from 0 to 1"
            )
        self.networks: list[HyperSTARNetwork] = []
        # of the networks whose trunk's tail was trained, as they are saved
        self.tails: list[Arrays] = []

    def recipe(self) -> Recipe:
        """How the networks are trained."""
        return Recipe(
            residual=self.options["residual"], inner=self.options["inner"], images=self.images
        )

    images: ClassVar[int] = 1  # images of a batch

    def activations(self, task: Task) -> tuple[Tensor, np.ndarray]:
        """What the network reads of a task, (N, ...), and the labels (N,)."""
        raise BadInput(f"recommender {self.name!r} reads no task")

    def pooled(self, network: HyperSTARNetwork, activations: Tensor) -> Tensor:
        """The trunk's output by image, (N, features)."""
        with torch.no_grad():
            return network.pooled(activations)

    def described(self, activations: Tensor) -> np.ndarray:
        """The fixed representation that `support_of` compares, (p,)."""
        return activations.float().mean(dim=0).flatten().double().numpy()

    def fresh_tail(self) -> torch.nn.Module | None:
        """The part of the trunk that is trained, if any."""
        return None

    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        mine = self.begin(meta, tasks)
        read = [self.activations(task) for task in mine]
        sources = [task.source or task.name for task in mine]
        lesson = Lesson(
            [a for a, _ in read],
            [labels for _, labels in read],
            self.past.normalised,
            self.past.filled,
            sources,
            encoded(meta, self.options["encoding"]),
        )
        recipe = self.recipe()
        tail = self.fresh_tail()
        with torch.no_grad():
            flat = [
                a.float() if tail is None else tail(a.float()).mean(dim=(2, 3)) for a, _ in read
            ]
        if self.options["steps"]:
            self.choice = Choice(self.options["steps"], self.options["strength"])
        else:
            self.choice = choose(lesson, recipe, flat, seed)
        self.encoded = lesson.encoded
        self.networks, self.representations, self.tails = [], [], []
        with_tail = int(TAIL_SHARE * self.choice.steps)
        for member in range(self.options["members"]):
            own = Lesson(
                lesson.activations,
                lesson.labels,
                lesson.scores,
                lesson.values,
                sources,
                lesson.encoded,
                self.fresh_tail(),
                flat,
            )
            trained = Trained(own, recipe, seed + 104729 * member)
            if own.tail is None:
                trained.run(self.choice.steps)
            else:
                trained.run(self.choice.steps - with_tail).run(with_tail, tail=True)
            network = trained.network.eval().requires_grad_(False)
            if network.tail is not None:  # as it is saved, so that a loaded one says the same
                self.tails.append(packed(network.tail, self.fresh_tail()))
                unpack(self.tails[-1], network.tail, self.fresh_tail())
            self.networks.append(network)
            self.representations.append(
                np.stack(
                    [
                        self._represent(network, a, seed).mean(dim=0).numpy()
                        for a in lesson.activations
                    ]
                )
            )
        self.described_past = np.stack([self.described(a) for a in lesson.activations])
        around = base_scores(self.past.normalised, sources) if recipe.residual else 0.0
        self.doubt = (self.past.normalised - around).std(axis=0)
        return self

    def settled(self) -> dict[str, Any]:
        return {"steps": self.choice.steps, "strength": self.choice.strength}

    @torch.no_grad()
    def _represent(self, network: HyperSTARNetwork, activations: Tensor, seed: int) -> Tensor:
        """t of random batches of a task, (DRAWS, d)."""
        return network.represent(batches(self.pooled(network, activations), self.images, seed))

    @torch.no_grad()
    def rank(self, task: Task, seed: int = 0) -> Ranking:
        activations, _ = self.activations(task)
        said, distances = [], []
        for network, past in zip(self.networks, self.representations, strict=True):
            t = self._represent(network, activations, seed)
            v = network.scores(t, torch.from_numpy(self.encoded).float()).mean(dim=0)
            # without `residual` strength is 1
            said.append((network.base + self.choice.strength * v).double().numpy())
            distances.append(np.linalg.norm(past - t.mean(dim=0).numpy(), axis=1))
        scores = np.mean(said, axis=0)
        nearest = weights_of(np.mean(distances, axis=0), self.past.tasks)
        doubt = np.sqrt(self.doubt**2 + np.var(said, axis=0))
        predicted, spread = in_unit(self.past, scores, nearest, doubt)
        width = np.maximum(self.described_past.std(axis=0), 1e-6)
        centre = self.described_past.mean(axis=0)
        support, supported = support_of(
            (self.described(activations) - centre) / width, (self.described_past - centre) / width
        )
        base = np.mean([network.base.double().numpy() for network in self.networks], axis=0)
        if np.ptp(base) == 0:  # the plain regression starts from nothing
            return Ranking(self.past, scores, nearest, support, supported, predicted, spread)
        counts = equal_shares(self.past.tasks)  # `base` is the past tasks' plain mean
        return Ranking(
            self.past, scores, nearest, support, supported, predicted, spread, base, counts
        )

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        arrays: Arrays = {
            "encoded": self.encoded,
            "described": self.described_past,
            "doubt": self.doubt,
        }
        for place, (network, past) in enumerate(
            zip(self.networks, self.representations, strict=True)
        ):
            arrays[f"member{place}/representations"] = past
            own = {
                key: value
                for key, value in network.state_dict().items()
                if not key.startswith("tail.")
            }
            arrays |= {f"member{place}/network/{key}": value.numpy() for key, value in own.items()}
        for place, tail in enumerate(self.tails):
            arrays |= {f"member{place}/tail/{key}": value for key, value in tail.items()}
        return arrays, {"steps": self.choice.steps, "strength": self.choice.strength}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        self.choice = Choice(values["steps"], values["strength"])
        self.encoded, self.described_past, self.doubt = (
            arrays["encoded"],
            arrays["described"],
            arrays["doubt"],
        )
        self.networks, self.representations, self.tails = [], [], []
        recipe = self.recipe()
        for place in range(self.options["members"]):
            prefix = f"member{place}/network/"
            state = {
                k.removeprefix(prefix): torch.from_numpy(v)
                for k, v in arrays.items()
                if k.startswith(prefix)
            }
            network = HyperSTARNetwork(
                self.fresh_tail(),
                state["transform.weight"].shape[1],
                self.encoded.shape[1],
                len(state["base"]),
                width=recipe.width,
                hidden=recipe.hidden,
                dropout=recipe.dropout,
                residual=recipe.residual,
            )
            prefix = f"member{place}/tail/"
            tail = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            try:
                # the trunk's tail is not in it
                found = network.load_state_dict(state, strict=False)
                if wrong := [
                    k
                    for k in (*found.missing_keys, *found.unexpected_keys)
                    if not k.startswith("tail.")
                ]:
                    raise BadInput(
                        f"the weights of {self.name} do not fit its network: {', '.join(wrong)}"
                    )
                if network.tail is not None:
                    unpack(tail, network.tail, self.fresh_tail())
                    self.tails.append(tail)
            except (RuntimeError, KeyError) as error:
                raise BadInput(
                    f"the weights of {self.name} do not fit its network: {error}"
                ) from error
            self.networks.append(network.eval().requires_grad_(False))
            self.representations.append(arrays[f"member{place}/representations"])


class HyperSTAR(JointPredictor):
    """HyperSTAR itself: the representation is learned from raw images, the trunk's tail
    included.
    """

    name: ClassVar[str] = "hyperstar"
    images: ClassVar[int] = 64

    defaults: ClassVar[Mapping[str, Any]] = {
        **JointPredictor.defaults,
        "members": 3,
        "similarity": True,
        "adversarial": True,
        "trunk": "mobilenet_v2",
        "size": 48,
        "pool": 384,
    }

    def recipe(self) -> Recipe:
        return Recipe(
            residual=self.options["residual"],
            inner=self.options["inner"],
            images=self.images,
            alpha=ALPHA if self.options["similarity"] else 0.0,
            beta=BETA if self.options["adversarial"] else 0.0,
        )

    def activations(self, task: Task) -> tuple[Tensor, np.ndarray]:
        return kept_activations(
            self.options["trunk"], self.options["size"], task, self.options["pool"]
        )

    def fresh_tail(self) -> torch.nn.Module:
        return trunk(self.options["trunk"], self.options["size"]).fresh_tail()

    def described(self, activations: Tensor) -> np.ndarray:
        """Mean over images of the trunk's activations, averaged over pixels: nothing that was
        fitted to past tasks.
        """
        return activations.float().mean(dim=(0, 2, 3)).double().numpy()


def packed(tail: torch.nn.Module, start: torch.nn.Module | None) -> Arrays:
    """What training changed about a tail, by parameter: whole numbers from -127 to 127 and, under
    `NAME:step`, what one of them is worth.
    """
    assert start is not None
    before, out = dict(start.named_parameters()), {}
    for name, value in tail.named_parameters():
        change = value.detach() - before[name].detach()
        step = float(change.abs().max()) / 127
        out[name] = (
            (change / step).round().to(torch.int8).numpy()
            if step
            else np.zeros(tuple(change.shape), np.int8)
        )
        out[f"{name}:step"] = np.array([step], np.float32)
    return out


@torch.no_grad()
def unpack(changes: Arrays, tail: torch.nn.Module, start: torch.nn.Module | None) -> None:
    """Set a tail to `start` and what `packed` says changed. Raises KeyError for a parameter that is
    missing.
    """
    assert start is not None
    before = dict(start.named_parameters())
    for name, value in tail.named_parameters():
        step = float(changes[f"{name}:step"][0])
        value.copy_(before[name] + step * torch.from_numpy(changes[name]).float())
