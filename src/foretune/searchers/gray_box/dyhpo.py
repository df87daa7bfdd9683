"""DyHPO: after every epoch, train the configuration whose next epoch promises the largest
improvement (Wistuba, Kadra and Grabocka, NeurIPS 2022).

Algorithm 1 of the paper, on its deep-kernel surrogate (`dyhpo_surrogate`):

    start with one random configuration for one epoch
    repeat: every configuration stands for its next budget j; take the one with the largest
    EI_MF(x, j) (equations 9 to 11); observe; update

What the text leaves open, and what is ours:

- *Fits.* A fit from scratch at the start, then refits from the last weights: after each of the
  first 10 observations, then when the data grew by 10 %, or sooner when the last five observations
  surprise the model (mean squared z-score above 4). From scratch again on a numerical error, or
  after 1.2 B epochs without a better value (as published). Between refits only the posterior is
  updated.
- *Budget.* With less than a full training left, candidates are compared at the epoch they can still
  reach, against the best of all (`budget_aware`).
- *Workers.* Steps under way are fantasised at their predicted mean: they lower the variance near
  them.
- *Failures.* A diverged epoch counts as the worst standard value; its configuration is no candidate
  any more.
- *Open spaces.* Fresh samples, then neighbours of the most promising, compete with the trials under
  way.

A decision is a function of the history: a fresh object fits again at the same points of
`study.order`, with seeds derived from them. A resumed study loses nothing but the seconds that this
takes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from foretune.errors import at_least, one_of, positive
from foretune.gaussian.acquisition import budget_incumbent, log_expected_improvement, pick
from foretune.gaussian.gp import with_room
from foretune.searchers.base import (
    PerStudy,
    Searcher,
    best_startable,
    draw,
    seen_from,
    with_choice,
)
from foretune.searchers.gray_box.dyhpo_surrogate import (
    WIDTHS,
    DeepKernel,
    Posterior,
    Scaling,
    fit,
)
from foretune.space.space import Config
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

EARLY = 10  # observations after each of which the surrogate is fitted
GROWTH = 0.1  # share of new observations that asks for a refit
SURPRISE = 4.0  # mean squared z-score of the last five observations that asks for one sooner
POSTERIORS, TARGETS = ("latent", "predictive"), ("raw", "log")
STALL = 1.2  # times the most epochs, without a better value: fit from scratch


@dataclass
class Candidates:
    """What the posterior says of the pool: features, V = L^-1 K_*, mean and variance, each at the
    budget `at`; brought up to date row by row.
    """

    posterior: Posterior
    epochs: int  # of a full training
    # (m, 2) budget that a column stands for, and epoch that its curve ends at; -1 = not computed
    at: np.ndarray
    x: np.ndarray  # (m, d), the configuration
    phi: np.ndarray  # (m, 256)
    v: np.ndarray  # (capacity, m)
    mean: np.ndarray
    variance: np.ndarray
    rows: int = 0

    @classmethod
    def empty(cls, posterior: Posterior, epochs: int, dims: int) -> "Candidates":
        """No column yet."""
        return cls(
            posterior,
            epochs,
            np.zeros((0, 2), dtype=int),
            np.zeros((0, dims)),
            np.zeros((0, WIDTHS[1])),
            np.zeros((64, 0)),
            np.zeros(0),
            np.zeros(0),
        )

    def grow(self, m: int) -> None:
        """Columns for a pool of m configurations; new ones are not computed yet."""
        more = m - len(self.at)
        if more > 0:
            self.at = np.pad(self.at, ((0, more), (0, 0)), constant_values=-1)
            self.x = np.pad(self.x, ((0, more), (0, 0)))
            self.mean, self.variance = (
                np.pad(self.mean, (0, more)),
                np.pad(self.variance, (0, more)),
            )
            self.phi, self.v = (
                np.pad(self.phi, ((0, more), (0, 0))),
                np.pad(self.v, ((0, 0), (0, more))),
            )

    def update(
        self, budgets: np.ndarray, reached: np.ndarray, x: np.ndarray, curves: np.ndarray
    ) -> None:
        """Bring all columns to the posterior's present rows, to `budgets` and the epochs `reached`;
        x (m, d), curves (m, T) scaled.
        """
        post = self.posterior
        self.grow(len(budgets))
        now = np.column_stack([budgets, reached])
        # a column of an open space may have stood for a configuration that was not taken
        stale = np.flatnonzero((self.at != now).any(axis=1) | (self.x != x).any(axis=1))
        if len(stale) < len(self.at):
            for r in range(self.rows, post.n):
                self.v = with_room(self.v, r + 1)
                k = post.kernel(post.phi[r : r + 1], self.phi)[0]
                self.v[r] = post.cholesky.next_row(r, k, self.v)
                self.mean += self.v[r] * post.white[r]
                self.variance -= self.v[r] ** 2
        self.rows = post.n
        if len(stale):
            self.v = with_room(self.v, post.n)
            inputs = np.column_stack([x[stale], budgets[stale] / self.epochs])
            self.phi[stale] = post.features(inputs, curves[stale])
            self.mean[stale], self.variance[stale], v = post.predict(self.phi[stale])
            self.v[: post.n, stale] = v
            self.at[stale], self.x[stale] = now[stale], x[stale]


@dataclass
class Model:
    """The surrogate as a fold over `study.order`: the same prefix gives the same weights."""

    dims: int
    epochs: int
    seed: int
    options: "DyHPO"
    net: DeepKernel | None = None
    posterior: Posterior | None = None
    scaling: Scaling = field(default_factory=Scaling)
    order: list[tuple[int, int]] = field(default_factory=list)  # observations taken in
    values: list[float] = field(default_factory=list)
    fitted: int = 0  # observations at the last fit
    stalled: int = 0  # observations at the last better value or fit from scratch
    best: float = -np.inf
    surprises: list[float] = field(default_factory=list)  # squared z-scores since the last fit
    candidates: Candidates | None = None

    def inputs(self, study: Study, pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """x with the budget (k, d + 1), and the scaled curves before that budget, zero after it (k,
        E).
        """
        ids, budgets = (np.array(p, dtype=int) for p in zip(*pairs, strict=True))
        curves = self.curves(study, ids, budgets)
        return np.column_stack([study.X[ids], budgets / self.epochs]), curves

    def curves(self, study: Study, ids: np.ndarray, budgets: np.ndarray) -> np.ndarray:
        """Scaled curves of `ids` up to the epoch before `budgets`, zero where not observed, (k, at
        least 3).
        """
        seen = study.Y[ids]
        known = (np.arange(self.epochs)[None] < budgets[:, None] - 1) & ~np.isnan(seen)
        out = np.where(known, self.scaling(seen), 0.0)
        return np.pad(out, ((0, 0), (0, max(0, 3 - self.epochs))))

    def sync(self, study: Study) -> None:
        """Take in what was told since the last call, refitting where it is due."""
        for pair in study.order[len(self.order) :]:
            self.order.append(pair)
            value = float(study.Y[pair[0], pair[1] - 1])
            self.values.append(value)
            if np.isfinite(value) and value > self.best:
                self.best, self.stalled = value, len(self.order)
            if self.due():
                self.refit(study)
            elif self.posterior is not None:
                self.take(study, pair, value)

    def due(self) -> bool:
        """Whether the data ask for a fit now."""
        n = len(self.order)
        fresh = n - self.fitted
        surprised = (
            len(self.surprises) >= 5
            and np.mean(self.surprises[-5:]) > SURPRISE
            and fresh >= n // 20
        )
        return (
            self.posterior is None
            or n <= EARLY
            or fresh >= GROWTH * n
            or surprised
            or n - self.stalled >= STALL * self.epochs
        )

    def take(self, study: Study, pair: tuple[int, int], value: float) -> None:
        """Append one observation to the posterior."""
        assert self.posterior is not None
        phi = self.posterior.features(*self.inputs(study, [pair]))[0]
        y = float(self.scaling(np.array([value]))[0])
        low = self.posterior.append(phi, y)
        self.surprises.append(
            float(self.posterior.white[self.posterior.n - 1] ** 2) if low[-1] > 0 else 0.0
        )

    def refit(self, study: Study) -> None:
        """Fit the network to all observations, from the last weights unless the search has stalled,
        and condition on them.
        """
        n = len(self.order)
        o = self.options
        values = np.array(self.values)
        self.scaling = Scaling.of(values, study.plan.sign if o.target == "log" else None)
        x, curves = self.inputs(study, self.order)
        y = self.scaling(values)
        scratch = self.net is None or n - self.stalled >= STALL * self.epochs
        rng = np.random.default_rng([self.seed, n])
        for _ in range(3):
            if scratch or self.net is None:
                self.net, self.stalled = DeepKernel(self.dims, o.curve, rng), n
            steps = o.first_steps if scratch else o.refit_steps
            if fit(self.net, x, curves, y, steps=steps, lr=o.lr, batch=o.batch, rng=rng):
                break
            scratch = True
        else:
            self.net = DeepKernel(
                self.dims, o.curve, rng
            )  # three numerical errors in a row: untrained weights are a plain GP
        self.posterior = Posterior(self.net)
        keep = self.kept(study)
        self.posterior.condition(self.posterior.features(x[keep], curves[keep]), y[keep])
        self.fitted, self.surprises, self.candidates = n, [], None

    def kept(self, study: Study) -> np.ndarray:
        """Observations to condition on: all, or with more than `limit` the last of each trial and
        an even selection of the others.
        """
        n, limit = len(self.order), self.options.limit
        if n <= limit:
            return np.arange(n)
        last = {c: k for k, (c, _) in enumerate(self.order)}
        must = np.array(sorted(last.values())[-limit:])
        others = np.setdiff1d(np.arange(n), must)
        return np.sort(
            np.concatenate(
                [
                    must,
                    others[np.linspace(0, len(others) - 1, max(0, limit - len(must))).astype(int)],
                ]
            )
        )


class Outlook(NamedTuple):
    """log EI_MF, mean and standard deviation (standard units) and budget of every configuration of
    the pool, (n,) each.
    """

    utility: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    budgets: np.ndarray


class DyHPO(Searcher):
    """DyHPO with the deep kernel of the paper.

    `epochs` is the number of epochs a step takes; `curve=False` leaves the learning curve out (the
    paper's ablation); `samples` configurations compete in an open space. `lr`, `batch`,
    `first_steps` and `refit_steps` are Adam's; `limit` bounds the observations that the posterior
    holds.

    `posterior` is whose standard deviation EI takes: "latent", the function's, as the paper writes
    it; "predictive", an observation's, with the likelihood's noise, as the published code does.
    With `target` = "log" the surrogate learns the logarithm of a positive metric, in targets and
    curves (the published code holds such a transform of TaskSet's losses, switched off).

    `width` above 0 bounds the number of configurations that are started in the first s epochs
    (progressive widening: Coulom, 2007, there for the moves of a game tree; not in the paper):

        started(s) <= first + width s / E,   E = epochs of a full training

    EI_MF looks one step ahead, where a configuration that nobody has seen keeps a large variance.
    On a pool of as many configurations as the budget has epochs, DyHPO therefore starts one after
    the other and trains hardly any to the end (TaskSet: 800 of 1,000). Which one is new, and which
    paused one goes on otherwise, stays EI_MF's choice among all. The method `dyhpo+` is this with
    `width` = 10, chosen with `first` on the even half of the tasks (`docs/notes/gray-box.md`).
    """

    name = "dyhpo"

    def __init__(
        self,
        curve: bool = True,
        epochs: int = 1,
        budget_aware: bool = True,
        lr: float = 0.01,
        batch: int = 64,
        first_steps: int = 100,
        refit_steps: int = 30,
        samples: int = 512,
        limit: int = 2000,
        width: float = 0.0,
        first: int = 10,
        posterior: str = "latent",
        target: str = "raw",
    ):
        one_of(POSTERIORS, posterior=posterior)
        one_of(TARGETS, target=target)
        at_least(1, epochs=epochs, batch=batch, samples=samples, limit=limit, first=first)
        at_least(1, first_steps=first_steps, refit_steps=refit_steps)
        at_least(0, width=width)
        positive(lr=lr)
        self.curve, self.epochs, self.budget_aware = curve, epochs, budget_aware
        self.lr, self.batch, self.first_steps, self.refit_steps = (
            lr,
            batch,
            first_steps,
            refit_steps,
        )
        self.samples, self.limit = samples, limit
        self.width, self.first = width, first
        self.posterior, self.target = posterior, target
        self._models: PerStudy[Model] = PerStudy()

    def surrogate(self, study: Study) -> Model:
        """The study's model, brought up to its last observation."""
        model = self._models.get(
            study, None, lambda: Model(study.X.shape[1], study.max_epoch, study.seed, self)
        )
        model.sync(study)
        return model

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The step with the largest expected improvement at the next budget."""
        # Algorithm 1 starts from one random configuration; so do further workers before its first
        # value
        if not study.order:
            first = draw(study, rng)
            if first is None:
                return None
            return self.step(study, first, "first configurations are random")
        model, view = self.surrogate(study), study
        if study.open_space and self.may_start(study):
            view = with_choice(study, self.outsider(study, model, rng))
        return seen_from(study, view, self.best(view, model, rng))

    def best(self, study: Study, model: Model, rng: np.random.Generator) -> Suggestion | None:
        """The next step of the configuration of the pool with the largest utility."""
        free = study.available
        ids = np.flatnonzero(free if self.may_start(study) else free & (study.epoch > 0))
        if not len(ids):
            return None
        outlook = self.utility(study, model)
        # improvement for each second, where time is the budget
        rate = outlook.utility[ids] - np.log(study.relative_costs[ids])
        k = int(ids[pick(rate, rng, 1e-9)])
        predicted, spread = model.scaling.unit(
            float(outlook.mean[k]), float(outlook.deviation[k]), study.plan.sign
        )
        why = (
            f"largest expected improvement: epoch {outlook.budgets[k]} predicted {predicted:.4g} ± "
            f"{spread:.2g}"
        )
        return self.step(study, k, why)

    def may_start(self, study: Study) -> bool:
        """Whether a new configuration may be started: below the bound, or nothing that was started
        can go on.
        """
        if not self.width:
            return True
        begun = (study.epoch > 0) | (study.pending > 0)
        below = int(begun.sum()) < self.first + self.width * study.spent / study.max_epoch
        return below or not (study.available & begun).any()

    def step(self, study: Study, choice: Choice, why: str) -> Suggestion:
        """`epochs` more epochs of a configuration."""
        start = int(study.epoch[choice]) if isinstance(choice, int) else 0
        return Suggestion(choice, start, min(start + self.epochs, study.max_epoch), {"why": why})

    def utility(self, study: Study, model: Model) -> Outlook:
        """What the model expects of every configuration of the pool."""
        budgets, best = self.targets(study, model)
        assert model.posterior is not None
        if model.candidates is None:
            model.candidates = Candidates.empty(model.posterior, study.max_epoch, study.X.shape[1])
        c = model.candidates
        c.update(
            budgets, study.epoch, study.X, model.curves(study, np.arange(len(budgets)), budgets)
        )
        variance = c.variance - self.fantasised(study, model, c)
        deviation = self.deviation(variance, model.posterior)
        utility = log_expected_improvement(c.mean, deviation, best)
        return Outlook(utility, c.mean, deviation, budgets)

    def deviation(self, variance: np.ndarray, posterior: Posterior) -> np.ndarray:
        """The standard deviation that EI takes, of the latent function's variances, same shape."""
        noise = posterior.noise if self.posterior == "predictive" else 0.0
        return np.sqrt(np.maximum(variance, 1e-12) + noise)

    def targets(self, study: Study, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """The budget of each configuration's next step, (n,), and the incumbent there in standard
        values, (n,).
        """
        most = study.max_epoch
        if self.budget_aware and study.remaining < most:
            budgets = np.minimum(study.epoch + max(1, study.remaining), most)
            return budgets, np.full(len(budgets), model.scaling(np.array([model.best]))[0])
        budgets = np.minimum(study.epoch + self.epochs, most)
        return budgets, model.scaling(budget_incumbent(study.Y, budgets))

    def fantasised(self, study: Study, model: Model, c: Candidates) -> np.ndarray | float:
        """How much the variance of each candidate falls once the steps under way are told, (n,);
        their mean stays by construction.
        """
        pending = [(int(i), int(study.epoch[i]) + 1) for i in np.flatnonzero(study.pending)]
        if not pending:
            return 0.0
        post = c.posterior
        phi = post.features(*model.inputs(study, pending))
        v = post.cholesky.solve(post.kernel(post.phi[: post.n], phi))  # (n, p)
        spread = post.kernel(phi, phi) - v.T @ v + post.noise * np.eye(len(pending))
        shared = post.kernel(phi, c.phi) - v.T @ c.v[: post.n]  # (p, m)
        return (shared * np.linalg.solve(spread, shared)).sum(0)

    def outsider(self, study: Study, model: Model, rng: np.random.Generator) -> Choice | None:
        """The most promising configuration outside the pool of an open study: of fresh samples,
        then of neighbours of the best eight. Those that were started compete already and are passed
        over.
        """
        assert model.posterior is not None
        configs = study.space.sample(self.samples, rng)
        for _ in range(2):
            order = np.argsort(-self.outside(study, model, configs))[:8]
            best = [configs[k] for k in order]
            configs = best + [
                n for c in best for n in study.space.neighbours(c, rng, max(1, self.samples // 16))
            ]
        chosen = best_startable(study, configs, self.outside(study, model, configs))
        return draw(study, rng) if chosen is None else chosen

    def outside(self, study: Study, model: Model, configs: list[Config]) -> np.ndarray:
        """log EI_MF of configurations that the study does not know, at their first budget, (k,)."""
        assert model.posterior is not None
        budget = min(self.epochs, study.max_epoch)
        x = np.column_stack(
            [study.space.encode(configs), np.full(len(configs), budget / study.max_epoch)]
        )
        curves = np.zeros((len(configs), max(3, study.max_epoch)))
        mean, variance, _ = model.posterior.predict(model.posterior.features(x, curves))
        best = model.scaling(budget_incumbent(study.Y, np.array([budget])))
        return log_expected_improvement(mean, self.deviation(variance, model.posterior), best[0])
