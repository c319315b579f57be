"""Keep ``detach`` and ``no_grad`` of a PyTorch program through its import.

Decomposition turns both into plain copies, and gradients would flow where the model lets none
through. So what they return passes through an operator of our own, imported as
``pock.stop_gradient``.
"""

from typing import Any

import torch
from tvm import relax

from pock_tvm.relay_passes.operators.stop_gradient import stop_gradient

_DETACHED = ("detach", "detach_", "detach_copy")


@torch.library.custom_op("pock_tvm::stop_gradient", mutates_args=())
def _stop_gradient(x: torch.Tensor) -> torch.Tensor:
    return x.clone()  # decomposition runs it on constants


@_stop_gradient.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def mark_gradient_barriers(program: torch.export.ExportedProgram) -> None:
    """Mark what ``detach`` returns, and what leaves a block without gradients."""
    for node in list(program.graph.nodes):
        if node.op == "call_function" and (_detaches(node) or _leaves_no_grad(node)):
            _mark(node)


def _detaches(node: torch.fx.Node) -> bool:
    return str(getattr(node.target, "__name__", "")).split(".")[0] in _DETACHED


def _leaves_no_grad(node: torch.fx.Node) -> bool:
    """Tell whether ``node`` takes one result out of a ``wrap_with_set_grad_enabled(False, …)``."""
    block = node.args[0] if node.args else None
    return (
        isinstance(block, torch.fx.Node)
        and str(node.target).endswith("getitem>")
        and str(block.target) == "wrap_with_set_grad_enabled"
        and block.args[0] is False
    )


def _mark(node: torch.fx.Node) -> None:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return
    with node.graph.inserting_after(node):
        marker = node.graph.call_function(torch.ops.pock_tvm.stop_gradient.default, (node,))
    marker.meta = dict(node.meta)
    node.replace_all_uses_with(marker, delete_user_cb=lambda user: user is not marker)


def _convert(node: torch.fx.Node, importer: Any) -> relax.Var:
    (x,) = importer.retrieve_args(node)
    return importer.block_builder.emit(stop_gradient(x))


BARRIER_CONVERTERS = {"stop_gradient.default": _convert}
"""For TVM's importer: how to import the marker."""
