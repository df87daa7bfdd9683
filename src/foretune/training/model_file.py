"""The network of a finished trial as one file, for whoever wants to predict with it.

    model = Model.load("best.pt")
    model.probabilities(np.stack([model.read(file) for file in files]))     # (N, classes)

`NAME.pt` is a PyTorch archive of tensors and texts: the state_dict, and a JSON text `about` that
says which network it belongs to, the classes in the order of its outputs, how pictures become its
input (size, crop, mean and deviation), and where it came from. `NAME.json` beside it says the same
to people; nothing reads it. Neither holds code, and what could run some is refused.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.tasks.pixels import CROPS, check_size, decode
from foretune.training import checkpoints, networks
from foretune.training.activations import as_tensor
from foretune.training.augmentation import normalise, to_float
from foretune.training.lora import merge
from foretune.training.recipe import recipe
from foretune.training.settings import Settings

FORMAT = 2
BATCH = 256  # images that go through the network at once
KEYS = ("network", "classes", "image_size")  # that any model file has


def write_model(checkpoint: Path, path: Path, **facts: Any) -> None:
    """Write the network that `checkpoint` holds to `path` (.pt), and what it is to a .json beside
    it, both by rename. `facts` are said too, such as the accuracy on the test part.

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
    last = state["rows"][-1]
    about = {
        "format": FORMAT,
        "network": chosen.network,
        "classes": classes,
        "image_size": settings.image_size,
        "read_size": state.get("read_size", settings.image_size),
        "mean": list(network.mean),
        "std": list(network.std),
        "crop": state.get("crop", "center"),
        "task": state["task"],
        "config": state["config"],
        "epoch": last["epoch"],
        **({"valid_accuracy": last["valid_accuracy"]} if "valid_accuracy" in last else {}),
        **facts,
    }
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    with replace(path) as temporary:
        torch.save({"about": json.dumps(about), "state_dict": tensors}, temporary)
    write_json(Path(path).with_suffix(".json"), about)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network in eval mode, and what is known of it (`about`)."""

    network: networks.Network
    about: Mapping[str, Any]
    device: str

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> Model:
        """Read what `write_model` wrote. Needs no ImageNet weights and no network. Raises
        `BadInput` for a file that is none.
        """
        path = Path(path)
        about, state = _content(path)
        size, classes = check_size(about["image_size"]), about["classes"]
        network = networks.build(about["network"], len(classes), False, image_size=size)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise BadInput(
                f"{path} does not fit the network {about['network']} that it names: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from error
        return cls(network.eval().to(device), about, device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return tuple(self.about["classes"])

    @property
    def image_size(self) -> int:
        """Side of the images that the network sees, in pixels."""
        return int(self.about["image_size"])

    @property
    def read_size(self) -> int:
        """Side of the images as training read them; the trainer scaled them to `image_size`."""
        return int(self.about.get("read_size", self.image_size))

    @property
    def crop(self) -> str:
        """How a picture becomes square (`foretune.tasks.pixels`)."""
        return str(self.about.get("crop", "center"))

    def read(self, file: Path | BinaryIO, name: str = "") -> np.ndarray:
        """A picture as training read those that it saw, uint8 (S, S, 3). Raises `BadInput`."""
        return decode(file, self.read_size, name, CROPS[self.crop])

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (N, classes), of uint8 images (N, H, W, 3).

        Raises `BadInput` for images of another kind.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise BadInput(
                f"images must be uint8 of shape (N, H, W, 3), but got {images.dtype} of shape "
                f"{images.shape}"
            )
        found = [np.zeros((0, len(self.classes)), dtype=np.float32)]
        for start in range(0, len(images), BATCH):
            pixels = as_tensor(images[start : start + BATCH], self.image_size).to(self.device)
            network = self.network
            logits = network(normalise(to_float(pixels), network.mean, network.std))
            found.append(logits.float().softmax(1).cpu().numpy())
        return np.concatenate(found)


def predict(path: Path | str, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Class probabilities, float32 (N, classes), of uint8 images (N, H, W, 3).

    Columns in the order of the model's `classes`. Raises `BadInput`.
    """
    return Model.load(path, device).probabilities(images)


def _content(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a model file says of itself, and its tensors. Raises `BadInput`."""
    try:
        if not zipfile.is_zipfile(path) and path.stat():  # another's bytes confuse the unpickler
            raise BadInput(
                f"{path} is no model file, or a damaged one; a study writes best.pt and final.pt"
            )
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadInput(f"there is no model file {path}") from error
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} is not read: it is no model file, or holds more than tensors and texts, which "
            "could run code"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as a model file: {error}") from error
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    text = content.get("about") if isinstance(content, Mapping) else None
    if isinstance(content, Mapping) and state is None and text is None:
        state, text = content, _beside(path)  # as an earlier version wrote it: two files
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise BadInput(f"{path} is no model file: it lacks the tensors of a network")
    try:
        about = json.loads(str(text))
        if missing := [key for key in KEYS if key not in about]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        classes, crop = about["classes"], about.get("crop", "center")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes must be a list of names, but are {classes!r}")
        if crop not in CROPS:
            raise ValueError(f"crop must be one of {', '.join(CROPS)}, but is {crop!r}")
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"{path} is no model file: what it says of itself is wrong: {error}"
        ) from error
    return about, dict(state)


def _beside(path: Path) -> str:
    file = path.with_suffix(".json")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} holds tensors alone and nothing that says what they are: it is no model file "
            "that foretune wrote"
        ) from error
