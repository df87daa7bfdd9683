"""HyperSTAR: rank configurations for a task from its raw images (Mittal et al., CVPR 2020).

Offline (`fit`, Algorithm 1) a network learns to predict the normalised score of a configuration
from batches of a past task's images, its convolutional trunk included. Online (`rank`, Algorithm 2)
it averages its predictions over `DRAWS` = 10 batches of 64 images of the new task. Options switch
the regularisers (`similarity`, `adversarial`), the parametrisation (`residual`) and the encoding of
configurations; docs/notes/recommenders.md says what each is worth.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Arrays, Recommender
from foretune.recommenders.encoding import encoded
from foretune.recommenders.hyperstar.choice import Choice, batches, choose
from foretune.recommenders.hyperstar.network import HyperSTARNetwork
from foretune.recommenders.hyperstar.training import Lesson, NetworkRecipe, Trained, base_scores
from foretune.recommenders.past import equal_shares, support_of, weights_of
from foretune.recommenders.ranking import Ranking, in_unit
from foretune.recommenders.trunk import kept_activations, trunk
from foretune.tasks.task import Task

ALPHA, BETA = 0.5, 0.1  # weights of the regularisers in equation (4), open in the paper
TAIL_SHARE = 0.25  # of the steps, the last ones, also train the trunk's tail


class JointPredictor(Recommender):
    """A task representation, a configuration embedding and a predictor on both, trained together.

    How a task is read is the subclass's.

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
        members, inner = self.options["members"], self.options["inner"]
        steps, strength = self.options["steps"], self.options["strength"]
        if members < 1 or inner < 0 or steps < 0 or not 0 <= strength <= 1:
            raise BadInput(
                f"members={members} must be 1 or more, inner={inner} and steps={steps} 0 or "
                f"more, strength={strength} from 0 to 1"
            )
        self.networks: list[HyperSTARNetwork] = []
        # of the networks whose trunk's tail was trained, as they are saved
        self.tails: list[Arrays] = []

    def recipe(self) -> NetworkRecipe:
        """How the networks are trained."""
        return NetworkRecipe(
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
        """Choose how long and how strongly to train, then train the members, each from its seed."""
        past = self.begin(meta, tasks)
        read = [self.activations(task) for task in past]
        sources = [task.source or task.name for task in past]
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
            flat = [a.float() for a in lesson.activations]
            if tail is not None:
                flat = [tail(a).mean(dim=(2, 3)) for a in flat]
        if self.options["steps"]:
            self.choice = Choice(self.options["steps"], self.options["strength"])
        else:
            self.choice = choose(lesson, recipe, flat, seed)
        self.encoded = lesson.encoded
        self.networks, self.representations, self.tails = [], [], []
        for member in range(self.options["members"]):
            network = self._trained(replace(lesson, pooled=flat), seed + 104729 * member)
            self.networks.append(network)
            represented = [self._represent(network, a, seed) for a in lesson.activations]
            self.representations.append(np.stack([t.mean(dim=0).numpy() for t in represented]))
        self.described_past = np.stack([self.described(a) for a in lesson.activations])
        around = base_scores(self.past.normalised, sources) if recipe.residual else 0.0
        self.doubt = (self.past.normalised - around).std(axis=0)
        return self

    def _trained(self, lesson: Lesson, seed: int) -> HyperSTARNetwork:
        """A network trained by the choice; the last steps train its tail too, which is kept."""
        lesson = replace(lesson, tail=self.fresh_tail())
        training = Trained(lesson, self.recipe(), seed)
        with_tail = 0 if lesson.tail is None else int(TAIL_SHARE * self.choice.steps)
        training.run(self.choice.steps - with_tail)
        if lesson.tail is not None:
            training.run(with_tail, tail=True)
        network = training.network.eval().requires_grad_(False)
        if network.tail is not None:  # as it is saved, so that a loaded one says the same
            self.tails.append(packed(network.tail, self.fresh_tail()))
            unpack(self.tails[-1], network.tail, self.fresh_tail())
        return network

    def settled(self) -> dict[str, Any]:
        """Steps and strength, which the inner leave-sources-out chose."""
        return {"steps": self.choice.steps, "strength": self.choice.strength}

    @torch.no_grad()
    def _represent(self, network: HyperSTARNetwork, activations: Tensor, seed: int) -> Tensor:
        """t of random batches of a task, (DRAWS, d)."""
        return network.represent(batches(self.pooled(network, activations), self.images, seed))

    @torch.no_grad()
    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """The mean of the members' scores; where they differ, the forecast's spread is wider."""
        activations, _ = self.activations(task)
        by_member, distances = [], []
        for network, past in zip(self.networks, self.representations, strict=True):
            t = self._represent(network, activations, seed)
            v = network.scores(t, torch.from_numpy(self.encoded).float()).mean(dim=0)
            # without `residual` strength is 1
            by_member.append((network.base + self.choice.strength * v).double().numpy())
            distances.append(np.linalg.norm(past - t.mean(dim=0).numpy(), axis=1))
        scores = np.mean(by_member, axis=0)
        nearest = weights_of(np.mean(distances, axis=0), self.past.tasks)
        doubt = np.sqrt(self.doubt**2 + np.var(by_member, axis=0))
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
        """The members' weights, their tails as changes to the fresh one, and the choice."""
        arrays: Arrays = {
            "encoded": self.encoded,
            "described": self.described_past,
            "doubt": self.doubt,
        }
        members = zip(self.networks, self.representations, strict=True)
        for place, (network, past) in enumerate(members):
            arrays[f"member{place}/representations"] = past
            arrays |= {
                f"member{place}/network/{key}": value.numpy()
                for key, value in network.state_dict().items()
                if not key.startswith("tail.")
            }
        for place, tail in enumerate(self.tails):
            arrays |= {f"member{place}/tail/{key}": value for key, value in tail.items()}
        return arrays, {"steps": self.choice.steps, "strength": self.choice.strength}

    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave. Raises `BadInput` for weights that do not fit."""
        self.choice = Choice(values["steps"], values["strength"])
        self.encoded, self.doubt = arrays["encoded"], arrays["doubt"]
        self.described_past = arrays["described"]
        self.networks, self.representations, self.tails = [], [], []
        for place in range(self.options["members"]):
            state = {
                key: torch.from_numpy(value)
                for key, value in below(arrays, f"member{place}/network/").items()
            }
            tail = below(arrays, f"member{place}/tail/")
            network = self._restored(state, tail)
            if network.tail is not None:
                self.tails.append(tail)
            self.networks.append(network.eval().requires_grad_(False))
            self.representations.append(arrays[f"member{place}/representations"])

    def _restored(self, state: dict[str, Tensor], tail: Arrays) -> HyperSTARNetwork:
        recipe = self.recipe()
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
        try:
            keys = network.load_state_dict(state, strict=False)  # the trunk's tail is not in it
            if network.tail is not None:
                unpack(tail, network.tail, self.fresh_tail())
        except (RuntimeError, KeyError) as error:
            raise BadInput(f"the weights of {self.name} do not fit its network: {error}") from error
        differing = (*keys.missing_keys, *keys.unexpected_keys)
        if wrong := [key for key in differing if not key.startswith("tail.")]:
            raise BadInput(f"the weights of {self.name} do not fit its network: {', '.join(wrong)}")
        return network


class HyperSTAR(JointPredictor):
    """HyperSTAR itself: the representation is learned from raw images, the tail included."""

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

    def recipe(self) -> NetworkRecipe:
        """With the regularisers that the options switch on."""
        return NetworkRecipe(
            residual=self.options["residual"],
            inner=self.options["inner"],
            images=self.images,
            alpha=ALPHA if self.options["similarity"] else 0.0,
            beta=BETA if self.options["adversarial"] else 0.0,
        )

    def activations(self, task: Task) -> tuple[Tensor, np.ndarray]:
        """The frozen stages' output of at most `pool` images, (N, C, h, w)."""
        name, size, pool = (self.options[o] for o in ("trunk", "size", "pool"))
        return kept_activations(name, size, task, pool)

    def fresh_tail(self) -> torch.nn.Module:
        """The trunk's last stages with their ImageNet weights."""
        return trunk(self.options["trunk"], self.options["size"]).fresh_tail()

    def described(self, activations: Tensor) -> np.ndarray:
        """Mean over images of the trunk's activations, averaged over pixels.

        Nothing in it was fitted to past tasks.
        """
        return activations.float().mean(dim=(0, 2, 3)).double().numpy()


def below(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose name begins with `prefix`, by the rest of it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def packed(tail: torch.nn.Module, start: torch.nn.Module | None) -> Arrays:
    """What training changed about a tail, by parameter, in whole numbers from -127 to 127.

    Under `NAME:step` stands what one of them is worth.
    """
    assert start is not None
    before, out = dict(start.named_parameters()), {}
    for name, value in tail.named_parameters():
        change = value.detach() - before[name].detach()
        step = float(change.abs().max()) / 127
        whole = (change / step).round() if step else torch.zeros_like(change)
        out[name] = whole.to(torch.int8).numpy()
        out[f"{name}:step"] = np.array([step], np.float32)
    return out


@torch.no_grad()
def unpack(changes: Arrays, tail: torch.nn.Module, start: torch.nn.Module | None) -> None:
    """Set a tail to `start` and what `packed` says changed.

    Raises KeyError for a parameter that is missing.
    """
    assert start is not None
    before = dict(start.named_parameters())
    for name, value in tail.named_parameters():
        step = float(changes[f"{name}:step"][0])
        value.copy_(before[name] + step * torch.from_numpy(changes[name]).float())
