"""Every VJP rule against central differences and PyTorch, in float64."""

import numpy as np
import pytest
import torch
import tvm
from rule_case import Case
from rule_cases import CASES
from special_values import SPECIAL, Special
from tvm import relax

from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.vjp import NON_DIFFERENTIABLE, operators_with_rules, registry

EPS = 1e-5  # truncation ~ eps² = 1e-10, cancellation ~ 1e-16 / eps = 1e-11: both below rtol


class Compiled:
    """All cases in one module: compiling them one by one would take minutes."""

    def __init__(self) -> None:
        self.operators: set[str] = set()
        bb = relax.BlockBuilder()
        for i, case in enumerate([*CASES, *SPECIAL]):
            self._add(bb, i, case)
        self.index = {case.name: i for i, case in enumerate([*CASES, *SPECIAL])}
        legal = relax.transform.LegalizeOps(LOWERINGS)(bb.get())
        target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
        self.vm = relax.VirtualMachine(tvm.compile(legal, target=target), tvm.cpu())

    def _add(self, bb: relax.BlockBuilder, i: int, case: Case | Special) -> None:
        def variables():
            types = [relax.TensorType(s, "float64") for s in case.shapes]
            return [relax.Var(f"x{k}", ty) for k, ty in enumerate(types)]

        xs = variables()
        with bb.function(f"forward{i}", xs):
            with bb.dataflow():
                y = bb.emit_output(case.op(*xs))
            bb.emit_func_output(y)
        types = y.ty.fields if isinstance(y.ty, relax.TupleType) else [y.ty]
        xs, cts = variables(), [relax.Var(f"ct{k}", ty) for k, ty in enumerate(types)]
        with bb.function(f"backward{i}", [*xs, *cts]):
            with bb.dataflow():
                call = bb.normalize(case.op(*xs))
                y = bb.emit(call)
                ct = relax.Tuple(cts) if isinstance(y.ty, relax.TupleType) else cts[0]
                self.operators.add(call.op.name)
                thunks = registry.vjp_rule(call.op.name)(ct, call, y)
                pairs = zip(registry.operands(call), thunks, strict=True)
                grads = {arg: thunk for arg, thunk in pairs if isinstance(arg, relax.Var)}
                out = bb.emit_output(relax.Tuple([bb.emit(grads[x]()) for x in xs]))
            bb.emit_func_output(out)

    def _call(self, name: str, arrays) -> list[np.ndarray]:
        result = self.vm[name](*(tvm.runtime.tensor(np.asarray(a)) for a in arrays))
        return [result.numpy()] if hasattr(result, "numpy") else [r.numpy() for r in result]

    def forward(self, case: Case | Special, *args) -> list[np.ndarray]:
        return self._call(f"forward{self.index[case.name]}", args)

    def backward(self, case: Case | Special, *args) -> list[np.ndarray]:
        return self._call(f"backward{self.index[case.name]}", args)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return Compiled()


def draw(compiled: Compiled, case: Case | Special):
    rng = np.random.default_rng(0)
    args = case.operands(rng)
    # The cotangent of indices is not read; it only has to have their type.
    cts = [rng.standard_normal(y.shape).astype(y.dtype) for y in compiled.forward(case, *args)]
    return rng, args, cts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule_matches_central_differences(compiled: Compiled, case: Case) -> None:
    rng, args, cts = draw(compiled, case)
    tangents = [rng.standard_normal(a.shape) for a in args]
    plus = compiled.forward(case, *(a + EPS * t for a, t in zip(args, tangents, strict=True)))
    minus = compiled.forward(case, *(a - EPS * t for a, t in zip(args, tangents, strict=True)))
    numeric = sum(
        np.vdot(ct, (p - m) / (2 * EPS)) for ct, p, m in zip(cts, plus, minus, strict=True)
    )
    grads = compiled.backward(case, *args, *cts)
    assert [g.shape for g in grads] == list(case.shapes)
    analytic = sum(np.vdot(g, t) for g, t in zip(grads, tangents, strict=True))
    np.testing.assert_allclose(analytic, numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "case", [c for c in [*CASES, *SPECIAL] if c.torch is not None], ids=lambda case: case.name
)
def test_rule_matches_torch(compiled: Compiled, case: Case | Special) -> None:
    _, args, cts = draw(compiled, case)
    inputs = [torch.tensor(a, requires_grad=True) for a in args]
    result = case.torch(*inputs)
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    for ours, theirs in zip(compiled.forward(case, *args), outputs, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
    pairs = [(y, torch.tensor(ct)) for y, ct in zip(outputs, cts, strict=True) if y.requires_grad]
    torch.autograd.backward(*zip(*pairs, strict=True))
    for ours, x in zip(compiled.backward(case, *args, *cts), inputs, strict=True):
        np.testing.assert_allclose(ours, x.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_every_rule_has_a_case(compiled: Compiled) -> None:
    assert compiled.operators == operators_with_rules()


def test_no_operator_is_both_differentiable_and_not() -> None:
    assert not NON_DIFFERENTIABLE & operators_with_rules()
    assert all(tvm.ir.Op.get(name) for name in NON_DIFFERENTIABLE)
