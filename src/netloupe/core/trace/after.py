"""The part of a network that follows a layer, to be run again and again with that layer's output changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from netloupe.core.errors import first_line
from netloupe.core.network import LOGITS, Network
from netloupe.core.taps import evaluating, module_and_call


class Rest:
    """The logits as a function of one layer's output, for a batch of images.

    `record` runs the network on images and keeps what the part before and beside the layer hands to the part after it;
    a call then runs that part alone, on an output in place of the layer's. So a layer can be changed many times
    at the cost of what follows. Where the part can't be cut out (a network that `torch.fx` can't follow, or whose part
    does not give the logits of the whole), every call runs the whole network, and `whole` says why, else None.

    Raises UnknownName for a layer that is not there. Not for gradients.
    """

    def __init__(self, net: Network, layer: str) -> None:
        self.net = net
        self.layer = net.layer(layer).name
        self.whole: str | None = None
        self._images: Tensor | None = None
        self._held: dict[fx.Node, Any] = {}
        try:
            self._part = _Part(net.module, self.layer)
        except Exception as error:  # tracing runs the module's code on stand-ins for tensors, which may raise anything
            self.whole = f"it can't be traced: {first_line(error)}"

    @torch.no_grad()
    def record(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output and the logits (N, classes) of images (N, C, H, W) in [0, 1]; later calls are of these."""
        self._images = images
        found: list[Tensor] = []
        clean: list[Tensor] = []
        self.net.run(images, {self.layer: lambda x: found.append(x.clone()), LOGITS: clean.append})
        if self.whole is None:
            try:
                x = self.net.inputs.normalize(images.to(self.net.device)).to(clean[0].dtype)
                with evaluating(self.net.module):
                    self._held = self._part.before(x)
                near = 1e-5 * float(clean[0].abs().max())
                again = (self._after(found[0].clone()) for _ in range(2))  # twice: what is kept may be written to
                same = all(torch.allclose(logits, clean[0], rtol=1e-4, atol=near) for logits in again)
                self.whole = None if same else "the part after the layer does not give the logits of the whole"
            except Exception as error:  # as above: the traced code has the module's shapes and branches built in
                self.whole = f"it can't be cut: {first_line(error)}"
        return found[0], clean[0]

    @torch.no_grad()
    def __call__(self, output: Tensor) -> Tensor:
        """The logits (N, classes) of the recorded images with `output` for the layer's; it may be overwritten."""
        assert self._images is not None, "record images first"
        if self.whole is None:
            return self._after(output)
        logits: list[Tensor] = []
        self.net.run(self._images, {self.layer: lambda _: output, LOGITS: logits.append})
        return logits[0]

    def _after(self, output: Tensor) -> Tensor:
        with evaluating(self.net.module):
            return self.net.head.pick(self._part.after(output, self._held))


class _Tracer(fx.Tracer):
    """Follows a module, but not into the one that is to be cut after."""

    def __init__(self, whole: str) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self._whole or super().is_leaf_module(m, module_qualified_name)


class _Part:
    """A module's operations, apart by whether they depend on a layer's output."""

    def __init__(self, module: nn.Module, layer: str) -> None:
        name, call = module_and_call(layer)
        graph = _Tracer(name).trace(module)
        calls = [node for node in graph.nodes if node.op == "call_module" and node.target == name]
        if len(calls) < call:
            raise LookupError(f"layer {layer!r} is not called by the module's code")
        self._module = fx.GraphModule(module, graph)
        nodes = list(self._module.graph.nodes)
        self._cut = [node for node in nodes if node.op == "call_module" and node.target == name][call - 1]
        dependent = {self._cut}
        for node in nodes:
            if dependent.intersection(node.all_input_nodes):
                dependent.add(node)
        if nodes[-1] not in dependent:
            raise LookupError(f"what the module returns does not depend on layer {layer!r}")
        self._later = [node for node in nodes if node in dependent and node is not self._cut]
        self._earlier = [node for node in nodes if node not in dependent]
        self._read = {one for node in self._later for one in node.all_input_nodes} - dependent

    def before(self, x: Tensor) -> dict[fx.Node, Any]:
        """What the operations after the cut read of the others."""
        interpreter = fx.Interpreter(self._module, garbage_collect_values=False)
        interpreter.args_iter = iter([x])
        if self._read:
            for node in self._earlier:
                interpreter.env[node] = interpreter.run_node(node)
        return {node: interpreter.env[node] for node in self._read}

    def after(self, output: Tensor, held: dict[fx.Node, Any]) -> Any:
        """What the module returns, with `output` at the cut."""
        interpreter = fx.Interpreter(self._module)
        interpreter.env = {**held, self._cut: output}
        for node in self._later:
            interpreter.env[node] = interpreter.run_node(node)
            for done in interpreter.user_to_last_uses.get(node, []):
                interpreter.env.pop(done, None)
        return interpreter.env[self._later[-1]]
