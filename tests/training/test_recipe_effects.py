"""Every knob of the recipe does what it says, with the numbers of the libraries' own parts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import config, numbers, settings, task
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.optim import create_optimizer_v2
from torch.nn import functional as F
from torchvision.transforms import v2

from foretune.errors import BadInput
from foretune.training import lora
from foretune.training.architectures import IMAGENET_MEAN
from foretune.training.augmentation import augment, to_float
from foretune.training.knobs import KNOBS, TIMM_OPTIMIZERS
from foretune.training.losses import Loss, Mixing
from foretune.training.networks import build
from foretune.training.recipe import Augmentation, recipe
from foretune.training.sampling import batches_of, order_of
from foretune.training.seeds import drawing
from foretune.training.trial import Trial, train

NETWORK = "test_resnet"


def asked(**changes: Any) -> Any:
    return recipe(config(**changes), settings())


def trial(**changes: Any) -> Trial:
    return Trial(task(), config(**changes), settings(NETWORK), seed=1)


PLAIN: dict[str, float] = {}


def first_loss(**changes: Any) -> float:
    return trial(**changes).train_epoch()["train_loss"]


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 10.0}, {"layer_decay": 0.5}, {"clip_grad": 1e-3}, {"batch_size": 5},
        {"warmup_epochs": 2}, {"augmentation": "flip"}, {"augmentation": "colour"},
        {"augmentation": "crop"}, {"auto_augment": "randaugment"}, {"random_erasing": 1.0},
        {"auto_augment": "trivialaugment"}, {"mixup": 1.0}, {"cutmix": 1.0}, {"dropout": 0.9},
        {"label_smoothing": 0.3}, {"balanced_sampling": True}, {"finetune": 0.5},
        {"optimizer": "lion"}, {"drop_path": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_knob_changes_training(changes: dict[str, Any]) -> None:
    if "plain" not in PLAIN:
        PLAIN["plain"] = first_loss()
        assert PLAIN["plain"] == first_loss()
    assert first_loss(**changes) != PLAIN["plain"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.5, "cutmix": 0.5, "label_smoothing": 0.1, "finetune": "most"},
        {"ema": 0.9, "layer_decay": 0.7, "weight_decay": 0.1, "warmup_epochs": 1},
        {"auto_augment": "randaugment", "magnitude": 5, "random_erasing": 0.5, "finetune": "most"},
        {"auto_augment": "trivialaugment", "dropout": 0.3, "drop_path": 0.2, "clip_grad": 1.0},
        {"finetune": "lora", "lora_rank": 4, "class_weights": True, "balanced_sampling": True},
        *({"optimizer": name} for name in TIMM_OPTIMIZERS),
    ],
    ids=str,
)
def test_every_knob_resumes_to_the_same_numbers(changes: dict[str, Any], tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    torch.save(build(NETWORK, 3, False, image_size=32, seed=4).state_dict(), weights)
    chosen = settings(NETWORK, pretrained=True, weights=str(weights))
    whole = train(task(), config(**changes), 0, 3, settings=chosen, seed=2)
    path = tmp_path / "c"
    cut = train(task(), config(**changes), 0, 1, settings=chosen, seed=2, checkpoint=path)
    cut += train(task(), config(**changes), 1, 3, settings=chosen, seed=2, checkpoint=path)
    assert numbers(cut) == numbers(whole)


def test_every_knob_is_tried_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in KNOBS if name not in text] == []


def test_mixup_changes_targets_as_timm_does() -> None:
    images, labels = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 2, 1, 0])
    for alphas in ({"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 0.4}):
        with drawing(3):
            x, y = Mixing(asked(**alphas, label_smoothing=0.1), 3)(images.clone(), labels)
        with drawing(3):
            theirs = Mixup(
                alphas.get("mixup", 0.0), alphas.get("cutmix", 0.0), label_smoothing=0.1,
                num_classes=3,
            )  # fmt: skip
            wanted = theirs(images.clone(), labels)
        assert torch.equal(x, wanted[0]) and torch.equal(y, wanted[1])
        assert not torch.equal(x, images) and torch.allclose(y.sum(1), torch.ones(6))
    with pytest.raises(BadInput, match="2 classes"):
        build(NETWORK, 1, False)


def test_mixed_images_go_through_the_frozen_layers_too() -> None:
    one = trial(mixup=0.5, finetune="last_blocks")
    assert one.network.first > 0
    assert (
        one.train_epoch()["train_loss"] != trial(finetune="last_blocks").train_epoch()["train_loss"]
    )


def test_smoothing_and_class_weights_are_pytorchs() -> None:
    logits, labels = torch.randn(9, 3), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])
    weight = torch.tensor([9 / (3 * 6), 9 / (3 * 2), 9 / 3])
    found = Loss(asked(label_smoothing=0.2, class_weights=True), labels, 3)(logits, labels)
    wanted = F.cross_entropy(logits, labels, weight=weight, label_smoothing=0.2)
    assert found == pytest.approx(float(wanted))


def test_balanced_sampling_draws_every_class_alike() -> None:
    labels = torch.tensor([0] * 950 + [1] * 50)
    drawn = Counter(labels[order_of(labels, True, 0, 1)].tolist())
    assert 430 < drawn[1] < 570  # 500 +- 4.4 standard errors
    plain = order_of(labels, False, 0, 1)
    assert sorted(plain.tolist()) == list(range(1000))
    assert not torch.equal(plain, order_of(labels, False, 0, 2))


def test_batches() -> None:
    assert [len(b) for b in batches_of(torch.arange(33), 8)] == [8, 8, 8, 9]
    assert [len(b) for b in batches_of(torch.arange(33), 8, even=True)] == [8, 8, 8, 8]
    assert [len(b) for b in batches_of(torch.arange(20), 8)] == [8, 8, 4]


def test_layer_decay_scales_the_rates_down_to_the_stem() -> None:
    one = trial(layer_decay=0.5, warmup_epochs=1)
    one.train_epoch()
    rates = {round(group["lr"] / 5e-4, 9) for group in one.optimizer.param_groups}
    assert rates == {0.5**k for k in range(one.network.depth)}


@pytest.mark.parametrize("name", TIMM_OPTIMIZERS)
def test_new_optimizers_are_timms(name: str) -> None:
    one = trial(optimizer=name, weight_decay=0.1)
    theirs = create_optimizer_v2(one.network.model, name, lr=1e-3, weight_decay=0.1)
    assert type(one.optimizer) is type(theirs)
    ours, wanted = ([g["weight_decay"] for g in o.param_groups] for o in (one.optimizer, theirs))
    assert ours == wanted and 0.0 in ours
    sizes = [[sum(p.numel() for p in g["params"]) for g in o.param_groups]
             for o in (one.optimizer, theirs)]  # fmt: skip
    assert sizes[0] == sizes[1]


def test_momentum_and_nesterov_reach_sgd() -> None:
    group = trial(optimizer="sgd", momentum=0.7, nesterov=True).optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.7, True)


def test_schedule_step() -> None:
    one = trial(scheduler="step", step_epochs=1, step_factor=0.5)
    assert [one.train_epoch()["learning_rate"] for _ in range(3)] == [1e-3, 5e-4, 2.5e-4]


def test_ema_evaluates_the_averaged_weights() -> None:
    one, plain = trial(ema=0.9), trial()
    row, other = one.train_epoch(), plain.train_epoch()
    assert row["train_loss"] == other["train_loss"]  # what is trained is the same
    assert row["valid_loss"] != other["valid_loss"]
    key = next(iter(one.network.trained_state()))
    assert not torch.equal(one.evaluated.state_dict()[key], one.network.state_dict()[key])


def test_ema_by_hand() -> None:
    """Three steps of the batches of one epoch: e <- d e + (1 - d) w, with timm's rising d."""
    one = trial(ema=0.5)
    seen: list[torch.Tensor] = []
    weight = next(p for p in one.network.parameters() if p.requires_grad)
    step = one.optimizer.step

    def watched(*args: Any) -> Any:
        out = step(*args)
        seen.append(weight.detach().clone())
        return out

    one.optimizer.step = watched  # type: ignore[method-assign]
    one.train_epoch()
    average = seen[0]
    for k, value in enumerate(seen[1:], start=1):
        decay = min(1 - (1 + k) ** (-2 / 3), 0.5)
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(next(iter(one.evaluated.parameters())), average)


def test_clipping_bounds_the_step() -> None:
    one = trial(optimizer="sgd", momentum=0.0, clip_grad=1e-3, learning_rate=1.0, batch_size=64)
    before = torch.cat([p.detach().flatten().clone() for p in one.network.parameters()])
    one.train_epoch()  # one step
    after = torch.cat([p.detach().flatten() for p in one.network.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenet_v2", "resnet18", "test_efficientnet"])
def test_dropout_drops_before_the_classifier(name: str) -> None:
    network = build(name, 3, False, image_size=32, dropout=0.99).train()
    head = network.get_submodule(network.classifier[0])
    last = [m for m in head.modules() if isinstance(m, torch.nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    # behind the dropout that may stand before it as a hook
    last.register_forward_hook(lambda m, args, out: seen.append(args[0].detach()))
    torch.manual_seed(0)
    network(torch.randn(8, 3, 32, 32))
    assert (seen[0] == 0).float().mean() > 0.9
    assert torch.equal(*(network.eval()(torch.ones(2, 3, 32, 32)) for _ in range(2)))


def test_lora_trains_few_weights_and_starts_from_the_network_as_it_was(tmp_path: Path) -> None:
    plain = build("test_vit", 3, False, image_size=32, seed=3).eval()
    torch.save(plain.state_dict(), tmp_path / "w.pt")
    network = build(
        "test_vit",
        3,
        weights=tmp_path / "w.pt",
        finetune="lora",
        lora_rank=2,
        image_size=32,
        seed=3,
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(x), plain(x))
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    assert all(".parametrizations.weight.0." in n or n.startswith("model.head.") for n in trained)
    block = [n for n in trained if "blocks.0.attn.qkv" in n]
    assert len(block) == 2
    for name in trained:
        torch.nn.init.normal_(network.get_parameter(name), std=0.1)
    changed = network(x)
    assert not torch.allclose(changed, plain(x))
    lora.merge(network)
    torch.testing.assert_close(network(x), changed, rtol=1e-3, atol=1e-4)
    assert network.state_dict().keys() == plain.state_dict().keys()


# -- augmentation
def pictures(count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def augmented(images: torch.Tensor, seed: int = 1, **parts: Any) -> torch.Tensor:
    return augment(to_float(images), Augmentation(**parts), torch.Generator().manual_seed(seed))


def test_flip_alone_mirrors_and_does_nothing_else() -> None:
    images = to_float(pictures())
    found = augmented(pictures(), policy="flip")
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(found, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(found, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True)) and 8 < sum(mirrored) < 32


def test_colour_alone_moves_no_pixel() -> None:
    flat = torch.full((10, 3, 8, 8), 100, dtype=torch.uint8)
    found = augmented(flat, policy="colour")
    assert len({round(float(one.mean()), 4) for one in found}) > 5
    assert torch.allclose(found.amax((2, 3)), found.amin((2, 3)))


@pytest.mark.parametrize("auto", ["randaugment", "trivialaugment"])
def test_learned_policies_are_torchvisions_drawn_for_each_image(auto: str) -> None:
    images = pictures(12)
    found = augmented(images, auto=auto, magnitude=7)
    transform = v2.RandAugment(magnitude=7) if auto == "randaugment" else v2.TrivialAugmentWide()
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)))
    with drawing(seed):
        wanted = torch.stack([transform(image) for image in images])
    assert torch.equal(found, to_float(wanted))
    assert torch.equal(found, augmented(images, auto=auto, magnitude=7))
    assert not torch.equal(found, augmented(images, seed=2, auto=auto, magnitude=7))


def test_erasing_is_timms_in_the_mean_colour() -> None:
    images = pictures()
    found = augmented(images, erasing=0.5)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)))
    with drawing(seed):
        kept = RandomErasing(0.5, mode="const", device="cpu")(torch.ones(40, 3, 16, 16)) > 0
    grey = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(found)
    assert torch.equal(found[kept], to_float(images)[kept]) and torch.equal(
        found[~kept], grey[~kept]
    )
    erased = (~kept).flatten(1).any(1).sum()
    assert 8 < erased < 32


def test_global_generators_are_left_alone() -> None:
    import random

    import numpy as np

    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    trial(mixup=0.5, auto_augment="randaugment", random_erasing=0.5).train_epoch()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1] and (np.random.get_state()[1] == before[2]).all()
