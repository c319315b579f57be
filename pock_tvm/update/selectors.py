"""Selectors: kinds of parameters by a word, over what the graph does with them and their names.

Structure decides where it can (a weight of rank 1 belongs to a normalization, whatever it is
called); names decide what structure does not tell, such as which linear layers make up attention.
"""

from collections.abc import Callable, Sequence

from pock_tvm.update.blocks import block_of
from pock_tvm.update.parameters import Parameter, head_names, name_parts

_ATTENTION = {"attention", "attn", "self_attn", "self_attention", "crossattention", "encoder_attn"}
_QKV = {
    *("query", "key", "value", "q", "k", "v", "qkv", "query_key_value", "c_attn", "in_proj"),
    *(f"{letter}_{form}" for letter in "qkv" for form in ("proj", "lin")),
    *("qkv_proj", "to_q", "to_k", "to_v", "to_qkv", "in_proj_weight"),
}
_FIRST_FFN = {
    *("intermediate", "lin1", "fc1", "c_fc", "gate_proj", "up_proj", "gate_up_proj"),
    *("up", "gate", "wi", "w1", "linear1", "dense_h_to_4h"),
}
_SHORTCUT = {"shortcut", "downsample", "skip", "identity"}


def _words(parameter: Parameter) -> set[str]:
    return set(parameter.name.split("."))


def _is_bias(parameter: Parameter) -> bool:
    leaf = name_parts(parameter.name)[1]
    return leaf.startswith("bias") or leaf.endswith("bias")


def _all(parameters: Sequence[Parameter]) -> list[Parameter]:
    return list(parameters)


def _weight(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if p.is_matrix]


def _bias(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if _is_bias(p)]


def _norm(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Scale and shift: a weight of rank 1 that is no matrix, and the bias beside it."""
    scales = {
        name_parts(p.name)[0]
        for p in parameters
        if len(p.shape) == 1 and not _is_bias(p) and p.reader == "other" and "." in p.name
        if name_parts(p.name)[1] in ("weight", "gamma", "scale", "g")
    }
    return [p for p in parameters if len(p.shape) == 1 and name_parts(p.name)[0] in scales]


def _embedding(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if p.reader == "embedding"]


def _in_qkv(parameter: Parameter) -> bool:
    module, leaf = name_parts(parameter.name)
    return parameter.reader == "linear" and bool({module.rpartition(".")[2], leaf} & _QKV)


def _qkv(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if _in_qkv(p)]


def _attention(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [
        p for p in parameters if p.reader == "linear" and (_words(p) & _ATTENTION or _in_qkv(p))
    ]


def _first_ffn(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [
        p
        for p in parameters
        if p.reader == "linear" and _words(p) & _FIRST_FFN and not _words(p) & _ATTENTION
    ]


def _pointwise(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if p.pointwise]


def _depthwise(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [p for p in parameters if p.reader == "depthwise"]


def _first_conv(parameters: Sequence[Parameter]) -> list[Parameter]:
    first: dict[str, Parameter] = {}
    for p in _pointwise(parameters):
        block = block_of(p.name)
        if block is not None and not _words(p) & _SHORTCUT:
            first.setdefault(block, p)
    return list(first.values())


def _head(parameters: Sequence[Parameter]) -> list[Parameter]:
    meant = set(head_names(parameters))
    return [p for p in parameters if meant & set(p.names)]


SELECTORS: dict[str, Callable[[Sequence[Parameter]], list[Parameter]]] = {
    "all": _all,
    "weight": _weight,
    "bias": _bias,
    "norm": _norm,
    "embedding": _embedding,
    "attention": _attention,
    "qkv": _qkv,
    "first_ffn": _first_ffn,
    "pointwise": _pointwise,
    "depthwise": _depthwise,
    "first_conv": _first_conv,
    "head": _head,
}
"""Parameters of a model, all of them, in order -> those that the word names."""
