"""Keep the dropouts of a PyTorch program through its import.

Decomposition and TVM's importer both lose them, and an in-place one would be imported as times
zero. So each becomes a call of an operator of our own, which passes through and is imported as
``pock.dropout``; whether it drops anything is decided when the model is compiled.
"""

from typing import Any

import torch
from tvm import relax

from pock_tvm.relay_passes.operators.dropout import dropout

_DROPOUTS = ("dropout", "dropout_", "feature_dropout", "feature_dropout_", "native_dropout")
_NEVER_KEPT = ("alpha_dropout", "alpha_dropout_", "feature_alpha_dropout")
"""They fill in a value of their own instead of zero, for SELU; training goes without them."""


@torch.library.custom_op("pock_tvm::random_dropout", mutates_args=())
def _random_dropout(x: torch.Tensor, p: float, stream: int, feature: bool) -> torch.Tensor:  # noqa: FBT001
    raise NotImplementedError("a marker for the importer")


@_random_dropout.register_fake
def _(x: torch.Tensor, p: float, stream: int, feature: bool) -> torch.Tensor:  # noqa: FBT001
    return torch.empty_like(x)


def mark_dropouts(program: torch.export.ExportedProgram) -> None:
    """Replace every dropout by a marker, or by its input where it drops nothing."""
    graph = program.graph
    stream = 0
    for node in list(graph.nodes):
        name = _operator_name(node)
        if node.op != "call_function" or name not in (*_DROPOUTS, *_NEVER_KEPT):
            continue
        x, p = node.args[0], float(node.args[1])
        result = x
        if p and name in _DROPOUTS:
            with graph.inserting_before(node):
                arguments = (x, p, stream, name.startswith("feature"))
                result = graph.call_function(torch.ops.pock_tvm.random_dropout.default, arguments)
            result.meta = {**x.meta, "nn_module_stack": node.meta.get("nn_module_stack")}
            stream += 1
        _replace(node, x, result, in_place=name.endswith("_"))


def _replace(node: torch.fx.Node, x: Any, result: Any, *, in_place: bool) -> None:
    """Let readers of ``node`` read ``result``; behind an in-place one, readers of ``x`` as well."""
    place = {n: i for i, n in enumerate(node.graph.nodes)}
    for field in [n for n in node.users if _operator_name(n) == "getitem"]:
        field.replace_all_uses_with(result)  # of native_dropout; only autograd reads its mask
        node.graph.erase_node(field)
    node.replace_all_uses_with(result)
    if in_place and result is not x:
        x.replace_all_uses_with(result, delete_user_cb=lambda n: place.get(n, -1) > place[node])
    node.graph.erase_node(node)


def _convert(node: torch.fx.Node, importer: Any) -> relax.Var:
    x, p, stream, feature = node.args
    value = importer.env[x]
    shared = range(2, value.ty.ndim) if feature else ()
    return importer.block_builder.emit(dropout(value, p=p, stream=stream, shared=list(shared)))


DROPOUT_CONVERTERS = {"random_dropout.default": _convert}
"""For TVM's importer: how to import the marker."""


def _operator_name(node: torch.fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]
