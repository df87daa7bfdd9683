"""A trained network for those who have no foretune: a plain state_dict, TorchScript, ONNX.

| kind          | what is written                                                                  |
|---------------|----------------------------------------------------------------------------------|
| `state_dict`  | the tensors by the names of timm or torchvision (.pt, or .safetensors by suffix); |
|               | its input is normalised pixels, its output logits                                |
| `torchscript` | pixels in [0, 1], float32 (N, 3, S, S), to probabilities (N, classes)            |
| `onnx`        | the same, input `pixels`, output `probabilities`, N open                         |

A .json beside each says what it takes and gives. What was written is read back and run beside the
original on a few images before anything is called written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foretune.errors import BadInput, extra, near
from foretune.files import replace, write_json
from foretune.training.architectures import architecture
from foretune.training.library import LibraryNetwork, create
from foretune.training.model_file import Model

IMAGES = 4  # that an exported network is checked on, with one image apart: N must be open
# of a probability, as a share of how far the original's probabilities are spread: a network that
# has learned little says nearly the same of all images
TOLERANCE, LEAST_SPREAD = 1e-3, 1e-2
SUFFIXES = {"state_dict": ".state_dict.pt", "torchscript": ".torchscript.pt", "onnx": ".onnx"}


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked: its greatest difference from the original, in
    probability, and how it is loaded.
    """

    path: Path
    difference: float
    loaded_by: str


class Deployed(nn.Module):
    """Pixels in [0, 1], (N, 3, S, S), to probabilities (N, classes)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Any, std: Any):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.network((pixels - self.mean) / self.std)
        return out.softmax(1)


def check_kind(kind: str) -> str:
    """Return `kind`, or raise `BadInput`: it is none, or its packages are not installed."""
    if kind not in SUFFIXES:
        raise BadInput(
            f"--to {kind!r} is not known{near(kind, SUFFIXES)}; one of {', '.join(SUFFIXES)} would "
            "be right"
        )
    if kind == "onnx":
        with extra("onnx", "--to onnx"):
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    return kind


def export(model: Model, kind: str, path: Path) -> Exported:
    """Write the model in another format to `path`, check it, and say how it is loaded.

    Raises `BadInput` for a kind that is none, a package that is missing, and a network that the
    format cannot hold; nothing is written then.
    """
    check_kind(kind)
    plain, call = library_model(model)
    write = {"state_dict": _state_dict, "torchscript": _torchscript, "onnx": _onnx}[kind]
    deployed = Deployed(plain, model.network.mean, model.network.std).eval()
    with replace(path) as temporary:
        run, loaded_by = write(deployed, call, model, temporary, path.name)
        difference = checked(run, model, kind)
    about = {**model.about, "exported": kind, "loaded_by": loaded_by}
    about |= _signature(model) if kind != "state_dict" else {"input": "normalised pixels"}
    write_json(path.with_name(f"{path.name}.json"), about)
    return Exported(path, difference, loaded_by)


Run = Callable[[Tensor], np.ndarray]


def checked(run: Run, model: Model, kind: str) -> float:
    """The greatest difference in probability between the exported network and the original, on
    `IMAGES` images together and one alone. Raises `BadInput` where it is more than rounding explains.
    """
    size = model.image_size
    rng = np.random.default_rng(0)
    # smooth and noisy ones, dark and bright
    images = rng.integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
    images[: IMAGES // 2] //= np.array([2, 5], dtype=np.uint8)[:, None, None, None]
    worst, spread = 0.0, LEAST_SPREAD
    for chosen in (images, images[:1]):
        pixels = torch.from_numpy(chosen.transpose(0, 3, 1, 2).copy()).float() / 255
        found, expected = run(pixels), model.probabilities(chosen)
        spread = max(spread, float(np.ptp(expected)))
        if found.shape != expected.shape or not np.isfinite(found).all():
            raise BadInput(f"--to {kind}: the exported network gives {found.shape} of no use")
        worst = max(worst, float(np.abs(found - expected).max()))
    if worst > TOLERANCE * spread:
        raise BadInput(
            f"--to {kind}: the exported network differs from {model.about['network']} by up to "
            f"{worst:.2g} in probability on {IMAGES} images, and was not written"
        )
    return worst


def library_model(model: Model) -> tuple[nn.Module, str]:
    """The library's own network with the model's tensors, and the call that makes one."""
    name, classes, size = model.about["network"], len(model.classes), model.image_size
    chosen = architecture(name)
    if isinstance(model.network, LibraryNetwork):
        plain = model.network.model
    else:
        with torch.random.fork_rng(devices=[]):
            plain = create(f"{chosen.library}:{chosen.model}", classes, size)
        targets, values = plain.state_dict(), model.network.state_dict()
        # a chain keeps its library's order of tensors, whatever their names became
        if [v.shape for v in targets.values()] != [v.shape for v in values.values()]:
            raise BadInput(f"network {name} cannot be written as {chosen.library}'s")
        plain.load_state_dict(dict(zip(targets, values.values(), strict=True)))
    options = f"num_classes={classes}"
    if chosen.library == "timm":
        import timm

        about = timm.get_pretrained_cfg(chosen.model, allow_unregistered=True)
        if about is not None and about.fixed_input_size and about.input_size[-1] != size:
            options += f", img_size={size}"
        return plain.eval(), f"timm.create_model({chosen.model!r}, {options})"
    if chosen.model.startswith("vit_"):
        options += f", image_size={size}"
    return plain.eval(), f"torchvision.models.get_model({chosen.model!r}, weights=None, {options})"


def _state_dict(
    deployed: Deployed, call: str, model: Model, path: Path, shown: str
) -> tuple[Run, str]:
    from safetensors.torch import load_file, save_file

    state = {key: value.contiguous().cpu() for key, value in deployed.network.state_dict().items()}
    if safe := path.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    read = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    chosen = architecture(model.about["network"])
    with torch.random.fork_rng(devices=[]):
        fresh = create(f"{chosen.library}:{chosen.model}", len(model.classes), model.image_size)
    fresh.load_state_dict(read)
    load = f"safetensors.torch.load_file({shown!r})" if safe else f"torch.load({shown!r})"
    again = Deployed(fresh.eval(), model.network.mean, model.network.std).eval()
    return _runs(again), f"model = {call}; model.load_state_dict({load})"


def _torchscript(
    deployed: Deployed, call: str, model: Model, path: Path, shown: str
) -> tuple[Run, str]:
    example = torch.rand(2, 3, model.image_size, model.image_size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, and of its own end in favour of others
        try:
            # our own check, on other images and another N, is the stricter one
            traced = torch.jit.trace(deployed, example, check_trace=False)
            traced.save(str(path))
        except RuntimeError as error:
            raise BadInput(_impossible(model, "TorchScript", error)) from error
        again = torch.jit.load(str(path))
    return _runs(again), f"torch.jit.load({shown!r})"


def _onnx(deployed: Deployed, call: str, model: Model, path: Path, shown: str) -> tuple[Run, str]:
    with extra("onnx", "--to onnx"):
        import onnxruntime
    example = torch.rand(2, 3, model.image_size, model.image_size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own parts
        try:
            torch.onnx.export(
                deployed,
                (example,),
                str(path),
                input_names=["pixels"],
                output_names=["probabilities"],
                dynamic_shapes={"pixels": {0: torch.export.Dim("images")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise BadInput(_impossible(model, "ONNX", error)) from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> np.ndarray:
        return np.asarray(session.run(["probabilities"], {"pixels": pixels.numpy()})[0])

    return run, f"onnxruntime.InferenceSession({shown!r})"


def _runs(module: nn.Module) -> Run:
    def run(pixels: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(pixels).float().numpy())

    return run


def _impossible(model: Model, format_name: str, error: Exception) -> str:
    return (
        f"network {model.about['network']} cannot be written as {format_name}: "
        f"{str(error).strip().splitlines()[0]}"
    )


def _signature(model: Model) -> dict[str, Any]:
    size = model.image_size
    return {
        "input": f"pixels: float32 (N, 3, {size}, {size}), RGB in [0, 1], not normalised",
        "output": f"probabilities: float32 (N, {len(model.classes)}), in the order of classes",
    }
