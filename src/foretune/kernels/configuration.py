"""Configuration kernels of AT2 (section 3.3.2), on configurations as `Space.encode` writes them.

Each is built for a `Layout`, which says which columns belong to which hyperparameter and which parent choice switches it
on; inactive hyperparameters have zeros in their columns and 0 in their activity column. Gram matrices are (m1, m2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foretune.kernels.fidelity import parameter
from foretune.kernels.task import positive
from foretune.parameters import choices
from foretune.space import Space


@dataclass(frozen=True)
class Column:
    """One hyperparameter: its columns, whether they are one-hot, and its activity column (None if always active)."""

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
            out.append(Column(name, where.start, where.stop, one_hot, activity, above[0] if above else None))
        return cls(tuple(out), space.dims)


def parents_of(space: Space, name: str) -> list[str]:
    """Names of the hyperparameters that switch `name` on or off."""
    return [p.name for p in space.config_space.parents_of.get(name, [])]


class Part(nn.Module):
    """The kernel of one hyperparameter: RBF on a number, an index kernel (b b^T + diag v, scaled to 1) on a choice."""

    def __init__(self, column: Column):
        super().__init__()
        self.column = column
        if column.one_hot:
            self.shared = nn.Parameter(torch.ones(column.stop - column.first))
            self.own = parameter(0.5)
        else:
            self.length = parameter(0.5)

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Similarity by this hyperparameter alone; 1 for equal values."""
        x1, x2 = X1[:, self.column.first : self.column.stop], X2[:, self.column.first : self.column.stop]
        if self.column.one_hot:
            v = positive(self.own)
            table = self.shared[:, None] * self.shared[None] + v * torch.eye(len(self.shared))
            size = torch.sqrt(torch.diag(table))
            return x1 @ (table / (size[:, None] * size[None])) @ x2.T + (1 - x1.sum(1)[:, None]) * (1 - x2.sum(1)[None])
        apart = (x1[:, 0][:, None] - x2[:, 0][None]) / positive(self.length)
        return torch.exp(-0.5 * apart**2)


class Flat(nn.Module):
    """s times the product over all hyperparameters, the tree ignored: an inactive one counts as the value 0."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.parts = nn.ModuleList(Part(c) for c in layout.columns)
        self.scale = parameter(1.0)

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Gram matrix."""
        K = positive(self.scale) * torch.ones(len(X1), len(X2))
        for part in self.parts:
            K = K * part(X1, X2)
        return K


class Tree(nn.Module):
    """Sum-product over the tree of conditions (Ma and Blaschko, ICML 2020).

    Hyperparameters without a parent are multiplied; each that has children is multiplied by (its own kernel + w times the
    product of the children that are active in both configurations), which adds likeness only where both took one branch.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        self.parts = nn.ModuleDict({c.name.replace(".", "_"): Part(c) for c in layout.columns})
        self.scale = parameter(1.0)
        parents = [c.name for c in layout.columns if any(d.parent == c.name for d in layout.columns)]
        self.weights = nn.ParameterDict({p.replace(".", "_"): parameter(1.0) for p in parents})

    def branch(self, column: Column, X1: Tensor, X2: Tensor) -> Tensor:
        """The kernel of a hyperparameter with everything below it."""
        key = column.name.replace(".", "_")
        own = self.parts[key](X1, X2)
        children = [c for c in self.layout.columns if c.parent == column.name]
        if not children:
            return own
        below, together = torch.ones_like(own), torch.zeros_like(own)
        for child in children:
            assert child.activity is not None
            both = X1[:, child.activity][:, None] * X2[:, child.activity][None]
            below = below * (both * self.branch(child, X1, X2) + (1 - both))
            together = torch.maximum(together, both)
        return own + positive(self.weights[key]) * together * below

    def forward(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Gram matrix."""
        K = positive(self.scale) * torch.ones(len(X1), len(X2))
        for column in self.layout.columns:
            if column.parent is None:
                K = K * self.branch(column, X1, X2)
        return K


class DeepLinear(nn.Module):
    """s (z . z' + c), z = Linear(tanh(Linear(x))); a one-hot choice times the first layer is its learned embedding."""

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
