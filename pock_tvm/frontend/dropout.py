"""Keep the dropouts of a PyTorch program through its import.

Decomposition and TVM's importer both lose them, and an in-place one would be imported as times
zero. So each becomes a call of an operator of our own, which passes through and is imported as
``pock.dropout``; whether it drops anything is decided when the model is compiled.
"""

from typing import Any

import torch
from tvm import relax

from pock_tvm.frontend.torch_converters.rewritten_attention import attention
from pock_tvm.relay_passes.operators.dropout import dropout

_DROPOUTS = (
    "dropout",
    "feature_dropout",
    "native_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
)
_ATTENTION = "scaled_dot_product_attention"


@torch.library.custom_op("pock_tvm::random_dropout", mutates_args=())
def _random_dropout(
    x: torch.Tensor,
    p: float,
    stream: int,
    feature: bool,  # noqa: FBT001
    alpha: bool,  # noqa: FBT001
) -> torch.Tensor:
    raise NotImplementedError("a marker for the importer")


@_random_dropout.register_fake
def _(
    x: torch.Tensor,
    p: float,
    stream: int,
    feature: bool,  # noqa: FBT001
    alpha: bool,  # noqa: FBT001
) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("pock_tvm::dropping_attention", mutates_args=())
def _dropping_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    is_causal: bool,  # noqa: FBT001
    scale: float | None,
    enable_gqa: bool,  # noqa: FBT001
    stream: int,
) -> torch.Tensor:
    raise NotImplementedError("a marker for the importer")


def _attention_weights_dropped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    is_causal: bool,  # noqa: FBT001
    scale: float | None,
    enable_gqa: bool,  # noqa: FBT001
    stream: int,
) -> torch.Tensor:
    """Attention whose weights pass through a dropout before they meet the values."""

    def drop(weights: torch.Tensor) -> torch.Tensor:
        return torch.ops.pock_tvm.random_dropout(
            weights, dropout_p, stream, feature=False, alpha=False
        )

    given = (query, key, value, attn_mask)
    return attention(*given, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa, drop=drop)


_dropping_attention.register_fake(_attention_weights_dropped)


def mark_dropouts(program: torch.export.ExportedProgram) -> None:
    """Replace every dropout by a marker, or by its input where it drops nothing."""
    graph = program.graph
    stream = 0
    for node in list(graph.nodes):
        name = _operator_name(node)
        if node.op != "call_function":
            continue
        if name == _ATTENTION:
            stream += _mark_attention(node, stream)
            continue
        kind = name.removesuffix("_")
        if kind not in _DROPOUTS:
            continue
        x, p = node.args[0], float(node.args[1])
        result = x
        if p:
            with graph.inserting_before(node):
                arguments = (x, p, stream, kind.startswith("feature"), "alpha" in kind)
                result = graph.call_function(torch.ops.pock_tvm.random_dropout.default, arguments)
            result.meta = {**x.meta, "nn_module_stack": node.meta.get("nn_module_stack")}
            stream += 1
        _replace(node, x, result, in_place=name.endswith("_"))


def _mark_attention(node: torch.fx.Node, stream: int) -> bool:
    """Replace an attention that drops by a marker; tell whether it does."""
    given = _arguments(node)
    if not given["dropout_p"]:
        return False
    marker = torch.ops.pock_tvm.dropping_attention.default
    order = [argument.name for argument in marker._schema.arguments[:-1]]
    with node.graph.inserting_before(node):
        result = node.graph.call_function(marker, (*(given[n] for n in order), stream))
    result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    node.graph.erase_node(node)
    return True


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
    given = _arguments(node)
    x = importer.env[given["x"]]
    shared = list(range(2, x.ty.ndim)) if given["feature"] else []
    p, stream, alpha = given["p"], given["stream"], given["alpha"]
    return importer.block_builder.emit(dropout(x, p=p, stream=stream, shared=shared, alpha=alpha))


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator by name, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload)
    parameters = node.target._schema.arguments
    given = dict(zip((a.name for a in parameters), node.args, strict=False))
    return {**{a.name: a.default_value for a in parameters}, **given, **node.kwargs}


DROPOUT_DECOMPOSITIONS = {torch.ops.pock_tvm.dropping_attention.default: _attention_weights_dropped}
"""For ``run_decompositions``: what to write out."""

DROPOUT_CONVERTERS = {"random_dropout.default": _convert}
"""For TVM's importer: how to import the marker."""


def _operator_name(node: torch.fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]
