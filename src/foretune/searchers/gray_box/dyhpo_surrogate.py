"""DyHPO's surrogate: a Gaussian process whose kernel is a network of configuration, budget and
learning curve (paper, section 5.1).

Notation, as in the paper: x (d,) configuration, j = budget (epoch, from 1), Y_{j-1} = the curve
y_1..y_{j-1}, B = most epochs.

    phi(x, Y, j) = Linear_256([LeakyReLU(Linear_128([x, j / B])),
                               max over time of Conv_{4 channels, kernel 3}(Y)])
    k = s^2 exp(-|phi - phi'|^2 / (2 l^2)),   y ~ N(m + f, sigma^2)

phi, s, l, m and sigma maximise the marginal likelihood (equation 7) with Adam on batches of 64. Two
things are ours: curves and targets are standardised (median and spread of what was seen, the bad
tail cut at 3 spreads below the median), since raw losses reach 1e34; and the posterior is kept up
to date between fits by appending rows to the Cholesky factor L of K + sigma^2 I, O(n^2) an
observation, instead of being computed anew, O(n^3).

Shapes: n observations, m candidates; V = L^-1 K_* is (n, m).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg import cho_solve

from foretune.gaussian.gp import GrowingCholesky, with_room

CURVE_CHANNELS, KERNEL = 4, 3
WIDTHS = (128, 256)
SLOPE = 0.01  # of the leaky rectifier


@dataclass(frozen=True)
class Scaling:
    """Metric values, higher is better, to standard ones: (value - centre) / spread, not below
    `floor`; a value that is not finite is the floor.

    With `log`, the sign that turns the values into the metric's own unit, their logarithms take
    their place; a metric's value that is not positive has none, and is the floor.
    """

    centre: float = 0.0
    spread: float = 1.0
    floor: float = -3.0
    log: float | None = None

    @classmethod
    def of(cls, values: np.ndarray, log: float | None = None) -> "Scaling":
        """From observed values (k,): median, and the half-range that holds the better part of them;
        unit spread where all are equal.
        """
        values = cls(log=log).label(values)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(log=log)
        centre = float(np.median(finite))
        above = float(np.quantile(finite, 0.9) - centre)
        low = centre - 3 * max(above, (float(finite.max()) - centre) / 3)
        spread = float(np.std(np.maximum(finite, low)))
        known = spread > 1e-12 * max(1.0, abs(centre))
        return cls(centre, spread if known else 1.0, log=log)

    def label(self, values: np.ndarray) -> np.ndarray:
        """What is standardised, higher is better: the values, or logarithms of the metric's."""
        values = np.asarray(values, dtype=float)
        if self.log is None:
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.log * np.log(np.where(self.log * values > 0, self.log * values, np.nan))

    def unit(self, mean: float, deviation: float, sign: float) -> tuple[float, float]:
        """A standard mean and deviation in the metric's own unit, the latter to first order."""
        value = self.centre + self.spread * mean
        if self.log is None:
            return sign * value, self.spread * deviation
        own = math.exp(min(self.log * value, 700.0))
        return own, own * self.spread * deviation

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standard values, same shape."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (self.label(values) - self.centre) / self.spread
        return np.where(np.isfinite(scaled), np.maximum(scaled, self.floor), self.floor)


class DeepKernel:
    """The network phi, the kernel and the likelihood, with their gradient.

    Written out in numpy, since a decision waits for a fit of 30 to 100 such gradients on at most 64
    rows, where torch's autograd spends most of its time on the calls (the same size of network in
    `dpl`: 1.7 to 2.1 times as long a fit on one thread, and seconds at the first one of a process).
    A test holds it to torch's autograd.

    `curve=False` is the paper's ablation without the learning curve.
    """

    def __init__(self, dims: int, curve: bool, rng: np.random.Generator):
        def uniform(
            inputs: int, *shape: int
        ) -> np.ndarray:  # the usual initialisation of such layers (LeCun's bound, as in PyTorch)
            return rng.uniform(-1, 1, shape) / math.sqrt(inputs)

        joined = WIDTHS[0] + (CURVE_CHANNELS if curve else 0)
        self.curve = curve
        self.p: dict[str, np.ndarray] = {
            "w1": uniform(dims + 1, dims + 1, WIDTHS[0]),
            "b1": uniform(dims + 1, WIDTHS[0]),
            "w2": uniform(joined, joined, WIDTHS[1]),
            "b2": uniform(joined, WIDTHS[1]),
            "mean": np.zeros(()),
            "log_scale": np.zeros(()),
            "log_length": np.array(math.log(4.0)),
            "log_noise": np.array(math.log(0.1)),
        }
        if curve:
            self.p |= {
                "conv": uniform(KERNEL, KERNEL, CURVE_CHANNELS),
                "conv_b": uniform(KERNEL, CURVE_CHANNELS),
            }

    @property
    def scale(self) -> float:
        """Prior variance s^2."""
        return math.exp(2 * float(self.p["log_scale"]))

    @property
    def noise(self) -> float:
        """Noise variance, at least 1e-4 of a standard value."""
        return math.exp(2 * float(self.p["log_noise"])) + 1e-4

    def forward(
        self, x: np.ndarray, curves: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """phi / l of x (n, d + 1), budget last, and curves (n, T), zero after their end: (n, 256);
        with what the gradient needs.
        """
        p = self.p
        before = x @ p["w1"] + p["b1"]
        hidden = np.where(before > 0, before, SLOPE * before)
        chosen = None
        if self.curve:
            windows = sliding_window_view(curves, KERNEL, axis=1)  # (n, T - 2, 3)
            response = windows @ p["conv"] + p["conv_b"]  # (n, T - 2, 4)
            where = response.argmax(axis=1)  # (n, 4)
            rows = np.arange(len(x))[:, None]
            chosen = windows[rows, where]  # (n, 4, 3)
            hidden = np.concatenate(
                [hidden, response[rows, where, np.arange(CURVE_CHANNELS)]], axis=1
            )
        phi = (hidden @ p["w2"] + p["b2"]) * math.exp(-float(p["log_length"]))
        return phi, hidden, before, chosen

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariance of features a (k, 256) and b (l, 256): (k, l)."""
        distance = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
        return self.scale * np.exp(-0.5 * np.maximum(distance, 0.0))

    def loss(
        self, x: np.ndarray, curves: np.ndarray, y: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Negative log marginal likelihood per observation, without its constant, and its gradient.

        With A = K + sigma^2 I and a = A^-1 (y - m), the derivative by A is G = (A^-1 - a a^T) / 2.
        Raises LinAlgError where A is not positive definite.
        """
        p, n = self.p, len(y)
        phi, hidden, before, chosen = self.forward(x, curves)
        k = self.kernel(phi, phi)
        factor = np.linalg.cholesky(k + self.noise * np.eye(n))
        inverse = cho_solve((factor, True), np.eye(n), check_finite=False)
        residual = y - p["mean"]
        alpha = inverse @ residual
        value = (0.5 * float(residual @ alpha) + float(np.log(np.diag(factor)).sum())) / n
        by_matrix = 0.5 * (inverse - np.outer(alpha, alpha)) / n
        by_kernel = by_matrix * k
        by_distance = -0.5 * by_kernel
        by_phi = 4 * (by_distance.sum(1)[:, None] * phi - by_distance @ phi)
        by_output = by_phi * math.exp(-float(p["log_length"]))
        by_hidden = by_output @ p["w2"].T
        by_before = by_hidden[:, : WIDTHS[0]] * np.where(before > 0, 1.0, SLOPE)
        gradient = {
            "w1": x.T @ by_before,
            "b1": by_before.sum(0),
            "w2": hidden.T @ by_output,
            "b2": by_output.sum(0),
            "mean": np.array(-alpha.sum() / n),
            "log_scale": np.array(2 * by_kernel.sum()),
            "log_length": np.array(-(by_phi * phi).sum()),
            "log_noise": np.array(2 * np.trace(by_matrix) * (self.noise - 1e-4)),
        }
        if chosen is not None:
            by_pool = by_hidden[:, WIDTHS[0] :]
            gradient |= {"conv": np.einsum("nc,nck->kc", by_pool, chosen), "conv_b": by_pool.sum(0)}
        return value, gradient


def fit(
    net: DeepKernel,
    x: np.ndarray,
    curves: np.ndarray,
    y: np.ndarray,
    *,
    steps: int,
    lr: float,
    batch: int,
    rng: np.random.Generator,
) -> bool:
    """Maximise the marginal likelihood with Adam (Kingma and Ba 2015) on random batches; stops when
    ten epochs bring nothing.

    Changes `net`; returns False on a numerical error.
    """
    first, second = ({k: np.zeros_like(v) for k, v in net.p.items()} for _ in range(2))
    n = len(y)
    per_epoch = max(1, n // batch)
    best, patience, total = math.inf, 0, 0.0
    for step in range(1, steps + 1):
        rows = rng.permutation(n)[:batch]
        try:
            value, gradient = net.loss(x[rows], curves[rows], y[rows])
        except np.linalg.LinAlgError:
            return False
        if not math.isfinite(value):
            return False
        rate = lr * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, g in gradient.items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            net.p[name] = net.p[name] - rate * first[name] / (np.sqrt(second[name]) + 1e-8)
        total += value
        if step % per_epoch == 0:
            mean, total = total / per_epoch, 0.0
            best, patience = (mean, 0) if mean < best - 1e-3 else (best, patience + 1)
            if patience >= 10:
                break
    return all(np.isfinite(v).all() for v in net.p.values())


class Posterior:
    """The exact posterior of f given observations, kept up to date one observation at a time."""

    def __init__(self, net: DeepKernel):
        self.net = net
        self.scale, self.noise, self.mean = net.scale, net.noise, float(net.p["mean"])
        self.cholesky = GrowingCholesky()
        self.phi = np.empty((0, WIDTHS[1]))
        self.white = np.zeros(0)  # L^-1 (y - m)

    @property
    def n(self) -> int:
        """Observations taken in."""
        return self.cholesky.n

    def features(self, x: np.ndarray, curves: np.ndarray) -> np.ndarray:
        """phi of the inputs, (k, 256)."""
        return self.net.forward(x, curves)[0]

    def kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariance of features a (k, 256) and b (l, 256): (k, l)."""
        return self.net.kernel(a, b)

    def condition(self, phi: np.ndarray, y: np.ndarray) -> None:
        """Start over from observations with features (n, 256) and standard values (n,)."""
        self.cholesky.condition(self.kernel(phi, phi) + self.noise * np.eye(len(y)))
        self.phi, self.white = phi, self.cholesky.solve(y - self.mean)

    def row(self, phi: np.ndarray) -> np.ndarray:
        """L^-1 k of one more point with features (256,)."""
        if not self.n:
            return np.empty(0)
        return self.cholesky.solve(self.kernel(self.phi[: self.n], phi[None])[:, 0])

    def append(self, phi: np.ndarray, y: float) -> np.ndarray:
        """Add one observation; returns its new row of L, diagonal last, (n + 1,)."""
        low = self.row(phi)
        pivot = math.sqrt(max(self.scale + self.noise - float(low @ low), 0.5 * self.noise))
        n = self.n
        self.cholesky.append(low, pivot)
        self.white, self.phi = with_room(self.white, n + 1), with_room(self.phi, n + 1)
        self.phi[n] = phi
        self.white[n] = self.cholesky.next_row(n, y - self.mean, self.white)
        return np.append(low, pivot)

    def predict(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (m,), variance (m,) of the latent f at features (m, 256), and V (n, m)."""
        v = self.cholesky.solve(self.kernel(self.phi[: self.n], phi))
        return (
            self.mean + v.T @ self.white[: self.n],
            np.maximum(self.scale - (v * v).sum(0), 0.0),
            v,
        )
