"""Studies beside each other."""

import pytest
import toy

from foretune.errors import BadInput
from foretune.study.study import Step
from foretune.views.comparison import compare, comparison_page, differences, table


def study(values, **plan):
    """A study that was told one trial of these values, epoch by epoch."""
    out = toy.toy_study(None, toy.toy_pool(20), 30, **plan)
    if values:
        out.tell(Step(4, 0, len(values)), values, elapsed=7.0)
    return out


def test_what_each_found_and_cost(tmp_path):
    rows = compare({"a": study([0.1, 0.6, 0.3]), "b": study([0.2, 0.4, 0.5, 0.7], method="sha")})
    assert [(r.name, r.method, r.value, r.epochs, r.trials) for r in rows] == [
        ("a", "random", 0.6, 3, 1),
        ("b", "sha", 0.7, 4, 1),
    ]
    # both reached 0.6: a in its second epoch, b in its fourth
    assert [r.epochs_to_common for r in rows] == [2, 4]
    assert rows[0].config == toy.toy_pool(20)[4]


def test_of_a_loss_the_common_value_is_the_larger_one():
    a, b = (study(v, goal="minimize") for v in ([0.9, 0.5, 0.2], [0.8, 0.6, 0.4, 0.45]))
    assert [r.epochs_to_common for r in compare({"a": a, "b": b})] == [3, 3]
    assert table({"a": a, "b": b})[0][-1] == "epochs to 0.4"


def test_without_a_value_or_of_different_tasks_nothing_is_common():
    for other in (study([]), study([0.4], task="dogs")):
        both = {"a": study([0.6]), "b": other}
        assert [r.epochs_to_common for r in compare(both)] == [None, None]
        widths = {len(line) for line in table(both)}
        assert len(widths) == 1
    assert table(both)[0][0] == "task" and [line[0] for line in table(both)[1:]] == ["toy", "dogs"]
    assert "different tasks" in comparison_page(both)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(BadInput, match="two studies or more"):
        compare({"a": study([0.1])})
    with pytest.raises(BadInput, match=r"a: score \(maximize\); b: score \(minimize\)"):
        compare({"a": study([0.1]), "b": study([0.1], goal="minimize")})


def test_differences_name_what_was_asked_and_the_best_configurations():
    found = dict(differences({"a": study([0.1], seed=1), "b": study([0.2], seed=2)}))
    assert found["seed"] == ["1", "2"] and "task" not in found
    assert found["best x"] == ["0.4", "0.4"]


def test_names_in_the_page_are_escaped():
    page = comparison_page({"<b>": study([0.1, 0.5]), "b": study([0.2, 0.3])})
    assert "<b>" not in page.replace("<b>1", "") and "&lt;b&gt;" in page
