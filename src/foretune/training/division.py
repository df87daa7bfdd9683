"""A network cut in two at the boundary between its frozen and its trained layers.

The forward passes of timm's and torchvision's networks are Python; torch.fx writes them down as a
graph whose nodes are the modules that lie wholly on one side. Only those that hold both, the
network itself and its containers, are looked into, so that what happens inside a block stays the
block's own affair. The cut is possible where one tensor alone goes from the frozen side to the
other, and it is tried before it is used: both halves must give what the whole gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from foretune.training.library import LibraryNetwork

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)


@dataclass(frozen=True)
class Halves:
    """The frozen half, and the trained one as it is in training and in evaluation."""

    trunk: fx.GraphModule
    training: fx.GraphModule
    evaluation: fx.GraphModule

    def __call__(self, x: Tensor, training: bool, trunk: bool) -> Tensor:
        half = self.trunk if trunk else self.training if training else self.evaluation
        out: Tensor = half(x)
        return out


class _Tracer(fx.Tracer):
    """Looks into the modules of `mixed` only."""

    def __init__(self, mixed: set[str]):
        from timm.layers import get_notrace_functions

        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._mixed = mixed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._mixed


def divide(network: LibraryNetwork) -> Halves | None:
    """The halves of `network.model` at its boundary, None where it cannot be cut there."""
    model, mode = network.model, network.training
    try:
        network.train(True)
        in_training = _cut(model)
        network.train(False)
        in_evaluation = _cut(model)
        if in_training is None or in_evaluation is None:
            return None
        halves = Halves(in_evaluation[0], in_training[1], in_evaluation[1])
        same_trunk = str(in_training[0].graph) == str(in_evaluation[0].graph)
        return halves if same_trunk and _agree(network, halves) else None
    finally:
        network.train(mode)


def _cut(model: nn.Module) -> tuple[fx.GraphModule, fx.GraphModule] | None:
    """The halves of a model as it is now, in training or evaluation mode."""
    mixed = {
        name
        for name, module in model.named_modules()
        if len({p.requires_grad for p in module.parameters()}) == 2
    }
    try:
        graph = _Tracer(mixed).trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, IndexError):
        return None  # its forward pass asks what only a real image can answer
    parameters = dict(model.named_parameters())

    def own(node: fx.Node) -> bool:
        """Whether a node is not frozen itself: its tensors are trained, or it drops some."""
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            drops = isinstance(module, DROPOUTS) and module.p > 0
            return drops or any(p.requires_grad for p in module.parameters())
        if node.op == "call_function":
            return node.target is F.dropout
        parameter = parameters.get(str(node.target)) if node.op == "get_attr" else None
        return parameter is not None and parameter.requires_grad

    late: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output" or own(node) or any(one in late for one in node.all_input_nodes):
            late.add(node)
    crossing = [
        node
        for node in graph.nodes
        if node not in late and not _given(node) and any(user in late for user in node.users)
    ]
    if len(crossing) != 1 or crossing[0].op == "placeholder":
        return None
    return _half(model, graph, crossing[0], None), _half(model, graph, crossing[0], late)


def _given(node: fx.Node) -> bool:
    """Whether a node is there for both halves: a parameter, or an argument with a default."""
    return node.op == "get_attr" or (node.op == "placeholder" and bool(node.args))


def _half(
    model: nn.Module, graph: fx.Graph, crossing: fx.Node, late: set[fx.Node] | None
) -> fx.GraphModule:
    """What leads to `crossing`, or what is `late`, which follows from it."""
    half, copied = fx.Graph(), dict[fx.Node, fx.Node]()
    if late is not None:
        copied[crossing] = half.placeholder("features")
        wanted = late | {node for node in graph.nodes if _given(node)}
    else:
        wanted, waiting = set(), [crossing]
        while waiting:
            node = waiting.pop()
            wanted.add(node)
            waiting += [one for one in node.all_input_nodes if one not in wanted]
    for node in graph.nodes:
        if node in wanted and node not in copied:
            copied[node] = half.node_copy(node, lambda one: copied[one])
    if late is None:
        half.output(copied[crossing])
    return fx.GraphModule(model, half)


def _agree(network: LibraryNetwork, halves: Halves) -> bool:
    """Whether both halves give what the whole gives, in evaluation."""
    parameter = next(network.parameters())
    size = network.image_size
    pixels = torch.linspace(-1, 1, 3 * size * size, device=parameter.device)
    images = torch.stack([pixels, pixels.flip(0)]).view(2, 3, size, size)
    with torch.no_grad():
        whole, features = network.model(images), halves.trunk(images)
        if not isinstance(features, Tensor) or features.shape[0] != len(images):
            return False
        cut = halves.evaluation(features)
    return torch.allclose(whole, cut, rtol=1e-3, atol=1e-4)
