"""What a network's weights know: low-rank parts, knowledge gain, share of layers without any.

EVBMF (Nakajima, Sugiyama, Babacan and Tomioka, JMLR 2013: the global analytic solution of fully
observed variational Bayesian matrix factorization, with priors and noise variance estimated from
the matrix) splits a matrix into a low-rank part and noise.

| symbol  | meaning                                                                                |
|---------|----------------------------------------------------------------------------------------|
| L, M    | sides of the matrix, L <= M (a tall one is transposed); alpha = L / M                  |
| s_j     | singular values, descending; y_j = s_j^2 / M                                           |
| v       | noise variance; x_j = y_j / v                                                          |
| tau(x)  | larger root of (1 + tau)(1 + alpha / tau) = x                                          |
| tau_bar | root of log(1 + tau) + alpha log(1 + tau / alpha) = tau; x_bar = (1 + tau_bar)(1 +     |
|         | alpha / tau_bar)                                                                       |

s_j is kept where x_j > x_bar, and becomes

    d_j = s_j / 2 (1 - (L + M) v / s_j^2 + sqrt((1 - (L + M) v / s_j^2)^2 - 4 L M v^2 / s_j^4)).

The variance minimises the free energy (divided by M, constants dropped)

    F(v) = sum_j y_j / v + L log v
           + sum over kept j of [log(1 + tau_j) + alpha log(1 + tau_j / alpha) - tau_j].

Its slope over log v has a closed form, g(v) = L - sum_j y_j / v + sum over kept j of tau_j, because
d(bracket)/dx = -tau / x. Between two values of v at which a singular value enters or leaves, g is
concave in log v: each such piece has at most one minimum, and Newton's method from the piece's left
end reaches it without overshooting. Every piece that can have a minimum is refined and F compared
at all of them, so the search for the global minimum is exact: no grid, no ranking of pieces by an
estimate. A layer of a ResNet-34 has one to four such pieces, a near-square matrix half of whose
values are signal up to a dozen.

Singular values are roots of the eigenvalues of the small Gram matrix in double precision: those
below 1e-7 of the largest are not resolved (a matrix of exactly low rank comes back with its own
singular values, to 1e-6). Everything runs where the weights lie.

How a convolution's weights (out, in / groups, height, width) are unfolded: rows are output
channels, or input channels; columns are all that such a channel is connected with. Where this needs
a word:

- 1x1: the two unfoldings are transposes of each other: one decomposition serves both.
- grouped: an input channel meets only the filters of its own group: a row has out / groups x height
  x width columns.
- depthwise: left out. Its one unfolding, channels x (height x width), holds filters side by side,
  not a map between channels. With 8 to 32 channels it stays noise up to rates far above those at
  which the other layers fall, so a search for the plateau of a small separable network seldom
  ended; with hundreds of channels it falls with the others, and Z is hardly another without it
  (`bench/spectral.py depthwise`, docs/notes/autohyper.md).
- an unfolding with a side of 1 (one input channel) cannot be split into signal and noise: it is
  left out.
- all zeros: no low-rank part, gain 0. Weights that are not finite raise `BadInput`.

Measured (`bench/spectral.py`): a ResNet-34 (36 convolutions, 69 decompositions) takes 1.1 s of one
busy core for Gram matrices and eigenvalues and 0.04 to 0.06 s for all the rest; singular values of
the same matrices by LAPACK take 13 s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from foretune.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

ELEMENTS = 300_000  # of a work array: it should stay in the processor's cache
# times the largest y: where a matrix has no noise at all, F falls without bound
SMALLEST_VARIANCE = 1e-14


@dataclass(frozen=True)
class Gain:
    """Knowledge gain of one convolution in both unfoldings (Hosseini and Plataniotis, 2020).

    It is sum_j d_j / d_1 / channels, from 0 to 1.

    The ranks count the kept singular values of each; None for an unfolding that was left out.
    """

    layer: str
    output: float | None
    input: float | None
    output_rank: int | None
    input_rank: int | None


@overload
def evbmf(matrix: Tensor) -> Tensor: ...
@overload
def evbmf(matrix: np.ndarray) -> np.ndarray: ...
def evbmf(matrix: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Singular values of the low-rank part of a matrix, descending, float64.

    None are left where all is noise.

    Raises `BadInput` for anything but a finite matrix of real numbers.
    """
    weights = matrix if isinstance(matrix, Tensor) else _tensor(matrix)
    if weights.is_complex():
        raise BadInput(f"evbmf takes a matrix of real numbers, but got {weights.dtype}")
    if weights.ndim != 2 or not weights.numel():
        raise BadInput(f"evbmf takes a matrix, but got an array of shape {tuple(weights.shape)}")
    weights = weights.detach().double()
    scale = float(weights.abs().max()) or 1.0  # squares neither overflow nor vanish
    longer = torch.tensor([max(weights.shape)])
    kept = low_rank(singular_values(gram(weights / scale)[None]), longer)[0] * scale
    kept = kept[kept > 0]
    return kept if isinstance(matrix, Tensor) else kept.cpu().numpy()


def _tensor(matrix: np.ndarray) -> Tensor:
    """`matrix` as torch takes it: native byte order, no negative strides.

    Raises `BadInput` for anything but real numbers.
    """
    import numpy as np

    array = np.asarray(matrix)
    if array.dtype.kind not in "biuf":
        raise BadInput(f"evbmf takes a matrix of real numbers, but got {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


def gram(matrix: Tensor, out: Tensor | None = None) -> Tensor:
    """The Gram matrix (L, L), float64, of the smaller side of `matrix` (rows, ...).

    In `out` if given.
    """
    flat = matrix.detach().to(torch.float64, memory_format=torch.contiguous_format).flatten(1)
    wide = flat if flat.shape[0] <= flat.shape[1] else flat.mT
    return torch.mm(wide, wide.mT, out=out)


def singular_values(grams: Tensor) -> Tensor:
    """Singular values (B, L), descending, float64, from Gram matrices (B, L, L).

    Raises `BadInput` where they are not finite.
    """
    # the diagonal is each row's sum of squares: no other element is larger
    if not bool(torch.isfinite(grams.diagonal(dim1=1, dim2=2)).all()):
        raise BadInput("weights hold values that are not finite: the network has diverged")
    return torch.linalg.eigvalsh(grams).flip(-1).clamp_min(0).sqrt()


def low_rank(s: Tensor, m: Tensor) -> Tensor:
    """d (B, L) for singular values `s` (B, L) of B matrices whose larger sides are `m` (B,).

    0 where a value is noise.
    """
    small = s.shape[1]
    m = m.to(s)[:, None]
    alpha = small / m
    tau_bar = threshold(alpha)
    x_bar = (1 + tau_bar) * (1 + alpha / tau_bar)
    y = s**2 / m
    peak = y[:, :1]
    y = y / peak.where(peak > 0, torch.ones_like(peak))  # F does not depend on the unit
    batch = max(1, ELEMENTS // (small * (small + 2)))
    parts = zip(*(a.split(batch) for a in (y, alpha, tau_bar, x_bar)), strict=True)
    v = torch.cat([_variance(*part) for part in parts])
    noise = v / y.clamp_min(1e-300)  # 1 / x
    half = 1 - (1 + alpha) * noise
    d = s / 2 * (half + (half**2 - 4 * alpha * noise**2).clamp_min(0).sqrt())
    return d.where((y > x_bar * v) & (peak > 0), torch.zeros_like(d))


def threshold(alpha: Tensor) -> Tensor:
    """tau_bar for each alpha in (0, 1] (Nakajima et al. 2013, theorem 2).

    The usual 2.5129 sqrt(alpha) is exact only at alpha = 1.
    """
    # to the right of every root; the function is concave, so Newton's steps stay there
    tau = torch.full_like(alpha, 3.0)
    for _ in range(100):
        gap = torch.log1p(tau) + alpha * torch.log1p(tau / alpha) - tau
        step = gap / (1 / (1 + tau) + alpha / (alpha + tau) - 1)
        tau = tau - step
        if bool((step.abs() <= 1e-15 * tau).all()):
            break
    return tau


def _tau(y: Tensor, v: Tensor, kept: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, tau (0 where not kept) and tau - alpha / tau, each (B, P, most kept).

    They are taken at variances `v` (B, P) with the first `kept` (B, P) values kept.
    """
    width = int(kept.max())
    a = alpha[:, :, None]
    x = y[:, None, :width] / v[:, :, None]
    t = x - (1 + a)
    root = (t * t).sub_(4 * a).clamp_min_(1e-300).sqrt_()
    tau = t.add_(root).mul_(torch.arange(width, device=y.device) < kept[:, :, None]).mul_(0.5)
    return x, tau, root


def _slope(y: Tensor, v: Tensor, kept: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """g and dg / d log v at `v` (B, P) with the first `kept` (B, P) values kept."""
    noise = y.sum(1, keepdim=True) / v
    x, tau, root = _tau(y, v, kept, alpha)
    return y.shape[1] - noise + tau.sum(2), noise - x.mul_(tau).div_(root).sum(2)


def _free_energy(y: Tensor, v: Tensor, kept: Tensor, alpha: Tensor) -> Tensor:
    """F at `v` (B, P) with the first `kept` (B, P) singular values kept."""
    tau = _tau(y, v, kept, alpha)[1]
    a = alpha[:, :, None]
    bracket = torch.log1p(tau) + a * torch.log1p(tau / a) - tau  # 0 where tau is
    return y.sum(1, keepdim=True) / v + y.shape[1] * torch.log(v) + bracket.sum(2)


def _variance(y: Tensor, alpha: Tensor, tau_bar: Tensor, x_bar: Tensor) -> Tensor:
    """The noise variance (B, 1) that minimises F.

    `y` (B, L) descending with maximum 1, the others (B, 1).
    """
    small = y.shape[1]
    place = torch.arange(small, device=y.device)
    # bounds of the minimum: Nakajima et al. 2013, theorem 3
    first = (torch.ceil(small / (1 + alpha)) - 1).clamp(0, small - 1).long()
    tail = y.where(place >= first, torch.zeros_like(y)).sum(1, keepdim=True) / (small - first)
    lower = torch.maximum(y.gather(1, first) / x_bar, tail).clamp_min(SMALLEST_VARIANCE)
    upper = torch.maximum(y.sum(1, keepdim=True) / small, lower)
    breaks = y / x_bar  # v at which a singular value ceases to be kept
    most = (breaks > lower).sum(1, keepdim=True)
    least = (breaks >= upper).sum(1, keepdim=True)
    # piece p = 0, 1, ... starts at `left` with `kept` values; one more column for the upper bound
    p = torch.arange(int((most - least).max()) + 2, device=y.device)[None]
    kept = torch.maximum(most - p, least)
    left = breaks.gather(1, kept.clamp_max(small - 1))
    left = torch.where(p == 0, lower, torch.where(most - p < least, upper, left))
    g, bend = _slope(y, left, kept, alpha)
    at, go, up = left.log(), g[:, :-1], bend[:, :-1]
    right = at[:, 1:]
    # a piece has a minimum only if F falls at its left end and Newton's first step, which is never
    # too long, ends within it
    inside = (go < 0) & (up > 0) & (at[:, :-1] - go / up.clamp_min(1e-300) <= right + 1e-12)
    row, piece = inside.nonzero(as_tuple=True)
    u = _minima(
        y[row], at[row, piece, None], right[row, piece, None], kept[row, piece, None], alpha[row]
    )
    # F at every one of them and at the lower bound, in a table: column 0 is the bound, column p + 1
    # is piece p
    rows = torch.cat([torch.arange(len(y), device=y.device), row])
    columns = torch.cat([torch.zeros_like(first[:, 0]), piece + 1])
    found = torch.cat([lower, u.exp()])
    number = torch.cat([most, kept[row, piece, None]])
    v, energy = torch.zeros_like(left), torch.full_like(left, torch.inf)
    v[rows, columns] = found[:, 0]
    energy[rows, columns] = _free_energy(y[rows], found, number, alpha[rows])[:, 0]
    return v.gather(1, energy.argmin(1, keepdim=True))


def _minima(y: Tensor, u: Tensor, end: Tensor, kept: Tensor, alpha: Tensor) -> Tensor:
    """log v (N, 1) at the minima of F in N pieces from `u` to `end`; `end` where there is none.

    `y` (N, L) are the values of the matrix that each piece is of.
    """
    u = u.clone()
    moving = torch.arange(len(u), device=u.device)
    for _ in range(100):
        if not len(moving):
            break
        go, up = _slope(y[moving], u[moving].exp(), kept[moving], alpha[moving])
        step = (-go / up).where((go < 0) & (up > 0), torch.zeros_like(go))
        u[moving] = torch.minimum(u[moving] + step, end[moving])
        moving = moving[((step > 1e-14 * (1 + u[moving].abs())) & (u[moving] < end[moving]))[:, 0]]
    return u


@dataclass(frozen=True)
class _Unfolding:
    """A matrix to decompose, and how many channels each direction that it serves has.

    It is (rows, ...) and flattened only when it is converted.
    """

    matrix: Tensor
    serves: tuple[tuple[str, str, int], ...]  # (layer, "output" or "input", channels)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.matrix), self.matrix[0].numel()


def _unfold(name: str, weight: Tensor, groups: int) -> Iterable[_Unfolding]:
    weight = weight.detach()
    out, per_group, height, width = weight.shape
    by_input = weight.transpose(0, 1)
    if groups > 1:
        grouped = weight.reshape(groups, out // groups, per_group, -1)
        by_input = grouped.transpose(1, 2).flatten(0, 1)
    outward, inward = (name, "output", out), (name, "input", groups * per_group)
    pairs: list[tuple[Tensor, tuple[tuple[str, str, int], ...]]]
    if per_group == 1 < groups:
        pairs = []
    elif groups == 1 and height * width == 1:
        pairs = [(weight, (outward, inward))]
    else:
        pairs = [(weight, (outward,)), (by_input, (inward,))]
    for matrix, serves in pairs:
        unfolding = _Unfolding(matrix, serves)
        if min(unfolding.sides) > 1:
            yield unfolding


def gains(weights: Mapping[str, tuple[Tensor, int]]) -> list[Gain]:
    """The gain of convolution weights (out, in / groups, height, width), in order.

    Each comes with its number of groups.

    Raises `BadInput` where nothing can be unfolded or weights are not finite.
    """
    by_side: dict[int, list[_Unfolding]] = defaultdict(list)
    for name, (weight, groups) in weights.items():
        for unfolding in _unfold(name, weight, groups):
            by_side[min(unfolding.sides)].append(unfolding)
    if not by_side:
        raise BadInput(
            "no convolution of this network is trained (depthwise ones do not count), so its "
            "weights say nothing about a learning rate"
        )
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for side, unfoldings in by_side.items():
        grams = torch.empty(
            len(unfoldings), side, side, dtype=torch.float64, device=unfoldings[0].matrix.device
        )
        for unfolding, place in zip(unfoldings, grams, strict=True):
            gram(unfolding.matrix, out=place)
        s = singular_values(grams)
        d = low_rank(s, torch.tensor([max(u.sides) for u in unfoldings], device=s.device))
        share = (d / d[:, :1].clamp_min(1e-300)).sum(1).tolist()
        ranks = (d > 0).sum(1).tolist()
        for unfolding, total, rank in zip(unfoldings, share, ranks, strict=True):
            for layer, direction, channels in unfolding.serves:
                found[layer, direction] = total / channels, rank
    nothing = None, None
    out = []
    for name in weights:
        output, into = found.get((name, "output"), nothing), found.get((name, "input"), nothing)
        out.append(Gain(name, output[0], into[0], output[1], into[1]))
    return out


def knowledge_gain(network: nn.Module, trained_only: bool = True) -> list[Gain]:
    """The gain of every convolution of `network` (equation 3 of the autoHyper paper), in order.

    With `trained_only`, of those whose weights take gradients. Fully connected layers have none.
    Raises `BadInput` where there is no such convolution or weights are not finite.
    """
    convs = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    chosen = {name: m for name, m in convs.items() if m.weight.requires_grad or not trained_only}
    return gains({name: (m.weight, m.groups) for name, m in chosen.items()})


def zero_share(layers: Sequence[Gain]) -> float:
    """Z_t of the autoHyper paper: the share of layers and unfoldings without knowledge gain.

    floor(1 - G) is 1 where G = 0 and 0 elsewhere. 1 at random initialisation (all is noise),
    falling as layers learn.
    """
    known = [g for gain in layers for g in (gain.output, gain.input) if g is not None]
    if not known:
        raise BadInput("no convolution has an unfolding that can be split into signal and noise")
    return sum(g == 0 for g in known) / len(known)


def network_rank(network: nn.Module, trained_only: bool = True) -> float:
    """Z_t of a network as it is now: `zero_share` of its `knowledge_gain`."""
    return zero_share(knowledge_gain(network, trained_only))
