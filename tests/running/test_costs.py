"""What a study with a budget of time expects of its epochs and of its end."""

from dataclasses import replace

import numpy as np
import pytest
from small_training import config, task

from foretune.running.costs import Larger, alone, costs_of, no_final
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.study.pace import Costs, pace_of
from foretune.training.cost import Parts
from foretune.training.settings import Settings

POOL = transfer_pool()


def many(images):
    """A task of so many images, six tenths of them to train on, two to validate."""
    split = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [images * k // 10 for k in (6, 2, 2)])
    return replace(
        task(),
        images=np.zeros((images, 1, 1, 3), np.uint8),
        labels=np.arange(images) % 3,
        split=split,
    )


def test_the_final_training_costs_what_its_images_cost():
    costs = costs_of(Settings(), Space(transfer_space()), many(5000), 1, final=True)
    for one in POOL:
        late, early = costs.final(one)
        # 4,000 images in place of 400 and the look at 300 others
        assert 4000 / 700 < early < 10.5
        # a late epoch of a head is as much checkpoint as images
        assert 3 < late < 10.5
    plain = costs_of(Settings(), Space(transfer_space()), many(5000), 1)
    assert plain.final is None
    assert costs.after == pytest.approx(2 * plain.after)  # both networks are tested


def test_images_that_are_not_augmented_are_early_for_one_epoch_only():
    costs = costs_of(Settings(), Space(transfer_space()), many(500), 1, final=True)
    frozen = config(finetune="head", augmentation="none")
    pace = pace_of(costs, [frozen], np.zeros((1, 1)), {}, 0.0)
    later, early = pace.final[0]
    assert early > 5 * later  # the trunk is passed through
    assert pace.final_seconds(np.array([6]))[0] == pytest.approx(early + 5 * later)
    assert costs.early(config(finetune="head", augmentation="crop_flip")) == 4


def test_of_a_network_that_cannot_be_counted_images_decide():
    assert Larger(Parts(400, 300), Parts(4000, 0))(config()) == (10.0, 10.0)


def test_too_few_minutes_for_a_final_training_are_said_beforehand():
    costs = Costs(lambda c: (2.0, 3.0), after=4.0, fixed=6.0, final=lambda c: (10.0, 10.0))
    assert no_final(costs, POOL, 43.0) is None  # 3 + 30 + 10
    said = no_final(costs, POOL, 42.0)
    assert "42 s are left, too little" in said and "about 30.0 s" in said and "about 2 min" in said
    late = no_final(costs, POOL, -134.0)  # on a machine where a start takes minutes
    assert "the time was up 134 s before the first epoch" in late and "about 4 min" in late
    assert no_final(replace(costs, final=None), POOL, 1.0) is None
    assert no_final(replace(costs, expected=None), POOL, 1.0) is None


def test_alone_a_worker_has_what_the_others_leave():
    """Two cores, two workers: with two more programs each has half of one, alone two thirds; with a
    share of .7 it has the whole core; on a machine of its own nothing changes.
    """
    assert alone(0.5, workers=2, threads=1, cores=2) == pytest.approx(0.5 / (2 / 3))
    assert alone(0.7, 2, 1, 2) == pytest.approx(0.7)
    assert alone(1.0, 2, 1, 2) == 1 and alone(0.3, 1, 1, 2) == 1
    # eight threads of two workers and eight of others on eight cores: half, alone two thirds
    assert alone(0.5, 2, 4, 8) == pytest.approx(0.5 / (8 / 12))
