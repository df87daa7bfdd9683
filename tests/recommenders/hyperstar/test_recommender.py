"""HyperSTAR on a world where pictures decide, and its contract."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.history.average_precision import ap_at_k
from foretune.recommenders.base import Recommender
from foretune.recommenders.baselines import RandomOrder, TaskAgnostic
from foretune.recommenders.explanation import Explanation
from foretune.recommenders.hyperstar.recommender import HyperSTAR, packed, unpack
from foretune.tasks.task import Task

TINY: dict[str, Any] = {"trunk": "tiny", "size": 16, "pool": 36, "encoding": "both", "members": 1}


@pytest.fixture(scope="module")
def fitted(world) -> HyperSTAR:
    torch.set_num_threads(1)
    return HyperSTAR(**TINY).fit(world.meta, world.past)


def ap(recommender: Recommender, world) -> float:
    pairs = zip(world.new, world.values, strict=True)
    return float(
        np.mean([ap_at_k(recommender.rank(task, 1).scores, values, 10) for task, values in pairs])
    )


def test_it_reads_the_pictures(fitted: HyperSTAR, world) -> None:
    """The paper's claim, where pictures do decide: 25 points above what does not look."""
    assert ap(fitted, world) > ap(TaskAgnostic().fit(world.meta, world.past), world) + 0.25
    assert ap(fitted, world) > ap(RandomOrder().fit(world.meta, world.past), world) + 0.25
    assert fitted.choice.strength > 0.5
    assert fitted.choice.error < 0.5 * fitted.choice.mean_error


def test_pictures_that_tell_nothing_leave_the_mean_score(world) -> None:
    """Pictures dealt to the wrong tasks: the inner leave-sources-out sees it and keeps little of
    the residual.
    """
    names = list(world.past)
    shuffled = {
        name: world.past[other]
        for name, other in zip(names, np.random.default_rng(3).permutation(names), strict=True)
    }
    found = HyperSTAR(**TINY, similarity=False, adversarial=False).fit(world.meta, shuffled)
    assert found.choice.strength < 0.35


def test_a_ranking_says_what_it_leans_on(fitted: HyperSTAR, world) -> None:
    ranking = fitted.rank(world.new[0], 0)
    best_there = {
        name: float(np.linspace(0, 1, 30)[row.argmax()])
        for name, row in zip(ranking.past.tasks, ranking.past.best, strict=True)
    }
    lean = sum(weight * best_there[name] for name, weight in ranking.nearest.items())
    assert abs(lean - 0.1) < 0.2  # reddish tasks speak for a reddish one
    assert sum(ranking.nearest.values()) == pytest.approx(1)
    assert (
        ranking.predicted is not None and np.abs(ranking.predicted - world.values[0]).mean() < 0.15
    )
    assert ranking.spread is not None and (ranking.spread > 0).all()
    assert ranking.supported


def test_past_tasks_count_alike_and_what_differs_between_images_is_what_they_add(
    fitted: HyperSTAR, world
) -> None:
    """The score is the past tasks' mean, the same for all images, and what these images add
    to it.
    """
    red, blue = (
        fitted.rank(task, 0)
        for task in (world.new[0], next(world.new[k] for k in range(1, 9) if other(world, k)))
    )
    assert (
        Explanation(red).shares
        == Explanation(blue).shares
        == pytest.approx(dict.fromkeys(red.past.tasks, 1 / len(red.past.tasks)))
    )
    z = red.past.normalised
    for ranking in (red, blue):
        assert ranking.base is not None and np.allclose(ranking.base, z.mean(axis=0), atol=1e-5)
        assert Explanation(ranking).image_effect is not None and ranking.predicted is not None
        weight = np.array([ranking.nearest.get(task, 0.0) for task in ranking.past.tasks])
        scale = weight @ ranking.past.level[1]
        assert np.allclose(
            Explanation(ranking).image_effect, scale * (ranking.scores - ranking.base)
        )
    row = int(red.order[0])
    assert Explanation(red).image_effect[row] > 0 > Explanation(blue).image_effect[row]  # type: ignore[index]
    assert [r.task for r in Explanation(red).reasons(row)] == [
        r.task for r in Explanation(blue).reasons(row)
    ]
    said = [(r.kind, r.rank) for r in Explanation(red).reasons(row, 4)]
    assert said[-1] == ("worst", red.past.ranks[:, row].max()) and said[0] == (
        "best",
        red.past.ranks[:, row].min(),
    )


def other(world, k: int) -> bool:
    """Whether the new task `k` is of the other kind than the first."""
    return (world.values[k].argmax() < 15) != (world.values[0].argmax() < 15)


def test_an_unlike_task_is_unsupported(fitted: HyperSTAR, world) -> None:
    stripes = np.zeros((48, 16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    task = Task("stripes", stripes, np.arange(48) % 2, ("a", "b"), np.zeros(48, np.uint8))
    ranking = fitted.rank(task)
    assert not ranking.supported
    assert ranking.advice.tolist() == ranking.past.portfolio().tolist()


def test_same_seed_same_network_and_files_bring_it_back(
    fitted: HyperSTAR, world, tmp_path: Path
) -> None:
    again = HyperSTAR(**TINY, **fitted.settled()).fit(world.meta, world.past)
    assert np.array_equal(again.rank(world.new[1], 5).scores, fitted.rank(world.new[1], 5).scores)
    assert not np.array_equal(
        fitted.rank(world.new[1], 5).scores, fitted.rank(world.new[1], 6).scores
    )
    fitted.save(tmp_path)
    loaded = HyperSTAR.load(tmp_path).rank(world.new[1], 5)
    assert np.array_equal(loaded.scores, fitted.rank(world.new[1], 5).scores)
    assert loaded.nearest == fitted.rank(world.new[1], 5).nearest


def test_weights_that_do_not_fit_are_refused(fitted: HyperSTAR) -> None:
    for part in ("network/transform.bias", "tail/0.weight"):
        arrays, values = fitted.state()
        assert f"member0/{part}" in arrays
        del arrays[f"member0/{part}"]
        loaded = HyperSTAR(**TINY)
        loaded.past = fitted.past
        with pytest.raises(BadInput, match="do not fit"):
            loaded.restore(arrays, values)


def test_a_trained_tail_is_kept_as_small_whole_numbers() -> None:
    start, tail = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    wanted = {name: value.detach().clone() for name, value in tail.named_parameters()}
    changes = packed(tail, start)
    assert changes["weight"].dtype == np.int8 and np.abs(changes["weight"]).max() == 127
    unpack(changes, tail, start)
    for name, value in tail.named_parameters():
        step = float(changes[f"{name}:step"][0])
        assert (value - wanted[name]).abs().max() <= step / 2 + 1e-7
    same = packed(start, start)
    assert not same["weight"].any() and same["weight:step"][0] == 0


def test_each_variant_of_the_paper_learns(world) -> None:
    for options in ({"residual": False}, {"similarity": False}, {"adversarial": False}):
        found = HyperSTAR(**(TINY | {"steps": 60, "inner": 0}), **options).fit(
            world.meta, world.past
        )  # type: ignore[arg-type]
        assert ap(found, world) > 0.5, options


def test_bad_options_are_refused(world) -> None:
    with pytest.raises(BadInput, match="members=0"):
        HyperSTAR(members=0)
    with pytest.raises(BadInput, match="must be mobilenet_v2 or tiny"):
        HyperSTAR(trunk="resnet").fit(world.meta, world.past)
    with pytest.raises(BadInput, match="encoding='words'"):
        HyperSTAR(**(TINY | {"encoding": "words"})).fit(world.meta, world.past)
    with pytest.raises(BadInput, match="missing: t0"):
        HyperSTAR(**TINY).fit(world.meta, {k: v for k, v in world.past.items() if k != "t0"})
