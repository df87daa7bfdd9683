"""The wing and the pairs it learns from."""

import numpy as np
import torch

from foretune.recommenders.siamese.network import Wing, meta_features, pair_loss, pairs, train_wing


def sets(count=4, tau=5, size=16, seed=0):
    return (
        np.random.default_rng(seed).integers(0, 256, (count, tau, size, size, 3)).astype(np.uint8)
    )


def test_a_wing_is_two_convolutions_two_linear_layers_and_a_bidirectional_lstm():
    wing = Wing(16)
    kinds = [type(m).__name__ for m in wing.modules()]
    assert kinds.count("Conv2d") == 2 and kinds.count("Linear") == 2 and kinds.count("LSTM") == 1
    assert wing.sets.bidirectional
    assert meta_features(wing, list(sets())).shape == (4, 64)


def test_both_directions_of_a_set_are_read():
    torch.manual_seed(0)
    wing = Wing(16)
    one = sets(1)[0]
    changed = one.copy()
    changed[-1] = 255 - changed[-1]
    with torch.no_grad():
        states, _ = wing.sets(
            wing.images(
                (
                    torch.from_numpy(np.stack([one, changed])).flatten(0, 1).movedim(-1, 1).float()
                    / 255
                    - 0.5
                )
                / 0.25
            ).unflatten(0, (2, 5))
        )
    # forward: the last image is not seen yet
    assert torch.allclose(states[0, 0, :32], states[1, 0, :32])
    assert not torch.allclose(states[0, 0, 32:], states[1, 0, 32:])


def test_pairs_are_different_and_ordered():
    found = pairs(6, 10, np.random.default_rng(0))
    assert (
        found.shape == (10, 2)
        and (found[:, 0] < found[:, 1]).all()
        and len({tuple(p) for p in found}) == 10
    )
    assert len(pairs(4, 100, np.random.default_rng(0))) == 6


def test_the_loss_is_the_squared_gap_between_distances():
    m = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], requires_grad=True)
    target = np.array([[0, 4.0, 1.0], [4.0, 0, 2.0], [1.0, 2.0, 0]])
    loss = pair_loss(m, np.array([[0, 1], [0, 2]]), target)
    assert abs(loss.item() - ((5 - 4) ** 2 + 0) / 2) < 1e-6
    same = pair_loss(m, np.array([[0, 1]]), target) * 0 + pair_loss(
        torch.zeros(2, 2, requires_grad=True), np.array([[0, 1]]), target[:2, :2]
    )
    assert abs(same.item() - 16.0) < 1e-4
    equal = torch.zeros(2, 2, requires_grad=True)
    pair_loss(equal, np.array([[0, 1]]), target).backward()
    assert torch.isfinite(equal.grad).all()  # two equal meta-features do not break training


def test_training_matches_distances_to_what_the_pictures_differ_by():
    """Black sets against white ones, at distance 2; alike ones at distance 0."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    shade = np.array([20, 20, 230, 230])
    target = 2.0 * (shade[:, None] != shade[None])

    def sample():
        noise = rng.integers(-20, 21, (4, 6, 16, 16, 3))
        return (shade[:, None, None, None, None] + noise).astype(np.uint8), target

    wing = Wing(16)
    losses = train_wing(wing, sample, rng, iterations=60, beta=6, rate=3e-3)
    m = meta_features(wing, list(sample()[0]))
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
    assert abs(np.linalg.norm(m[0] - m[2]) - 2) < 0.4 and np.linalg.norm(m[0] - m[1]) < 0.4
