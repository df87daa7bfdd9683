"""BOCA's kernel and fidelity rule."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.boca import BOCA, ProductPrior


def test_the_kernel_is_a_product():
    u = np.array([0.0, 0.5, 1.0])
    shared, explained, own = ProductPrior(length_explained=0.5).shapes(u)
    assert not shared.any() and not own.any()
    np.testing.assert_allclose(explained[0], [1, np.exp(-0.5), np.exp(-2)])


def test_early_steps_are_cheap_and_lead_to_full_trainings(meta):
    """In several dimensions; in one, beta stays near 1 for long and the rule of the paper asks for
    the last epoch at once.
    """
    study, objective = replay_study(meta, "t0", budget=90, method="boca")
    chosen, steps = BOCA(), []
    while step := study.ask(chosen):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        steps.append(step.stop)
    assert min(steps[3:9]) < 9 and (study.epoch == 9).sum() >= 2


def test_it_beats_random_search(regrets, random_regret):
    assert regrets("boca", 80, seeds=3) < random_regret


@pytest.mark.parametrize("ell", [0.0, -1.0, float("nan")])
def test_bad_options(ell):
    with pytest.raises(BadInput, match=f"ell={ell:g} must be positive"):
        BOCA(ell=ell)
