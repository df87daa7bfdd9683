"""The meaning of configurations."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from foretune.errors import BadInput
from foretune.space.catalogue import PRESETS, heavy_pool, hyperrec_space, preset, transfer_pool
from foretune.space.space import Space
from foretune.space.written import space_of
from foretune.training.optimizers import OPTIMIZERS, build
from foretune.training.recipe import (
    OPTIMIZER_OPTIONS,
    Augmentation,
    default_config,
    recipe,
    recipes_of,
)
from foretune.training.settings import Settings

SETTINGS = Settings()


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet50"])
def test_default_is_in_the_pools(network: str) -> None:
    default = default_config(network)
    assert default in transfer_pool() and default in heavy_pool()


def test_transfer_recipe() -> None:
    config = {
        "learning_rate": 0.005,
        "optimizer": "sgd",
        "finetune": "head",
        "augmentation": "none",
    }
    found = recipe(config, Settings(batch_size=16, network="resnet18"))
    assert (found.network, found.batch_size, found.optimizer, found.learning_rate) == (
        "resnet18",
        16,
        "sgd",
        0.005,
    )
    assert (found.finetune, found.augmentation, found.scheduler) == (
        "head",
        Augmentation("none"),
        "cosine",
    )


def test_hyperrec_samples_make_recipes_of_their_branch() -> None:
    for config in Space(hyperrec_space()).sample(30, np.random.default_rng(0)):
        found = recipe(config, SETTINGS)
        assert found.network in ("resnet34", "resnet50") and 32 <= found.batch_size <= 128
        assert found.optimizer == {"Adam": "adam", "Momentum": "sgd"}[config["optimizer"]]
        wanted = {
            "StepLR": {"step_size", "gamma"},
            "ExponentialLR": {"gamma"},
            "CAWR": {"T_0", "T_mult", "eta_min_ratio"},
        }
        wanted["CyclicLR"] = {"gamma", "max_lr_ratio", "step_size_up"}
        assert set(found.scheduler_options) == wanted[config["lr_scheduler"]]
        assert set(found.optimizer_options) == (
            {"betas"} if found.optimizer == "adam" else {"momentum"}
        )


def test_a_space_may_tune_the_options_of_its_optimizers() -> None:
    space = ConfigurationSpace()
    optimizer = Categorical("optimizer", ["adas", "sls", "adabound", "sgd"])
    children = {
        "adas": Categorical("adas.beta", [0.8, 0.9, 0.95, 0.975]),
        "sls": Float("sls.c", (0.01, 0.9), log=True),
        "adabound": Float("adabound.final_lr", (0.01, 1.0), log=True),
    }
    space.add(Float("learning_rate", (1e-4, 0.1), log=True), optimizer, *children.values())
    space.add(*(EqualsCondition(child, optimizer, name) for name, child in children.items()))
    met = set()
    for config in Space(space).sample(60, np.random.default_rng(0)):
        found = recipe(config, SETTINGS)
        wanted = {k.partition(".")[2]: v for k, v in config.items() if "." in k}
        assert found.optimizer_options == wanted and len(wanted) == (found.optimizer != "sgd")
        made = build(
            found.optimizer, [torch.nn.Parameter(torch.zeros(1))], 0.1, **found.optimizer_options
        )
        assert {k: made.param_groups[0][k] for k in wanted} == wanted
        met.add(found.optimizer)
    assert met == {"adas", "sls", "adabound", "sgd"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_takes_the_options_that_a_space_may_tune(optimizer: str) -> None:
    values = {float: 0.5, int: 7, bool: True}
    options = {
        f"{optimizer}.{name}": values[kind] for name, kind in OPTIMIZER_OPTIONS[optimizer].items()
    }
    options.pop("sgd.dampening", None)  # not with nesterov
    options |= {"sls.gamma": 2.0} if optimizer == "sls" else {}  # at least 1
    found = recipe(
        {"learning_rate": 0.1, "optimizer": optimizer, **options}, SETTINGS
    ).optimizer_options
    made = build(optimizer, [torch.nn.Parameter(torch.zeros(1))], 0.1, **found).param_groups[0]
    assert found and {k: made[k] for k in found} == found
    assert ("betas" in found) == ("beta1" in OPTIMIZER_OPTIONS[optimizer])


def test_one_beta_leaves_the_other_as_it_is() -> None:
    config = {"learning_rate": 0.1, "optimizer": "adam"}
    assert recipe({**config, "adam.beta1": 0.5}, SETTINGS).optimizer_options == {
        "betas": (0.5, 0.999)
    }
    assert recipe({**config, "adam.beta2": 0.9}, SETTINGS).optimizer_options == {
        "betas": (0.9, 0.9)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"adas.betas": 0.9},
            "'adas.betas' is no option of adas: adas.beta, adas.zeta, adas.momentum",
        ),
        (
            {"sls.c": 0.1},
            "'sls.c' with the optimizer 'adas': make it conditional on optimizer = 'sls'",
        ),
        ({"adas.beta": "high"}, "'adas.beta' must be a number, but got 'high'"),
        ({"lion.beta": 0.9}, "does not know 'lion.beta'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        recipe({"learning_rate": 0.1, "optimizer": "adas", **options}, SETTINGS)


def test_bad_configurations() -> None:
    with pytest.raises(BadInput, match=r"'drop_out' \(did you mean dropout"):
        recipe({"learning_rate": 0.1, "optimizer": "sgd", "drop_out": 0.5}, SETTINGS)
    with pytest.raises(BadInput, match="optimizer"):
        recipe({"learning_rate": 0.1}, SETTINGS)
    with pytest.raises(BadInput, match=r"adam\.lr|adam\.beta0"):
        recipe(
            {"lr_scheduler": "StepLR", "optimizer": "Adam", "model": "ResNet34", "batch_size": 32},
            SETTINGS,
        )


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from foretune.training.recipe import Settings, recipe; "
        "recipe({'learning_rate': 0.1, 'optimizer': 'sgd'}, Settings()); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


BASE = {"learning_rate": 0.01, "optimizer": "adamw"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"mixup": -1}, r"mixup=-1 must be a number, 0 or more"),
        ({"label_smoothing": 1.0}, "from 0 to below 1"),
        ({"finetune": 1.5}, "or the share of layers to train from 0 to 1"),
        ({"finetune": "half"}, "one of head, last_blocks, most, all, lora, or the share"),
        ({"optimizer": "adamww"}, "did you mean adamw"),
        ({"momentum": 0.9}, "make it conditional on optimizer = 'sgd' or 'rmsprop'"),
        ({"lora_rank": 4}, "conditional on finetune = 'lora'"),
        ({"warmup_epochs": 10}, "must be below the 10 epochs"),
        ({"optimizer": "sls", "layer_decay": 0.7}, "which sls sets itself"),
        ({"ema": "much"}, "must be a number"),
        ({"batch_size": 1}, "a whole number, 2 or more"),
    ],
)
def test_nonsense_is_refused_with_what_would_be_right(config: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        recipe({**BASE, **config}, SETTINGS)


def test_lora_needs_learned_weights() -> None:
    with pytest.raises(BadInput, match="--from-scratch"):
        recipe({**BASE, "finetune": "lora"}, Settings(pretrained=False))


def test_what_settings_fix_is_in_every_recipe_where_it_means_something() -> None:
    settings = Settings(fix={"mixup": 0.2, "momentum": 0.8, "optimizer": "sgd"})
    found = recipe({"learning_rate": 0.01}, settings)
    assert (found.mixup, found.optimizer, found.optimizer_options) == (
        0.2,
        "sgd",
        {"momentum": 0.8},
    )
    found = recipe({"learning_rate": 0.01, "optimizer": "adamw"}, settings)
    assert (found.optimizer, found.optimizer_options) == ("adamw", {})
    with pytest.raises(BadInput, match=r"'mixupp' \(did you mean mixup"):
        recipe(BASE, Settings(fix={"mixupp": 0.2}))


def test_a_space_is_refused_for_a_bound_that_no_trial_could_take() -> None:
    space = space_of({**{k: [v] for k, v in BASE.items()}, "dropout": {"low": 0.0, "high": 1.5}})
    with pytest.raises(BadInput, match="dropout: high 1.5 must be a number from 0 to below 1"):
        recipes_of(space, SETTINGS)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_understood_and_grow(name: str) -> None:
    names = {key: set(entries) for key, entries in PRESETS.items()}
    assert names["quick"] < names["standard"] < names["strong"]
    assert len(recipes_of(preset(name), SETTINGS)) > 50


def test_a_space_without_an_optimizer_says_how_one_is_given():
    with pytest.raises(BadInput, match="lacks optimizer: .* --fix optimizer=adamw$"):
        recipe({"learning_rate": 0.01}, Settings())
    with pytest.raises(BadInput, match="--fix learning_rate=0.001 --fix optimizer=adamw"):
        recipe({}, Settings())
    fixed = Settings(fix={"optimizer": "adamw"})
    assert recipe({"learning_rate": 0.01}, fixed).optimizer == "adamw"
