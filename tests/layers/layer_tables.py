"""Layers of PyTorch, imported and trained by us in float64 and compared with PyTorch's autograd.

A table of layers is one module, exported, imported, differentiated and compiled once: one by one
they would take minutes. The loss is Σ w · layer(x) over all outputs; x, w and the layers' own
parameters are all trainable, so the gradients hold everything there is to compare: that of w is the
layer's output.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import tvm
from torch import nn

from pock_tvm.frontend.torch_export import import_program
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.fold_empty_tensors import FoldEmptyTensors
from pock_tvm.relay_passes.operators import LOWERINGS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer at one set of shapes.

    Args:
        name: unique in its table.
        call: a module, or a function of tensors; returns a tensor or several. A function may be
            given constants (indices, masks) as attributes of a module.
        shapes: of its float inputs, which are drawn uniformly from ``low`` to ``high``.
        values: its inputs themselves, instead of ``shapes``.
        rtol: larger only where PyTorch itself computes less exactly than in float64.
    """

    name: str
    call: Callable[..., Any]
    shapes: tuple[Shape, ...] = ()
    low: float = -2.0
    high: float = 2.0
    values: tuple[Any, ...] = field(default=(), compare=False)
    rtol: float = 1e-10

    def inputs(self) -> list[torch.Tensor]:
        """Return the inputs of the layer, the same each time."""
        if self.values:
            return [torch.tensor(v, dtype=torch.float64) for v in self.values]
        rng = np.random.default_rng(len(self.name))
        return [torch.tensor(rng.uniform(self.low, self.high, shape)) for shape in self.shapes]


class _Weighted(nn.Module):
    """Σ w · layer(x), with x and w as parameters."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.call = layer.call.double() if isinstance(layer.call, nn.Module) else layer.call
        self.x = nn.ParameterList(layer.inputs())
        generator = torch.Generator().manual_seed(1)
        shapes = [y.shape for y in self.outputs()]
        self.w = nn.ParameterList(
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
        )

    def outputs(self) -> list[torch.Tensor]:
        result = self.call(*self.x)
        return list(result) if isinstance(result, tuple | list) else [result]

    def forward(self) -> torch.Tensor:
        pairs = zip(self.outputs(), self.w, strict=True)
        return sum((y * w).sum() for y, w in pairs)


class _Table(nn.Module):
    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Weighted(layer) for layer in layers)

    def forward(self) -> torch.Tensor:
        return sum(layer() for layer in self.layers)


class CompiledLayers:
    """What PyTorch and we make of a table of layers: outputs and gradients, layer by layer."""

    def __init__(self, layers: list[Layer], batch_norm: Statistics = "frozen") -> None:
        names = [layer.name for layer in layers]
        assert len(set(names)) == len(names), "names are not unique"
        self.index = {name: i for i, name in enumerate(names)}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            table = _Table(layers).eval()
        _draw_statistics(table)
        self.ours = _compile_and_run(table, batch_norm)
        table.train(batch_norm == "train")
        table().backward()
        self.theirs = {n: p.grad.numpy() for n, p in table.named_parameters()}

    def check(self, layer: Layer) -> None:
        """Compare outputs and gradients; sums of a few thousand doubles agree to 1e-11."""
        prefix = f"layers.{self.index[layer.name]}."
        keys = [key for key in self.theirs if key.startswith(prefix)]
        assert keys
        for key in keys:
            what = key.removeprefix(prefix)
            ours, theirs = self.ours[key], self.theirs[key]
            assert ours.shape == theirs.shape, what
            np.testing.assert_allclose(ours, theirs, layer.rtol, 1e-11, err_msg=what)


def _draw_statistics(module: nn.Module) -> None:
    """Give batch norms statistics that are neither 0 nor 1."""
    rng = np.random.default_rng(0)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.tensor(rng.uniform(0.5, 1.5, buffer.shape)))


def _compile_and_run(table: nn.Module, batch_norm: Statistics) -> Mapping[str, np.ndarray]:
    """Return the gradient of every parameter, in PyTorch's layout."""
    model = import_program(torch.export.export(table, ()), "layers", batch=1)
    known = {n: model.parameters[n] for n in model.buffers} if batch_norm == "frozen" else {}
    mod = pipeline.canonicalize(batch_norm, known)(model.mod)
    trainable = [n for n in model.parameters if n not in model.buffers]
    axes = {str(n): tuple(map(int, a)) for n, a in mod["main"].attrs["stored_axes"].items()}
    extra = len(mod["main"].ret_ty.fields) if batch_norm == "train" else 1
    mod = FoldEmptyTensors()(DeriveBackward(trainable)(mod))
    legal = tvm.relax.transform.LegalizeOps(LOWERINGS)(mod)
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    vm = tvm.relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())
    arguments = [model.parameters[p.name] for p in mod["main"].params]
    stored = [
        np.ascontiguousarray(a.transpose(axes[p.name])) if p.name in axes else a
        for p, a in zip(mod["main"].params, arguments, strict=True)
    ]
    gradients = list(vm["main"](*map(tvm.runtime.tensor, stored)))[extra:]
    return {
        n: np.transpose(g.numpy(), np.argsort(axes[n])) if n in axes else g.numpy()
        for n, g in zip(trainable, gradients, strict=True)
    }
