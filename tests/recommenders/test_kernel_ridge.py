"""Kernel ridge on descriptions: against its closed form, shrunk where there is nothing to learn."""

from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.average_precision import ap_at_k
from foretune.recommenders import kernel_ridge
from foretune.recommenders.baselines import TaskAgnostic
from foretune.recommenders.kernel_ridge import KernelRidge, Ridge, choose, kernel, left_out
from foretune.recommenders.metadata import metadata


def told(signal: float, tasks: int = 16, configs: int = 12, noise: float = 0.1, seed: int = 0):
    """Descriptions of which the first decides the scores as far as `signal`."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(tasks, 3))
    scores = signal * np.outer(raw[:, 0], rng.normal(size=configs)) + rng.normal(size=configs)
    return raw, scores + noise * rng.normal(size=scores.shape), [f"s{t // 2}" for t in range(tasks)]


def test_it_is_the_mean_of_a_gaussian_process_on_the_residuals():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    raw, scores, _ = told(1.0)
    ridge = Ridge(1.0, 0.3, 1.0)
    length = kernel_ridge.median_distance(raw)
    process = GaussianProcessRegressor(RBF(length, "fixed"), alpha=0.3)
    process.fit(raw, scores - scores.mean(axis=0))
    new = np.random.default_rng(1).normal(size=(4, 3))
    assert ridge.beyond(raw, scores, new) == pytest.approx(process.predict(new), abs=1e-9)
    assert kernel(raw, raw, length)[0, 1] == pytest.approx(RBF(length)(raw)[0, 1])


def test_what_descriptions_tell_is_believed_and_noise_is_not():
    def explained(*world):
        """Share of the residuals' size that is added to the list, sources left out."""
        raw, scores, sources = world
        chosen = choose(raw, scores, sources)
        mean, beyond = left_out(raw, scores, sources, chosen)
        return ((chosen.strength * beyond) ** 2).mean() / ((scores - mean) ** 2).mean()

    assert explained(*told(2.0, tasks=30)) > 0.5
    assert explained(*told(0.0, tasks=30, noise=1.0)) < 0.05
    assert choose(*(part[:4] for part in told(2.0))).strength == 0  # two sources


def test_a_source_is_never_its_own_past():
    raw, scores, sources = told(1.0)
    ridge = Ridge(1.0, 0.3, 1.0)
    mean, beyond = left_out(raw, scores, sources, ridge)
    moved = scores.copy()
    moved[:2] += 100.0  # the first source's own
    again_mean, again = left_out(raw, moved, sources, ridge)
    assert (again_mean[:2] == mean[:2]).all() and (again[:2] == beyond[:2]).all()
    assert (again_mean[2:] != mean[2:]).all()


def test_colours_tell_it_which_configuration_is_best(world, monkeypatch, tmp_path: Path):
    """On pictures without landmarks of their own: metadata stands for both."""
    monkeypatch.setattr(kernel_ridge, "landmarks", lambda task: np.zeros(10))
    fitted = KernelRidge().fit(world.meta, world.past)
    pairs = list(zip(world.new, world.values, strict=True))

    def ap(of):
        return np.mean([ap_at_k(of.rank(task).scores, values, 10) for task, values in pairs])

    assert ap(fitted) > ap(TaskAgnostic().fit(world.meta, world.past)) + 0.2
    ranking = fitted.rank(world.new[0])
    assert ranking.base == pytest.approx(fitted.past.normalised.mean(axis=0))
    half = KernelRidge(shrink=0.5).fit(world.meta, world.past).rank(world.new[0])
    assert half.scores - half.base == pytest.approx((ranking.scores - ranking.base) / 2)
    fitted.save(tmp_path)
    again = KernelRidge.load(tmp_path).rank(world.new[0])
    assert np.array_equal(again.scores, ranking.scores)
    assert kernel_ridge.described(world.new[0])[10:] == pytest.approx(metadata(world.new[0]))


def test_a_share_beyond_one_is_refused():
    with pytest.raises(BadInput, match="shrink"):
        KernelRidge(shrink=2.0)
