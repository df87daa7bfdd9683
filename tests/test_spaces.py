"""Spaces, pools and the meaning of configurations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foretune import spaces
from foretune.errors import BadInput
from foretune.space import Space
from foretune.spaces import Settings, recipe

SETTINGS = Settings()


def test_pools_are_distinct_and_inside_the_space() -> None:
    space = Space(spaces.transfer_space())
    for pool, size in [(spaces.transfer_pool(), 108), (spaces.heavy_pool(), 40)]:
        assert len(pool) == len({json.dumps(c, sort_keys=True) for c in pool}) == size
        for config in pool:
            space.check(config)


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet50"])
def test_default_is_in_the_pools(network: str) -> None:
    default = spaces.default_config(network)
    assert default in spaces.transfer_pool() and default in spaces.heavy_pool()


def test_transfer_recipe() -> None:
    config = {"learning_rate": 0.005, "optimizer": "sgd", "finetune": "head", "augmentation": "none"}
    found = recipe(config, Settings(batch_size=16, network="resnet18"))
    assert (found.network, found.batch_size, found.optimizer, found.learning_rate) == ("resnet18", 16, "sgd", 0.005)
    assert (found.finetune, found.augmentation, found.scheduler) == ("head", "none", "cosine")


def test_hyperrec_samples_make_recipes_of_their_branch() -> None:
    for config in Space(spaces.hyperrec_space()).sample(30, __import__("numpy").random.default_rng(0)):
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
        assert set(found.optimizer_options) == ({"betas"} if found.optimizer == "adam" else {"momentum"})


def test_hyperrec_space_has_the_published_names(shared: Path) -> None:
    published = Space.load(shared / "data" / "curves" / "hyperrec" / "space.json")
    assert set(Space(spaces.hyperrec_space()).names) == set(published.names)


def test_bad_configurations() -> None:
    with pytest.raises(BadInput, match="dropout"):
        recipe({"learning_rate": 0.1, "optimizer": "sgd", "dropout": 0.5}, SETTINGS)
    with pytest.raises(BadInput, match="optimizer"):
        recipe({"learning_rate": 0.1}, SETTINGS)
    with pytest.raises(BadInput, match=r"adam\.lr|adam\.beta0"):
        recipe({"lr_scheduler": "StepLR", "optimizer": "Adam", "model": "ResNet34", "batch_size": 32}, SETTINGS)


@pytest.mark.parametrize(("name", "value"), [("image_size", 8), ("batch_size", 1), ("max_epoch", 0), ("threads", 0)])
def test_bad_settings(name: str, value: int) -> None:
    with pytest.raises(BadInput, match=name):
        Settings(**{name: value})


def test_no_torch_is_imported() -> None:
    code = "import sys, foretune.spaces as s; s.Settings(); s.transfer_pool(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
