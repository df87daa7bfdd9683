"""The Siamese recommender, on a world where the pictures' statistics decide which configurations
work.
"""

from functools import cache

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past
from foretune.recommenders.siamese.recommender import (
    SiameseNearest,
    mapping_distance,
    nearness,
    statistics,
)
from foretune.space.space import Space
from foretune.tasks.task import Task

SMALL = {
    "tau": 8,
    "group": 12,
    "beta": 40,
    "iterations": 70,
    "sub_tasks": 6,
    "draws": 6,
    "size": 16,
    "most_images": 60,
}
PLACES = np.linspace(0, 1, 25)  # of configurations


def pictures(name: str, u: float, seed: int) -> Task:
    """Stripes that turn from coarse to fine and from dark to bright as u goes from 0 to 1; three
    classes by the stripes' direction.
    """
    rng = np.random.default_rng(seed)
    n, size = 60, 16
    labels = np.arange(n) % 3
    row, column = np.mgrid[:size, :size] / size
    direction = np.stack([row, column, (row + column) / 2])[labels]
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    wave = np.sin(2 * np.pi * (1 + 5 * u) * direction + phase)
    grey = 60 + 120 * u + 35 * wave + rng.normal(0, 12, (n, size, size))
    images = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=3).astype(np.uint8)
    return Task(name, images, labels, ("a", "b", "c"), np.zeros(n, dtype=np.uint8), source=name)


def space() -> Space:
    return Space(
        {
            "name": "line",
            "hyperparameters": [
                {
                    "type": "uniform_float",
                    "name": "x",
                    "lower": 0.0,
                    "upper": 1.0,
                    "default_value": 0.5,
                    "log": False,
                }
            ],
            "conditions": [],
            "forbiddens": [],
            "format_version": 0.4,
        }
    )


@cache
def world(tasks: int = 20) -> tuple[MetaDataset, dict[str, Task], np.ndarray]:
    """Tasks p0, p1, ... of which configuration x is the best at x = u."""
    rng = np.random.default_rng(7)
    u = rng.permutation(np.linspace(0, 1, tasks))
    rows = [
        {
            "task": f"p{t}",
            "config_id": i,
            "seed": 0,
            "epoch": 1,
            "accuracy": 0.9 - 0.7 * abs(x - u[t]) + rng.normal(0, 0.01),
        }
        for t in range(tasks)
        for i, x in enumerate(PLACES)
    ]
    configs = {i: {"x": float(x)} for i, x in enumerate(PLACES)}
    meta = MetaDataset.build(
        space(),
        configs,
        rows,
        metric="accuracy",
        goal="maximize",
        tasks=[f"p{t}" for t in range(tasks)],
    )
    return meta, {f"p{t}": pictures(f"p{t}", u[t], t) for t in range(tasks)}, u


@cache
def fitted() -> tuple[SiameseNearest, list[str], list[str]]:
    """Fitted on 14 tasks, with the names of those and of the 6 held out."""
    meta, tasks, _ = world()
    past, held = meta.tasks[:14], meta.tasks[14:]
    return SiameseNearest(**SMALL).fit(meta.select(past), tasks, seed=0), past, held


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    place = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.corrcoef(*place)[0, 1])


def test_predicted_distances_order_pairs_with_held_out_tasks():
    meta, tasks, _ = world()
    chosen, _, held = fitted()
    target = mapping_distance(Past.of(meta).normalised)
    predicted = np.stack([chosen.distances(tasks[name]) for name in held])
    wanted = target[14:, :14]
    assert rank_correlation(predicted.ravel(), wanted.ravel()) > 0.7
    assert min(rank_correlation(p, w) for p, w in zip(predicted, wanted, strict=True)) > 0.3
    assert np.mean(chosen.losses[-10:]) < 0.3 * np.mean(chosen.losses[:3])


def test_the_ranking_of_a_held_out_task_is_better_than_the_mean_over_tasks():
    meta, tasks, _ = world()
    chosen, past, held = fitted()
    best = Past.of(meta).filled
    blind = Past.of(meta.select(past)).normalised.mean(axis=0)
    aware, mean = [], []
    for name in held:
        truth = best[meta.tasks.index(name)]
        ranking = chosen.rank(tasks[name])
        aware.append(truth.max() - truth[ranking.order[0]])
        mean.append(truth.max() - truth[int(np.argmax(blind))])
        assert abs(sum(ranking.nearest.values()) - 1) < 1e-9 and set(ranking.nearest) <= set(past)
        assert (
            len(ranking.nearest) == 3
            and list(ranking.nearest.values()) == sorted(ranking.nearest.values())[::-1]
        )
    assert np.mean(aware) < 0.5 * np.mean(mean)


def test_predictions_are_in_the_metric_s_unit_and_come_with_a_spread():
    meta, tasks, _ = world()
    chosen, _, held = fitted()
    truth = Past.of(meta).filled
    errors = []
    for name in held:
        ranking = chosen.rank(tasks[name])
        errors.append(np.abs(ranking.predicted - truth[meta.tasks.index(name)]).mean())
        assert (ranking.spread >= 0).all() and ranking.spread.max() > 0
    assert np.mean(errors) < 0.12


def test_a_task_unlike_any_seen_is_not_supported():
    chosen, _, held = fitted()
    _, tasks, _ = world()
    rng = np.random.default_rng(0)
    # coloured noise of full contrast
    odd = rng.integers(0, 2, (60, 16, 16, 3)).astype(np.uint8) * 255
    alien = Task("alien", odd, tasks[held[0]].labels, ("a", "b", "c"), np.zeros(60, dtype=np.uint8))
    ranking = chosen.rank(alien)
    known = [chosen.rank(tasks[name]) for name in held]
    assert not ranking.supported and ranking.support < 0.1 < np.mean([r.support for r in known])
    assert sum(r.supported for r in known) >= 5
    assert ranking.advice.tolist() == ranking.past.portfolio().tolist()


def test_the_same_seed_gives_the_same_and_saving_keeps_it(tmp_path):
    meta, tasks, _ = world()
    names = meta.tasks[:5]
    options = {**SMALL, "iterations": 3}
    first = SiameseNearest(**options).fit(meta.select(names), tasks, seed=3)
    second = SiameseNearest(**options).fit(meta.select(names), tasks, seed=3)
    want = first.rank(tasks["p9"], seed=1)
    assert np.array_equal(want.scores, second.rank(tasks["p9"], seed=1).scores)
    first.save(tmp_path)
    again = SiameseNearest.load(tmp_path).rank(tasks["p9"], seed=1)
    assert np.array_equal(want.scores, again.scores) and want.nearest == again.nearest
    assert not np.array_equal(
        first.distances(tasks["p9"], seed=1), first.distances(tasks["p9"], seed=2)
    )


def test_mapping_distance_is_the_mean_absolute_difference_where_both_are_known():
    best = np.array(
        [[1.0, 2.0, np.nan], [1.5, 2.5, 9.0], [np.nan, np.nan, 8.0], [0.0, np.nan, np.nan]]
    )
    d = mapping_distance(best)
    assert d[0, 1] == 0.5 and d[1, 2] == 1.0 and d[0, 3] == 1.0 and d[1, 3] == 1.5
    assert d[0, 2] == d[2, 3] == 1.0  # no shared configuration: the mean of the others
    assert (np.diag(d) == 0).all() and np.array_equal(d, d.T)


def test_statistics_say_what_pictures_look_like():
    stripes = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    stripes[1] //= 5  # 51: a fifth of the contrast
    got = statistics(stripes)
    assert np.allclose(got[:6], [0.3, 0.3, 0, 0.6, 0, 0]) and np.allclose(
        got[6:], [0.2, 0.2, 0, 0.4, 0, 0]
    )
    red = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert np.allclose(statistics(red)[:3], [1 / 3, 0, 1], atol=1e-6)


def test_nearness_weighs_the_nearest_most():
    shares = nearness(np.array([2.0, 1.0, 4.0, 3.0]), ("a", "b", "c", "d"), 2)
    assert list(shares) == ["b", "a"]
    assert shares["b"] / shares["a"] == pytest.approx(np.exp(0.5))
    assert nearness(np.zeros(2), ("a", "b"), 2) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "loss"}, "target='loss' must be one of accuracy, normalised"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"size": 20}, "size=20 must be a multiple of 8"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        SiameseNearest(**options)


def test_what_was_not_fitted_says_so():
    _, tasks, _ = world()
    with pytest.raises(BadInput, match="not fitted yet"):
        SiameseNearest(**SMALL).distances(tasks["p0"])
