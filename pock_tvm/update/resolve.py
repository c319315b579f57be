"""From a scheme and a model to what exactly learns: tensors, channels, factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.update.blocks import within_blocks
from pock_tvm.update.channels import ChannelSlice, choose_channels
from pock_tvm.update.parameters import Parameter
from pock_tvm.update.patterns import matches, matching
from pock_tvm.update.scheme import LoRA, Rule, UpdateScheme, nothing_to_train
from pock_tvm.update.selectors import SELECTORS


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Low-rank adaptation of one weight."""

    lora: LoRA
    inputs: int
    outputs: int
    transposed: bool
    """The weight is [out, in]; else [in, out]. Axes of extent one do not count."""

    @classmethod
    def of(cls, lora: LoRA, parameter: Parameter) -> "Adaptation":
        """Read the extents of a weight."""
        inner, outer = parameter.input_axis, parameter.output_axis
        assert inner is not None, parameter.name
        assert outer is not None, parameter.name
        shape = parameter.shape
        return cls(lora=lora, inputs=shape[inner], outputs=shape[outer], transposed=outer < inner)

    def describe(self, weight: str) -> dict[str, Any]:
        """Return what is needed to merge the factors into the weight, and their names."""
        a, b = lora_names(weight)
        return {
            "kind": "lora",
            "rank": self.lora.rank,
            "alpha": self.lora.alpha,
            "scale": self.lora.scale,
            "transposed": self.transposed,
            "a": a,
            "b": b,
        }


@dataclass(frozen=True, kw_only=True)
class Update:
    """What exactly learns. Names are the model's own, in its order."""

    whole: tuple[str, ...] = ()
    channels: Mapping[str, ChannelSlice] = field(default_factory=dict)
    lora: Mapping[str, Adaptation] = field(default_factory=dict)
    """By the weight, which stays as it is."""
    lazy_rows: tuple[str, ...] = ()
    """Those of ``whole`` that are tables, to be updated in the rows that a batch has read."""

    def describe(self) -> dict[str, Any]:
        """Return, by tensor, what is done to it, for the manifest."""
        done: dict[str, Any] = {
            name: {"kind": "rows" if name in self.lazy_rows else "whole"} for name in self.whole
        }
        for name, chosen in self.channels.items():
            done[name] = {"kind": "channels", **chosen.describe()}
        return done | {name: a.describe(name) for name, a in self.lora.items()}


def lora_names(weight: str) -> tuple[str, str]:
    """Return the names of the factors A [in, rank] and B [rank, out] of a weight."""
    return f"{weight}.lora_A", f"{weight}.lora_B"


def resolve(
    scheme: UpdateScheme, parameters: Sequence[Parameter], values: Mapping[str, np.ndarray]
) -> Update:
    """Find out what exactly learns.

    Args:
        scheme: what was asked for.
        parameters: those of the model that gradients train, in its order.
        values: their trained values, which decide about channels.

    Raises:
        UnknownNameError: a pattern or a selector names nothing, or nothing is left to train.
        PockError: a share of a tensor that has no input channels, integers asked to train, LoRA on
            what is not linear, one tensor both trained and frozen.
    """
    learnable = [p for p in parameters if p.learnable]
    shares: dict[str, Fraction] = {}
    for pattern in scheme.trainable:
        for p in _matched(pattern, parameters, scheme.name):
            shares[p.name] = Fraction(1)
    for position, rule in enumerate(scheme.rules, 1):
        where = f"update scheme {scheme.name!r}: update {position}"
        for p in _of_rule(rule, parameters, learnable, scheme.name, where):
            shares[p.name] = rule.channels
    lora: dict[str, LoRA] = {}
    for one in scheme.lora:
        for p in _targets(one, parameters, learnable, scheme.name):
            if p.name in lora:
                raise PockError(
                    f"update scheme {scheme.name!r}: {p.name} gets LoRA twice; name it once"
                )
            lora[p.name] = one
    for p in _frozen(scheme, parameters):
        shares.pop(p.name, None)
        lora.pop(p.name, None)
    both = sorted(shares.keys() & lora.keys())
    if both:
        raise PockError(
            f"update scheme {scheme.name!r}: {both[0]} is both trained and the target of LoRA, "
            "which keeps it frozen; take it out of one"
        )
    if not shares and not lora:
        raise nothing_to_train(scheme.name)
    slices = {
        p.name: choose_channels(p, values[p.name], shares[p.name], scheme.pick, scheme.seed)
        for p in learnable
        if shares.get(p.name, 1) < 1
    }
    sparse = {name: s for name, s in slices.items() if len(s.channels) < s.of}
    whole = [p for p in learnable if p.name in shares and p.name not in sparse]
    lazy = [p.name for p in whole if p.reader == "embedding"]
    if scheme.embeddings == "lazy-rows" and not lazy:
        raise PockError(
            f"update scheme {scheme.name!r} asks for lazy-rows, but trains no table of embeddings; "
            "leave `embeddings` out"
        )
    return Update(
        whole=tuple(p.name for p in whole),
        channels=sparse,
        lora={p.name: Adaptation.of(lora[p.name], p) for p in learnable if p.name in lora},
        lazy_rows=tuple(lazy) if scheme.embeddings == "lazy-rows" else (),
    )


def _by_any_name(parameters: Sequence[Parameter]) -> dict[str, Parameter]:
    return {name: p for p in parameters for name in p.names}


def _matched(
    pattern: str, parameters: Sequence[Parameter], scheme: str, *, also: str = ""
) -> list[Parameter]:
    """Return the parameters that a pattern names and that can learn."""
    named = _by_any_name(parameters)
    found = list(dict.fromkeys(named[n] for n in matches(pattern, list(named), scheme, also=also)))
    learnable = [p for p in found if p.learnable]
    if not learnable:
        raise PockError(
            f"update scheme {scheme!r}: {found[0].name} holds {found[0].dtype}; only "
            "floating-point tensors can learn"
        )
    return learnable


def _of_rule(
    rule: Rule,
    parameters: Sequence[Parameter],
    learnable: Sequence[Parameter],
    scheme: str,
    where: str,
) -> list[Parameter]:
    unknown = [word for word in rule.what if word not in SELECTORS]
    if unknown:
        raise UnknownNameError(
            f"{where}: unknown selector {unknown[0]!r}; known are {', '.join(SELECTORS)}"
        )
    meant = {p.name for pattern in rule.match for p in _matched(pattern, parameters, scheme)}
    if rule.blocks is not None:
        meant = set(
            within_blocks(rule.blocks, [p.name for p in learnable if p.name in meant], where)
        )
    kinds = {p.name for word in rule.what for p in SELECTORS[word](learnable)}
    found = [p for p in learnable if p.name in meant & kinds]
    if not found:
        raise UnknownNameError(
            f"{where}: {' or '.join(rule.what)} names nothing in the model there"
        )
    if rule.channels < 1:
        lacking = next((p for p in found if p.input_axis is None), None)
        if lacking is not None:
            raise PockError(
                f"{where}: channels = {str(rule.channels)!r} on {lacking.name}, which is no weight "
                "of a convolution or linear layer and has no input channels; give it an update of "
                "its own"
            )
    return found


def _targets(
    lora: LoRA, parameters: Sequence[Parameter], learnable: Sequence[Parameter], scheme: str
) -> list[Parameter]:
    where = f"update scheme {scheme!r}: lora"
    found: dict[str, Parameter] = {}
    for target in lora.targets:
        if target in SELECTORS:
            meant = SELECTORS[target](learnable)
        else:
            also = f"; it is no selector either: those are {', '.join(SELECTORS)}"
            meant = _matched(target, parameters, scheme, also=also)
        linear = [p for p in meant if _is_linear(p)]
        if not linear:
            raise PockError(
                f"{where}: {target!r} names no linear layer or 1x1 convolution"
                + (f" ({meant[0].name} is none)" if meant else "")
            )
        found.update((p.name, p) for p in linear)
    names = [p.name for p in learnable if p.name in found]
    if lora.blocks is not None:
        inside = within_blocks(lora.blocks, names, where)
        return [found[name] for name in inside]
    return [found[name] for name in names]


def _is_linear(p: Parameter) -> bool:
    return p.reader == "linear" or (p.reader == "conv" and p.pointwise and p.groups == 1)


def _frozen(scheme: UpdateScheme, parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return what the frozen patterns take out; a tied tensor goes with all of its names."""
    named = _by_any_name(parameters)
    frozen = {n for pattern in scheme.frozen for n in matches(pattern, list(named), scheme.name)}
    trained = {n for pattern in scheme.trainable for n in matching(pattern, list(named))}
    for p in parameters:
        free = [n for n in p.names if n not in frozen]
        if free and len(free) < len(p.names) and trained & set(free):
            held = next(n for n in p.names if n in frozen)
            raise PockError(
                f"update scheme {scheme.name!r}: {free[0]} and {held} are one tensor, which cannot "
                "be trained and frozen; name both or neither in `frozen`"
            )
    return [p for p in parameters if any(n in frozen for n in p.names)]
