"""Configuration kernels of AT2 (section 3.3.2), on configurations as `Space.encode` writes them.

Each is built for a `Layout`, which says which columns belong to which hyperparameter and which
parent choice switches it on; inactive hyperparameters have zeros in their columns and 0 in their
activity column. Gram matrices are (m1, m2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foretune.gaussian.kernels.fidelity import parameter
from foretune.gaussian.kernels.task import positive
from foretune.space.parameters import choices
from foretune.space.space import Space


@dataclass(frozen=True)
class Column:
    """One hyperparameter: its columns, whether they are one-hot, and its activity column (None if
    always active).
    """

    name: str
    first: int
    stop: int
    one_hot: bool
    activity: int | None
    parent: str | None


@dataclass(frozen=True)
class Layout:
    """The hyperparameters of an encoding, in order; `dims` columns in all."""

    columns: tuple[Column, ...]
    dims: int

    @classmethod
    def of(cls, space: Space) -> "Layout":
        """The layout of a space's encoding; of several parents the first counts."""
        conditional = list(space.conditional)
        start = space.dims - len(conditional)
        out = []
        for name, where in space.columns.items():
            activity = start + conditional.index(name) if name in conditional else None
            above = parents_of(space, name)
            one_hot = bool(choices(space.parameters[name]))
            out.append(
                Column(
                    name, where.start, where.stop, one_hot, activity, above[0] if above else None
                )
            )
        return cls(tuple(out), space.dims)


def parents_of(space: Space, name: str) -> list[str]:
    """Names of the hyperparameters that switch `name` on or off."""
    return [p.name for p in space.config_space.parents_of.get(name, [])]


class Numbers(nn.Module):
    """RBF on numeric hyperparameters: the product of exp(-(x - x')^2 / 2 l^2) over them, as three
    products of matrices instead of one Gram matrix for each. With `gated`, each counts only where
    it is active in both configurations, else its factor is 1.
    """

    def __init__(self, columns: Sequence[Column], gated: bool = False):
        super().__init__()
        self.at = [c.first for c in columns]
        self.activity = [c.activity for c in columns] if gated else None
        self.lengths = nn.Parameter(parameter(0.5).detach().repeat(len(columns)))

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Similarity by these hyperparameters; 1 for equal values."""
        z1, z2 = X1[:, self.at] / positive(self.lengths), X2[:, self.at] / positive(self.lengths)
        a1, a2 = (
            torch.ones_like(z) if self.activity is None else X[:, self.activity]
            for z, X in ((z1, X1), (z2, X2))
        )
        z1, z2 = a1 * z1, a2 * z2
        apart = (z1 * z1) @ a2.T - 2 * z1 @ z2.T + a1 @ (z2 * z2).T  # sum of a a' (z - z')^2
        return torch.exp(-0.5 * apart.clamp(min=0.0))


class Choice(nn.Module):
    """Index kernel of a one-hot hyperparameter: b b^T + diag v, scaled to a diagonal of 1; two
    inactive ones are equal.
    """

    def __init__(self, column: Column):
        super().__init__()
        self.at = slice(column.first, column.stop)
        self.shared = nn.Parameter(torch.ones(column.stop - column.first))
        self.own = parameter(0.5)

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Similarity by this hyperparameter alone; 1 for equal values."""
        x1, x2 = X1[:, self.at], X2[:, self.at]
        table = self.shared[:, None] * self.shared[None] + positive(self.own) * torch.eye(
            len(self.shared)
        )
        size = torch.sqrt(torch.diag(table))
        return x1 @ (table / (size[:, None] * size[None])) @ x2.T + (1 - x1.sum(1)[:, None]) * (
            1 - x2.sum(1)[None]
        )


def alone(column: Column) -> nn.Module:
    """The kernel of one hyperparameter."""
    return Choice(column) if column.one_hot else Numbers([column])


class Flat(nn.Module):
    """s times the product over all hyperparameters, the tree ignored: an inactive one counts as the
    value 0.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.numbers = Numbers([c for c in layout.columns if not c.one_hot])
        self.choices = nn.ModuleList(Choice(c) for c in layout.columns if c.one_hot)
        self.scale = parameter(1.0)

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Gram matrix."""
        K = positive(self.scale) * self.numbers(X1, X2)
        for choice in self.choices:
            K = K * choice(X1, X2)
        return K


class Tree(nn.Module):
    """Sum-product over the tree of conditions (Ma and Blaschko, ICML 2020).

    Hyperparameters without a parent are multiplied; each that has children is multiplied by (its
    own kernel + w times the product of the children that are active in both configurations), which
    adds likeness only where both took one branch.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.below: dict[str, list[Column]] = {}  # a parent's children; "" are the roots
        for column in layout.columns:
            self.below.setdefault(column.parent or "", []).append(column)
        self.leaves, self.inner, self.weights = nn.ModuleDict(), nn.ModuleDict(), nn.ParameterDict()
        for parent, children in self.below.items():
            if leaves := [c for c in children if not self.is_inner(c)]:
                self.leaves[key(parent)] = Numbers(leaves, gated=bool(parent))
            for column in filter(self.is_inner, children):
                self.inner[key(column.name)] = alone(column)
            if parent:
                self.weights[key(parent)] = parameter(1.0)
        self.scale = parameter(1.0)

    def is_inner(self, column: Column) -> bool:
        """Whether a hyperparameter has a kernel of its own instead of a share in its siblings': a
        choice, or one with children.
        """
        return column.one_hot or column.name in self.below

    def level(self, parent: str, X1: Tensor, X2: Tensor) -> Tensor:
        """The product of a parent's children, each with everything below it; an inactive one has
        factor 1.
        """
        leaves = key(parent)
        K = self.leaves[leaves](X1, X2) if leaves in self.leaves else torch.ones(len(X1), len(X2))
        for column in filter(self.is_inner, self.below[parent]):
            own = self.inner[key(column.name)](X1, X2)
            if children := self.below.get(column.name):
                activities = [c.activity for c in children]
                together = (X1[:, activities] @ X2[:, activities].T > 0).to(own.dtype)
                own = own + positive(self.weights[key(column.name)]) * together * self.level(
                    column.name, X1, X2
                )
            if column.activity is not None:
                both = X1[:, column.activity][:, None] * X2[:, column.activity][None]
                own = both * own + (1 - both)
            K = K * own
        return K

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Gram matrix."""
        return positive(self.scale) * self.level("", X1, X2)


def key(name: str) -> str:
    """A hyperparameter's name as a key of torch's containers, which take no dots and no empty
    names; the roots' is "roots".
    """
    return name.replace(".", "_") or "roots"


class DeepLinear(nn.Module):
    """s (z . z' + c), z = Linear(tanh(Linear(x))); a one-hot choice times the first layer is its
    learned embedding.
    """

    power = 1

    def __init__(self, layout: Layout):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        d = layout.dims
        self.first, self.second = nn.Linear(d, d), nn.Linear(d, d)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.copy_(torch.randn(d, d, generator=generator) / d**0.5)
                layer.bias.zero_()
        self.offset, self.scale = parameter(1.0), parameter(0.5)

    def features(self, X: Tensor) -> Tensor:
        """z (m, dims)."""
        out: Tensor = self.second(torch.tanh(self.first(X)))
        return out

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Gram matrix."""
        inner = self.features(X1) @ self.features(X2).T + positive(self.offset)
        return positive(self.scale) * inner**self.power


class DeepPoly(DeepLinear):
    """The same network under a second-order polynomial kernel s (z . z' + c)^2."""

    power = 2


CONFIGURATION_KERNELS: dict[str, type[nn.Module]] = {
    "Tree": Tree,
    "Flat": Flat,
    "DeepLinear": DeepLinear,
    "DeepPoly": DeepPoly,
}
