"""The final training: on which images, for how long, what it may cost, and that it goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_training import config, settings, task

from foretune.errors import BadInput
from foretune.running import final as finals
from foretune.running.final import (
    Best,
    Cost,
    Final,
    OutOfTime,
    after_search,
    all_but_test,
    cost_of,
    fewest_epochs,
    no_room,
    read_best,
    train_final,
)
from foretune.training import trial
from foretune.training.model_file import Model

BEST = Best(config(), 2, settings(train_limit=9, valid_limit=5))


def write_best(folder: Path, **changes) -> Path:
    from dataclasses import asdict

    said = {"config": BEST.config, "epoch": 2, "settings": asdict(BEST.settings), "seed": 0}
    folder.mkdir(exist_ok=True)
    (folder / "best.yaml").write_text(yaml.safe_dump({**said, **changes}), encoding="utf-8")
    return folder / "best.yaml"


def test_all_images_but_the_test_part_are_trained_on() -> None:
    """The toy: 21 train, 14 valid, 7 test."""
    merged = all_but_test(task())
    assert [int((merged.split == k).sum()) for k in range(3)] == [35, 0, 7]
    assert merged.hash != task().hash
    np.testing.assert_array_equal(merged.part("test")[1], task().part("test")[1])


def test_it_costs_what_its_images_cost() -> None:
    """35 images twice, where an epoch of the search has 9: 70 / 9 epochs of the search."""
    cost = cost_of(task(), BEST.settings, 2, seconds_per_image=0.5)
    assert cost == Cost(2, 35, pytest.approx(70 / 9), pytest.approx(35.0))
    assert str(cost) == "2 epochs on 35 images, as much as 8 of the search"


def test_it_has_room_for_half_the_epochs_and_the_time_that_is_left() -> None:
    cost = Cost(2, 35, 8.0, 30.0)
    assert no_room(cost, 16, None) is None
    assert "more than the 8 that a budget of 15" in str(no_room(cost, 15, None))
    assert no_room(cost, None, None) is None
    assert no_room(cost, 16, 40) is None
    # of 2 epochs of 15 s one sees as many images as the search
    assert fewest_epochs(cost) == 1 and no_room(cost, 16, 15) is None
    assert "about 30 s: more than the 14 s that are left" in str(no_room(cost, 16, 14))
    # three of 10 s: an estimate that may be half too large refuses nothing
    three = Cost(3, 35, 3.0, 30.0)
    assert fewest_epochs(three) == 3 and no_room(three, 16, 21) is None
    assert "more than the 19 s that are left" in str(no_room(three, 16, 19))
    assert "an unknown time" in str(no_room(replace(cost, seconds=None), 16, 1e6))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Final]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_final(BEST, task(), folder)


def test_the_model_is_that_of_plain_training_on_those_images(whole, tmp_path: Path) -> None:
    folder, done = whole
    merged = all_but_test(task())
    plain = replace(BEST.settings, train_limit=0, valid_limit=0)
    rows = trial.train(merged, BEST.config, 0, 2, settings=plain, seed=0, checkpoint=tmp_path / "c")
    assert not any(name.startswith("valid_") for name in rows[-1])
    expected = trial.assess(merged, tmp_path / "c")
    model = Model.load(folder / "final.pt")
    np.testing.assert_array_equal(
        model.probabilities(task().part("test")[0]), expected.probabilities
    )
    assert done.test["accuracy"][0] == expected.metrics["accuracy"].value and done.new == 2
    said = yaml.safe_load((folder / "final.yaml").read_text(encoding="utf-8"))
    assert said["images"] == 35 and said["test_images"] == 7 and said["epochs"] == 2
    assert model.about["trained_on"] == ["train", "valid"] and "valid_accuracy" not in model.about
    assert not list(folder.glob("*.ckpt"))


def test_it_goes_on_from_its_last_epoch_to_the_same_model(whole, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(row) -> None:
        raise Killed

    with pytest.raises(Killed):
        train_final(BEST, task(), tmp_path, on_epoch=killed)
    assert not (tmp_path / "final.pt").exists()
    done = train_final(BEST, task(), tmp_path)
    assert (done.epochs, done.new) == (2, 1)
    images = task().part("test")[0]
    np.testing.assert_array_equal(
        Model.load(tmp_path / "final.pt").probabilities(images),
        Model.load(whole[0] / "final.pt").probabilities(images),
    )


def test_what_is_done_is_not_done_or_measured_again(whole, monkeypatch) -> None:
    folder, done = whole
    monkeypatch.setattr(trial, "train", None)
    monkeypatch.setattr(trial, "assess", None)
    again = train_final(BEST, task(), folder)
    assert again.new == 0
    assert again.test["accuracy"] == pytest.approx(done.test["accuracy"], abs=1e-6)


@pytest.fixture
def slow(monkeypatch):
    """A clock by which each epoch takes 5 s, whatever it trains."""
    clock, plain = [0.0], trial.train
    monkeypatch.setattr(finals.time, "monotonic", lambda: clock[0])

    def train(*asked, on_epoch, **rest):
        def ended(row) -> None:
            clock[0] += 5.0
            on_epoch({**row, "seconds": 5.0})

        return plain(*asked, on_epoch=ended, **rest)

    monkeypatch.setattr(trial, "train", train)


def test_the_time_is_kept_and_what_is_left_is_a_model(tmp_path: Path, slow) -> None:
    """A second epoch would end after 10 s; the first has seen as many images as the search."""
    done = train_final(BEST, task(), tmp_path, seconds=8)
    assert (done.epochs, done.new, done.cost.epochs) == (1, 1, 2)
    said = yaml.safe_load((tmp_path / "final.yaml").read_text(encoding="utf-8"))
    assert (said["epochs"], said["epochs_of_the_winner"]) == (1, 2)
    first = Model.load(tmp_path / "final.pt").probabilities(task().part("test")[0])
    whole = train_final(BEST, task(), tmp_path)
    assert (whole.epochs, whole.new) == (2, 1) and not list(tmp_path.glob("*.ckpt"))
    second = Model.load(tmp_path / "final.pt").probabilities(task().part("test")[0])
    assert not np.array_equal(first, second)


def test_what_has_seen_less_than_the_search_is_no_final_model(tmp_path: Path, slow) -> None:
    """3 epochs of the search saw 63 images, which are 2 of 35."""
    few = replace(BEST, settings=settings(train_limit=0), epoch=3)
    with pytest.raises(OutOfTime) as stopped:
        train_final(few, task(), tmp_path, seconds=8)
    assert stopped.value.epoch == 1 and not (tmp_path / "final.pt").exists()


def test_a_little_more_time_is_taken_where_it_saves_the_model(tmp_path: Path, slow) -> None:
    """The second epoch, which ends after 10 s, makes it one; a third is not begun."""
    few = replace(BEST, settings=settings(train_limit=0), epoch=3)
    done = train_final(few, task(), tmp_path, seconds=8, grace=2)
    assert (done.epochs, done.cost.epochs) == (2, 3) and done.path.exists()


def test_after_a_search_it_is_done_or_one_line_says_why_not(tmp_path: Path) -> None:
    write_best(tmp_path)
    ask = {"folder": tmp_path, "task": task(), "left": None}
    assert "--no-final" in after_search(**ask, wanted=False, budget=100)
    line = after_search(**ask, wanted=None, budget=10)
    assert "as much as 8 of the search: more than the 5 that a budget of 10" in line
    assert f"foretune train {tmp_path / 'best.yaml'} IMAGES makes one" in line
    started = []
    done = after_search(**ask, wanted=True, budget=10, on_start=started.append)
    assert isinstance(done, Final) and started == [done.cost]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "no mapping"),
        ("config: {a: 1}", "lacks 'settings'"),
        ("{", "is no best.yaml"),
        ("{config: {}, epoch: two, settings: {}}", "invalid literal"),
        ("{config: {}, epoch: 0, settings: {}}", "epoch is 0, which must be 1 or more"),
    ],
)
def test_a_file_that_is_no_best_yaml_is_refused(tmp_path: Path, text, complaint) -> None:
    (tmp_path / "best.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_best(tmp_path / "best.yaml")
    with pytest.raises(BadInput, match="there is no file"):
        read_best(tmp_path / "none.yaml")


def test_best_yaml_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_best(write_best(tmp_path)) == BEST
