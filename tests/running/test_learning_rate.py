"""The search on a study: outcome, resuming, refusals; Z beside real epochs."""

import math

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.running.learning_rate import Found, learning_rate_search
from foretune.running.objectives.training import Training
from foretune.running.workers import InProcess
from foretune.searchers.autohyper import Rules, search
from foretune.study.outcome import Outcome
from foretune.tasks.task import Task
from foretune.training.recipe import Settings


def a_task(seed=0, n=60):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = (rng.integers(0, 60, size=(n, 32, 32, 3)) + 60 * labels[:, None, None, None]).astype(
        np.uint8
    )
    return Task(
        "toy",
        images,
        labels.astype(np.int64),
        ("a", "b", "c"),
        (np.arange(n) // 3 % 3).astype(np.uint8),
    )


def falling(rate):
    return round(20 / (1 + (rate / 3e-3) ** 2)) / 20


class Synthetic:
    """Rows of a response that is known; rates above 0.05 diverge in epoch 2."""

    def __init__(self):
        self.runs = []

    def run(self, config_id, config, start, stop, on_epoch=None):
        rate = config["learning_rate"]
        self.runs.append(rate)
        last = 1 if rate > 0.05 else stop
        rows = [
            {"epoch": e, "valid_accuracy": 0.5, "train_loss": 1 / e, "zero_share": falling(rate)}
            for e in range(start + 1, last + 1)
        ]
        for row in rows if on_epoch else []:
            on_epoch(row)
        return Outcome(rows, "loss is nan" if last < stop else None)


def test_search_ends_at_the_walks_choice_with_every_trial_kept(tmp_path):
    objective = Synthetic()
    found = learning_rate_search(
        a_task(), "adagrad", folder=tmp_path / "s", workers=InProcess(objective)
    )
    alone = search(falling)
    assert found.rate == pytest.approx(alone.chosen)
    assert [t.rate for t in found.trials] == pytest.approx(list(alone.trained))
    assert found.trials[0].curve == (falling(found.trials[0].rate),) * 5
    assert found.trials[0].losses == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert found.epochs == 5 * len(found.trials)
    assert (found.optimizer, found.converged, found.informative) == ("adagrad", True, True)
    assert f"{found.rate:.3g}" in found.text and "adagrad" in found.text
    again = learning_rate_search(
        a_task(), "adagrad", folder=tmp_path / "s", workers=InProcess(objective)
    )
    # nothing was trained again
    assert again.rate == found.rate and len(objective.runs) == len(found.trials)


def test_search_goes_on_after_a_kill_in_the_middle(tmp_path):
    class Killed(Synthetic):
        def run(self, *args, **kwargs):
            if len(self.runs) == 6:
                raise KeyboardInterrupt
            return super().run(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        learning_rate_search(a_task(), folder=tmp_path / "s", workers=InProcess(Killed()))
    rest = Synthetic()
    found = learning_rate_search(a_task(), folder=tmp_path / "s", workers=InProcess(rest))
    assert found.rate == pytest.approx(search(falling).chosen)
    assert len(rest.runs) == len(found.trials) - 6


def test_a_search_that_hit_a_limit_goes_on_with_a_larger_one(tmp_path):
    for k, (least, more) in enumerate(
        [(Rules(trials=3), Rules()), (Rules(high=2e-4, largest=4e-4), Rules(high=2e-4))]
    ):
        first, rest, again = Synthetic(), Synthetic(), Synthetic()
        cut = learning_rate_search(
            a_task(), rules=least, folder=tmp_path / f"{k}", workers=InProcess(first)
        )
        assert not cut.converged and 0 < len(first.runs) <= least.trials
        found = learning_rate_search(
            a_task(), rules=more, folder=tmp_path / f"{k}", workers=InProcess(rest)
        )
        alone = search(falling, more)
        assert found.rate == pytest.approx(alone.chosen) and found.converged == alone.converged
        # nothing was trained again
        assert first.runs + rest.runs == pytest.approx(list(alone.trained))
        assert (
            learning_rate_search(
                a_task(), rules=more, folder=tmp_path / f"{k}", workers=InProcess(again)
            ).trials
            == found.trials
        )
        assert again.runs == []
        with pytest.raises(BadInput, match="below what study"):
            learning_rate_search(
                a_task(), rules=least, folder=tmp_path / f"{k}", workers=InProcess(again)
            )
    with pytest.raises(BadInput, match="another"):  # this one would turn the walk
        learning_rate_search(
            a_task(), rules=Rules(alpha=1e-4), folder=tmp_path / "0", workers=InProcess(again)
        )


def test_divergence_counts_as_too_large_a_rate():
    found = learning_rate_search(
        a_task(), rules=Rules(low=0.04, high=0.5), workers=InProcess(Synthetic())
    )
    failed = [t.rate for t in found.trials if math.isnan(t.z)]
    assert all(rate > 0.05 for rate in failed) and found.rate < 0.06


def test_refusals(tmp_path):
    with pytest.raises(BadInput, match="pretrained: false"):
        learning_rate_search(a_task(), settings=Settings())
    learning_rate_search(a_task(), folder=tmp_path / "s", workers=InProcess(Synthetic()))
    with pytest.raises(BadInput, match="another"):
        learning_rate_search(a_task(seed=1), folder=tmp_path / "s", workers=InProcess(Synthetic()))
    with pytest.raises(BadInput, match="another"):
        learning_rate_search(a_task(), "sgd", folder=tmp_path / "s", workers=InProcess(Synthetic()))
    with pytest.raises(BadInput, match="warp"):
        learning_rate_search(a_task(), "warp")


def test_a_search_goes_on_on_another_device(tmp_path):
    settings = Settings(pretrained=False, device="cpu")
    found = learning_rate_search(
        a_task(), settings=settings, folder=tmp_path / "s", workers=InProcess(Synthetic())
    )
    other = Settings(pretrained=False, device="auto")
    again = learning_rate_search(
        a_task(), settings=other, folder=tmp_path / "s", workers=InProcess(rest := Synthetic())
    )
    assert (again.rate, again.trials, rest.runs) == (found.rate, found.trials, [])


def test_a_flat_response_is_told():
    found = Found("adam", 0.01, True, False, "ends meet", (), 10, 1.0)
    assert "no learning rate" in found.text


@pytest.mark.slow
def test_rank_training_writes_z_beside_the_same_numbers_as_plain_training(tmp_path):
    from foretune.training.trial import train

    settings = Settings(
        network="shufflenet_v2_x05",
        image_size=32,
        pretrained=False,
        batch_size=10,
        train_limit=0,
        valid_limit=0,
    )
    config = {"learning_rate": 0.1, "optimizer": "sls", "scheduler": "constant"}
    a_task().save(tmp_path / "task.npz")
    objective = Training(tmp_path / "task.npz", settings, tmp_path, keep_best=False, rank=True)
    # the second step resumes
    rows = objective.run(0, config, 0, 1).rows + objective.run(0, config, 1, 2).rows
    plain = train(a_task(), config, 0, 2, settings=settings, seed=0)
    for row, other in zip(rows, plain, strict=True):
        assert 0 <= row["zero_share"] <= 1
        assert (row["train_loss"], row["valid_loss"]) == (other["train_loss"], other["valid_loss"])
    assert "zero_share" not in plain[0]
    outcome = objective.run(1, {**config, "optimizer": "sgd", "learning_rate": 1e18}, 0, 2)
    assert outcome.failed and len(outcome.rows) < 2
