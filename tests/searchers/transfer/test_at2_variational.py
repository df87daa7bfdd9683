"""AT2's published inference as a searcher: a fold over the observations, with its own distances."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.gaussian.variational import Schedule
from foretune.searchers.transfer.at2 import AT2
from foretune.searchers.transfer.at2_variational import Offline, Online
from foretune.searchers.transfer.past_curves import past_curves

KERNELS = ("OptiLand", "DeepPoly", "AccCurve")
QUICK = Schedule(inducing=20, batch=200, epochs=30)


@pytest.fixture(scope="module")
def study():
    meta = synthetic_meta(tasks=4, configs=12, epochs=5)
    return replay_study(meta, "t0", budget=20)[0]


@pytest.fixture(scope="module")
def offline(study):
    return Offline(study, past_curves(study), KERNELS, QUICK, "centred")


def values(study, curves):
    """All of the target's values where `curves` (k) are known, in the order of their epochs."""
    Y = np.full((len(study.configs), study.max_epoch), np.nan)
    Y[curves] = np.linspace(0.3, 0.7, study.max_epoch)
    return Y, [(c, e) for c in curves for e in range(1, study.max_epoch + 1)]


def test_one_observation_at_a_time_and_all_at_once_give_the_same_process(study, offline):
    Y, order = values(study, [2, 7])
    none = np.zeros(len(Y), dtype=bool)
    bit, whole = Online(offline, 1), Online(offline, 1)
    for k in range(1, len(order) + 1):
        bit.sync(order[:k], Y, none)
    whole.sync(order, Y, none)
    for one, other in zip(bit.posterior(), whole.posterior(), strict=True):
        assert (one == other).all()
    assert len(whole.data()) == len(offline.rows) + len(order)


def test_a_change_of_what_was_taken_in_starts_over(study, offline):
    Y, order = values(study, [2])
    none = np.zeros(len(Y), dtype=bool)
    changed, fresh = Online(offline, 1), Online(offline, 1)
    changed.sync(order, 100 * Y, none)
    changed.sync(order, Y, none)
    fresh.sync(order, Y, none)
    assert (changed.posterior()[0] == fresh.posterior()[0]).all()


def test_the_offline_process_is_nobodys_to_change(study, offline):
    before = {name: value.clone() for name, value in offline.process.state_dict().items()}
    Y, order = values(study, [2])
    Online(offline, 2).sync(order, Y, np.zeros(len(Y), dtype=bool))
    assert all((offline.process.state_dict()[name] == v).all() for name, v in before.items())


def test_a_failure_counts_as_the_worst_value_before_it(study, offline):
    Y, order = values(study, [2])
    failed = np.zeros(len(Y), dtype=bool)
    failed[5] = True
    online = Online(offline, 1)
    online.sync([*order, (5, 1)], Y, failed)
    assert online.shown[5, 0] == Y[2].min()
    first = Online(offline, 1)
    first.sync([(5, 1)], np.full_like(Y, np.nan), failed)  # nothing to compare it with
    assert not first.rows and first.order == [(5, 1)]


def test_the_distances_are_those_of_the_values_taken_in(study, offline):
    Y = np.full((len(study.configs), study.max_epoch), np.nan)
    Y[:6] = offline.Y[1, :6] * offline.unit + 0.05  # a twin of the second past task, shifted
    order = [(c, e) for c in range(6) for e in range(1, study.max_epoch + 1)]
    online = Online(offline, 1)
    online.sync(order, Y, np.zeros(len(Y), dtype=bool))
    T = len(offline.Y)
    near = online.process.D[T, :T].numpy()
    assert near.argmin() == 1 and near[1] == pytest.approx(0, abs=1e-9)
    assert online.process.R[T, 0] == pytest.approx(30 / offline.Y[0].size)
    assert online.likeness().argmax() == 1


def test_a_fresh_searcher_suggests_the_same_and_names_past_tasks(study):
    meta = synthetic_meta(tasks=4, configs=12, epochs=5)
    target, objective = replay_study(meta, "t0", budget=20)
    options = {"inference": "variational", "inducing": 20, "epochs": 10, "refinements": 1}
    kept = AT2(**options)
    for _ in range(4):
        step = target.ask(kept)
        result = objective.run(
            step.config_id, target.configs[step.config_id], step.start, step.stop
        )
        target.tell(step, result.rows)
    rng = np.random.default_rng(0)
    one, other = kept.suggest(target, rng), AT2(**options).suggest(target, rng)
    assert (one.config, one.start, one.stop) == (other.config, other.start, other.stop)
    assert one.because == other.because and set(one.because["past"]) <= set(meta.tasks[1:])


def test_unknown_options_are_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="exact, variational"):
        AT2(inference="sparse")
    with pytest.raises(BadInput, match="normalised, centred"):
        AT2(distance="cosine")
