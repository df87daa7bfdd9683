"""Optimizers by name.

`sgd`, `adam`, `adagrad` and `rmsprop` are PyTorch's, `adabound`, `adas` and `sls` our own
(`foretune.training.paper_optimizers`): their weight decay acts on every tensor. The names of
`TIMM_OPTIMIZERS` are timm's, made by its `create_optimizer_v2`: no decay on biases, norms and what
the network excepts. `layer_decay` scales the rate of each layer by its distance from the last one
(timm's `param_groups_layer_decay`, of BEiT), as `lr_scale` of its group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput
from foretune.training.knobs import OPTIMIZERS, TIMM_OPTIMIZERS

if TYPE_CHECKING:
    import torch

    from foretune.training.recipe import Recipe


def build(
    name: str,
    params: Iterable[Any],
    lr: float,
    weight_decay: float = 0.0,
    **options: Any,
) -> torch.optim.Optimizer:
    """An optimizer of PyTorch's or our own over `params`, parameters or groups of them.

    `options` go to it as they are (momentum for sgd, betas for adam). `sgd` has momentum 0.9 unless
    told otherwise; `adam` with weight decay has it in the gradient, as in the papers. Raises
    `BadInput` for an unknown name and for values that the optimizer refuses. The fused kernels do a
    step in one pass over the memory.
    """
    import torch

    params = list(params)
    tensors = [t for p in params for t in (p["params"] if isinstance(p, dict) else [p])]
    on_cpu = all(p.device.type == "cpu" for p in tensors)
    try:
        match name:
            case "sgd":
                return torch.optim.SGD(
                    params,
                    lr=lr,
                    weight_decay=weight_decay,
                    fused=True,
                    **{"momentum": 0.9, **options},
                )
            case "adam":
                return torch.optim.Adam(
                    params, lr=lr, weight_decay=weight_decay, fused=True, **options
                )
            case "adagrad":
                return torch.optim.Adagrad(
                    params, lr=lr, weight_decay=weight_decay, fused=on_cpu, **options
                )
            case "rmsprop":
                return torch.optim.RMSprop(params, lr=lr, weight_decay=weight_decay, **options)
            case "adabound" | "adas" | "sls":
                from foretune.training.paper_optimizers import SLS, AdaBound, AdaS

                made: type[Any] = {"adabound": AdaBound, "adas": AdaS, "sls": SLS}[name]
                return made(params, lr=lr, weight_decay=weight_decay, **options)
    except (ValueError, TypeError) as error:
        raise BadInput(f"optimizer {name} refuses its settings: {error}") from error
    raise BadInput(
        f"optimizer {name!r} is not known; one of {', '.join((*OPTIMIZERS, *TIMM_OPTIMIZERS))} "
        "would be right"
    )


def of_recipe(network: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over what `network` trains. Raises `BadInput`."""
    options = recipe.optimizer_options
    if recipe.optimizer in TIMM_OPTIMIZERS:
        from timm.optim import create_optimizer_v2

        try:
            made: torch.optim.Optimizer = create_optimizer_v2(
                network,
                opt=recipe.optimizer,
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                layer_decay=recipe.layer_decay if recipe.layer_decay < 1 else None,
                **options,
            )
        except (ValueError, TypeError) as error:
            raise BadInput(f"optimizer {recipe.optimizer} refuses its settings: {error}") from error
        return made
    params: list[Any] = [p for p in network.parameters() if p.requires_grad]
    if recipe.layer_decay < 1:
        from timm.optim import param_groups_layer_decay

        params = param_groups_layer_decay(
            network,
            weight_decay=recipe.weight_decay,
            layer_decay=recipe.layer_decay,
            weight_decay_exclude_1d=False,
        )
    return build(recipe.optimizer, params, recipe.learning_rate, recipe.weight_decay, **options)


def check(recipe: Recipe) -> None:
    """Raise `BadInput` where the recipe's optimizer refuses its options."""
    import torch

    weight = torch.nn.Linear(1, 1)
    of_recipe(weight, replace(recipe, layer_decay=1.0))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group the rate, times its own scale where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"] if "lr_scale" in group else rate
