"""The recommender contract: past, ranking, reasons, support, and files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.baselines import TaskAgnostic
from foretune.recommenders.explanation import Explanation
from foretune.recommenders.past import Past, best_over_seeds, support_of, weights_of
from foretune.recommenders.ranking import Ranking, in_unit, variance_of_new

Make = Callable[..., MetaDataset]


def past(best: list[list[float]], sign: float = 1.0) -> Past:
    values = np.array(best)
    return Past(
        tuple(f"t{i}" for i in range(len(values))),
        tuple(range(values.shape[1])),
        values,
        "score",
        sign,
    )


def test_normalised_scores_have_mean_zero_and_deviation_one_per_task() -> None:
    found = past([[1, 2, 3, 4], [0.1, 0.1, 0.1, 0.1]]).normalised
    assert np.allclose(found[0], np.array([-1.5, -0.5, 0.5, 1.5]) / np.std([1, 2, 3, 4]))
    # a task without differences says nothing and divides by nothing
    assert np.allclose(found[1], 0)


def test_a_configuration_without_value_counts_as_the_worst_known() -> None:
    assert past([[3, np.nan, 1]]).filled.tolist() == [[3, 1, 1]]
    assert past([[np.nan, np.nan]]).normalised.tolist() == [[0, 0]]


def test_seeds_are_averaged_where_a_cell_has_several(table: Make) -> None:
    meta = table(np.array([[[1.0, 3.0], [5.0, 2.0]]]))
    frame = meta.table
    again = frame[frame["config_id"] == 0].assign(seed=1, score=[7.0, 1.0])
    both = MetaDataset.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        [*frame.to_dict("records"), *again.to_dict("records")],
        metric="score",
        goal="maximize",
        max_epoch=2,
        tasks=["t0"],
    )
    assert best_over_seeds(both).tolist() == [[5.0, 5.0]]  # (3 + 7) / 2; the other has one seed


def test_order_is_by_score_and_equal_scores_keep_the_pool_order() -> None:
    ranking = Ranking(past([[1, 2, 3, 4]]), np.array([0.2, 0.9, 0.2, 0.5]), {"t0": 1.0})
    assert ranking.order.tolist() == [1, 3, 0, 2]


def test_an_unsupported_task_gets_the_portfolio() -> None:
    known = past([[1, 2, 3, 4], [4, 1, 0, 3]])
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    assert Ranking(known, scores, {"t0": 1.0}).advice.tolist() == [0, 1, 2, 3]
    far = Ranking(known, scores, {"t0": 1.0}, support=0.1, supported=False).advice
    assert far.tolist() == known.portfolio().tolist()
    assert far[0] == 3  # mean regret 1/8, lowest of all
    assert sorted(far) == [0, 1, 2, 3]


def test_reasons_name_place_value_and_weight_heaviest_first() -> None:
    known = past([[-1, -2, -3], [-5, -9, -4]], sign=-1.0)
    ranking = Ranking(
        known, np.zeros(3), {"t0": 1.0}, counts={"t0": 0.3, "t1": 0.7}
    )  # how near they are is another thing
    reasons = Explanation(ranking).reasons(0, 2)
    assert [(r.task, r.rank, r.value, r.weight) for r in reasons] == [
        ("t1", 1, 5.0, 0.7),
        ("t0", 0, 1.0, 0.3),
    ]
    assert len(Explanation(ranking).reasons(0, 1)) == 1
    assert [r.task for r in Explanation(ranking).reasons(0, 2, skip=["t1"])] == ["t0"]


def test_where_tasks_count_alike_the_reasons_are_the_best_and_the_worst_of_them() -> None:
    known = past([[9, 2, 1, 0], [0, 9, 2, 1], [1, 0, 9, 2], [2, 0, 1, 9], [9, 1, 2, 3]])
    equal = dict.fromkeys(known.tasks, 0.2)
    ranking = Ranking(known, np.zeros(4), {"t0": 1.0}, counts=equal)
    found = [(r.task, r.rank, r.kind, r.weight) for r in Explanation(ranking).reasons(0, 4)]
    assert found == [
        ("t0", 0, "best", 0.2),
        ("t4", 0, "best", 0.2),
        ("t2", 2, "worst", 0.2),
        ("t1", 3, "worst", 0.2),
    ]
    assert [r.task for r in Explanation(ranking).reasons(0, 3)] == ["t0", "t4", "t1"]
    assert [r.task for r in Explanation(ranking).reasons(0, 9)] == ["t0", "t4", "t3", "t2", "t1"]
    assert [r.kind for r in Explanation(ranking).reasons(0, 4, skip=["t0", "t1", "t2", "t3"])] == [
        "best"
    ]


def test_what_a_ranking_leans_on_is_the_share_in_its_list() -> None:
    known = past([[4, 3, 2, 1], [0, 1, 2, 3]])
    ranking = Ranking(known, np.zeros(4), {"t0": 1.0}, counts={"t0": 0.25, "t1": 0.75})
    assert list((Explanation(ranking).shares or {}).items()) == [("t1", 0.75), ("t0", 0.25)]
    assert Explanation(Ranking(known, np.zeros(4), {"t0": 1.0})).shares is None  # a forest's, say
    unlike = Ranking(known, np.zeros(4), {"t0": 1.0}, supported=False, counts={"t0": 1.0})
    assert Explanation(unlike).shares == {"t0": 0.5, "t1": 0.5}  # the portfolio


def test_what_the_images_add_is_signed_and_in_the_metrics_unit() -> None:
    known = past([[-4, -2], [-9, -1]], sign=-1.0)  # errors: deviations of 1 and 4
    base, scores = np.array([0.5, -0.5]), np.array([1.5, -1.0])
    ranking = Ranking(known, scores, {"t0": 0.75, "t1": 0.25}, base=base)
    effect = Explanation(ranking).image_effect
    assert effect is not None and effect.tolist() == [-1.75, 0.875]
    assert Explanation(Ranking(known, scores, {"t0": 1.0})).image_effect is None
    far = Ranking(known, scores, {"t0": 1.0}, supported=False, base=base)
    assert Explanation(far).image_effect is None


@pytest.mark.parametrize("scores", [np.zeros(2), np.array([0.0, np.nan, 1.0])])
def test_scores_must_fit_and_be_finite(scores: np.ndarray) -> None:
    with pytest.raises(BadInput, match="scores must be 3 finite numbers"):
        Ranking(past([[1, 2, 3]]), scores, {"t0": 1.0})


def test_support_is_a_leave_one_out_quantile() -> None:
    # distances to the nearest other: 1, 1, 2, 3
    points = np.array([[0.0, 0], [1, 0], [3, 0], [6, 0]])
    assert support_of(np.array([0.5, 0]), points) == (1.0, True)
    # 1.5 away: 2 and 3 are as far
    assert support_of(np.array([4.5, 0]), points) == (pytest.approx(3 / 5), True)
    assert support_of(np.array([9.0, 0]), points) == (pytest.approx(2 / 5), True)
    assert support_of(np.array([9.1, 0]), points) == (pytest.approx(1 / 5), False)


def test_too_few_past_tasks_cannot_say_what_is_unlike() -> None:
    assert support_of(np.array([100.0]), np.array([[0.0], [1.0]])) == (1.0, True)


def test_weights_fall_with_distance_and_sum_to_one() -> None:
    weights = weights_of(np.array([2.0, 1.0, 3.0]), ["a", "b", "c"], k=2)
    assert list(weights) == ["b", "a"]
    assert weights["a"] / weights["b"] == pytest.approx(np.exp(-1))
    assert sum(weights.values()) == pytest.approx(1)


def test_forecasts_in_the_unit_of_the_metric() -> None:
    known = past([[0.2, 0.4], [0.6, 1.0]])  # levels 0.3 and 0.8, widths 0.1 and 0.2
    predicted, spread = in_unit(known, np.array([-1.0, 1.0]), {"t0": 0.5, "t1": 0.5}, 1.0)
    assert predicted.tolist() == pytest.approx([0.4, 0.7])
    # of two equal tasks: sample variance, and the mean's own
    level, range_ = 1.5 * 0.125, 1.5 * 0.005
    assert spread.tolist() == pytest.approx([np.sqrt(0.15**2 + level + range_)] * 2)
    # never beyond
    assert in_unit(known, np.array([9.0, 0.0]), {"t1": 1.0})[0].tolist() == pytest.approx(
        [1.0, 0.8]
    )


def test_a_further_task_differs_from_a_few_by_more_than_they_scatter() -> None:
    """Over many draws, the variance that is named is the squared distance of a new value from the
    weighted mean, whatever the number of tasks.
    """
    rng = np.random.default_rng(0)
    for n in (2, 3, 8):
        values = rng.normal(size=(8000, n + 1))
        weight = np.full(n, 1 / n)
        named = np.mean([variance_of_new(weight, v[:n]) for v in values])
        assert named == pytest.approx(
            np.mean((values[:, n] - values[:, :n].mean(axis=1)) ** 2), rel=0.06
        )


def test_saved_and_loaded_it_says_the_same_and_equal_content_gives_equal_files(
    table: Make, tmp_path: Path
) -> None:
    meta = table(np.random.default_rng(0).random((3, 5, 2)))
    fitted = TaskAgnostic().fit(meta, {})
    fitted.save(tmp_path / "a")
    again = TaskAgnostic.load(tmp_path / "a")
    task = None  # it looks at no task
    assert np.array_equal(again.rank(task).scores, fitted.rank(task).scores)  # type: ignore[arg-type]
    again.save(tmp_path / "b")
    assert [p.name for p in sorted((tmp_path / "a").iterdir())] == [
        "recommender.json",
        "weights.safetensors",
    ]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_torn_or_foreign_folder_is_refused(table: Make, tmp_path: Path) -> None:
    TaskAgnostic().fit(table(np.ones((2, 3, 1))), {}).save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match="holds no recommender that can be read"):
        TaskAgnostic.load(tmp_path)
    with pytest.raises(BadInput, match="holds no recommender that can be read"):
        TaskAgnostic.load(tmp_path / "nowhere")
