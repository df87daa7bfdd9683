"""The network of a finished trial as two files, for whoever wants to predict with it.

`NAME.pt` is the state_dict, weights only; `NAME.json` says which network they belong to, the
classes in the order of its outputs, the image size and normalisation, and where it came from (task,
configuration, epoch, validation accuracy). Neither holds code.

    probabilities = predict("best.pt", images)        # uint8 (N, H, W, 3), any H and W
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.training import checkpoints, networks
from foretune.training.augmentation import normalise, resize, to_float
from foretune.training.lora import merge
from foretune.training.recipe import recipe
from foretune.training.settings import Settings
from foretune.training.weights import read_tensors

FORMAT = 1


def export(checkpoint: Path, path: Path) -> None:
    """Write the network that `checkpoint` holds to `path` (.pt) and what it is to a .json.

    The .json lies beside it; both files are written by rename.

    Raises `BadInput` where the checkpoint is missing or damaged.
    """
    state = checkpoints.load(checkpoint)
    if state is None:
        raise BadInput(f"checkpoint {checkpoint} is missing or damaged")
    settings = Settings(**state["settings"])
    chosen = recipe(state["config"], settings)
    classes = state["class_names"]
    network = networks.of_recipe(chosen, len(classes), settings, state["network_seed"])
    # frozen layers are not in it
    network.load_state_dict(state.get("averaged", state["network"]), strict=False)
    merge(network)
    with replace(path) as temporary:
        torch.save(
            {key: value.contiguous() for key, value in network.state_dict().items()}, temporary
        )
    last = state["rows"][-1]
    about = {
        "format": FORMAT,
        "network": chosen.network,
        "classes": classes,
        "image_size": settings.image_size,
        "mean": list(network.mean),
        "std": list(network.std),
        "crop": state.get("crop", "center"),
        "task": state["task"],
        "config": state["config"],
        "epoch": last["epoch"],
        "valid_accuracy": last["valid_accuracy"],
    }
    write_json(Path(path).with_suffix(".json"), about)


def load(path: Path | str, device: str = "cpu") -> tuple[networks.Network, dict[str, Any]]:
    """The network in eval mode and its JSON.

    Needs no ImageNet weights and no network. Raises `BadInput` for files that are not such a pair.
    """
    path = Path(path)
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        name, classes = about["network"], about["classes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path.with_suffix('.json')} must be the JSON written beside an exported "
            f"network, but: {error}"
        ) from error
    size = about["image_size"]
    network = networks.build(name, len(classes), pretrained=False, image_size=size)
    try:
        network.load_state_dict(read_tensors(path, str(path)))
    except RuntimeError as error:
        raise BadInput(
            f"{path} does not fit the network {name} of {path.with_suffix('.json').name}"
        ) from error
    return network.eval().to(device), about


def predict(path: Path | str, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Class probabilities, float32 (N, classes), of uint8 images (N, H, W, 3).

    Columns in the order of the JSON's `classes`.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise BadInput(
            f"images must be uint8 of shape (N, H, W, 3), but got {images.dtype} of shape "
            f"{images.shape}"
        )
    network, about = load(path, device)
    pixels = resize(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), about["image_size"]
    )
    with torch.inference_mode():
        parts = [
            network(normalise(to_float(p.to(device)), network.mean, network.std))
            for p in pixels.split(256)
        ]
        return torch.cat(parts).softmax(1).cpu().numpy()
