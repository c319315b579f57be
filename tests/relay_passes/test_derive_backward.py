"""DeriveBackward: what it sums, what it prunes, what it refuses, and where gradients stand."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax
from tvm.relax import op

from pock_tvm.errors import UnknownNameError, UnreachableParameterError, UnsupportedModelError
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.losses import CrossEntropy
from pock_tvm.relay_passes import derive_backward
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.convert_to_channels_last import ConvertToChannelsLast
from pock_tvm.relay_passes.decompose_batch_norm import DecomposeBatchNorm
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.eliminate_dropout import EliminateDropout
from pock_tvm.relay_passes.fold_pad_into_conv2d import FoldPadIntoConv2d
from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.operators.cross_entropy import cross_entropy


def module(build, **params):
    """Return a module whose main binds what ``build(bb, **variables)`` emits."""
    variables = {
        name: relax.Var(name, relax.TensorType(shape, "int64" if name == "labels" else "float64"))
        for name, shape in params.items()
    }
    bb = relax.BlockBuilder()
    with bb.function("main", list(variables.values())):
        with bb.dataflow():
            result = build(bb, **variables)
            result = result if isinstance(result, tuple) else (result,)
            outputs = [bb.emit_output(r) for r in result]
        bb.emit_func_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    return bb.get()


def values(mod, *arrays):
    legal = relax.transform.LegalizeOps(LOWERINGS)(mod)
    vm = relax.VirtualMachine(tvm.compile(legal, target="llvm"), tvm.cpu())
    return [r.numpy() for r in vm["main"](*(tvm.runtime.tensor(np.asarray(a)) for a in arrays))]


def calls(mod) -> list[tuple[str, relax.Call]]:
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    return [(b.var.name, b.value) for b in bindings if isinstance(b.value, relax.Call)]


def count_operators(mod) -> Counter[str]:
    return Counter(call.op.name for _, call in calls(mod))


def derive(mod, trainable, **options):
    out = DeriveBackward(trainable, **options)(mod)
    relax.analysis.well_formed(out)
    return out


def nhwc_conv(x, w, **window):
    return op.nn.conv2d(
        x, w, data_layout="NHWC", kernel_layout="HWIO", out_dtype="float64", **window
    )


def residual_net(bb, x, w0, b0, w1, b1, w2, labels):
    """Stem, then a block whose input is added to its output, then a linear classifier."""
    h = bb.emit(op.nn.relu(nhwc_conv(x, w0, padding=1) + b0))
    block = bb.emit(nhwc_conv(h, w1, padding=1) + b1)
    h = bb.emit(op.add(h, block))
    pooled = bb.emit(op.mean(h, [1, 2]))
    return cross_entropy(op.matmul(pooled, w2), labels)


RESIDUAL = {
    "x": (2, 5, 5, 3),
    "w0": (3, 3, 3, 4),
    "b0": (4,),
    "w1": (3, 3, 4, 4),
    "b1": (4,),
    "w2": (4, 3),
    "labels": (2,),
}


def test_residual_net_matches_torch() -> None:
    names = ["w0", "b0", "w1", "b1", "w2"]
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(s) for n, s in RESIDUAL.items() if n != "labels"}
    arrays["labels"] = np.array([2, 0])
    loss, *grads = values(derive(module(residual_net, **RESIDUAL), names), *arrays.values())

    t = {n: torch.tensor(a, requires_grad=n in names) for n, a in arrays.items()}
    oihw = {n: t[n].permute(3, 2, 0, 1) for n in ("w0", "w1")}
    h = F.relu(F.conv2d(t["x"].permute(0, 3, 1, 2), oihw["w0"], t["b0"], padding=1))
    h = h + F.conv2d(h, oihw["w1"], t["b1"], padding=1)
    expected = F.cross_entropy(h.mean((2, 3)) @ t["w2"], t["labels"])
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    for name, grad in zip(names, grads, strict=True):
        np.testing.assert_allclose(grad, t[name].grad.numpy(), rtol=1e-10, atol=1e-13)


def test_sums_over_all_uses() -> None:
    def build(bb, x, w):
        shared = bb.emit(op.multiply(w, w))
        return op.sum(op.exp(shared) * x + shared + w)

    x, w = np.array([1.0, 2.0]), np.array([0.5, -0.25])
    _, grad = values(derive(module(build, x=(2,), w=(2,)), ["w"]), x, w)
    np.testing.assert_allclose(grad, 2 * w * np.exp(w * w) * x + 2 * w + 1, rtol=1e-13)


def test_walks_through_tuples_and_aliases() -> None:
    def build(bb, w):
        parts = bb.emit(op.split(w, 3))
        alias = bb.emit(parts)
        pair = bb.emit(relax.Tuple([bb.emit(alias[0]), bb.emit(alias[2])]))
        joined = bb.emit(op.concat(pair, axis=0))
        return op.sum(joined * relax.const([2.0, 3.0, 5.0, 7.0], "float64"))

    _, grad = values(derive(module(build, w=(6,)), ["w"]), np.ones(6))
    np.testing.assert_array_equal(grad, [2, 3, 0, 0, 5, 7])


def test_keeps_outputs_and_the_order_of_trainables() -> None:
    def build(bb, x, v, w):
        y = bb.emit(op.multiply(x, w))
        return bb.emit(op.sum(y + v)), y

    out = derive(module(build, x=(2,), v=(2,), w=(2,)), ["w", 1])
    loss, y, w_grad, v_grad = values(out, [1.0, 2.0], [3.0, 4.0], [5.0, 6.0])
    assert loss == 24
    np.testing.assert_array_equal(y, [5, 12])
    np.testing.assert_array_equal(w_grad, [1, 2])
    np.testing.assert_array_equal(v_grad, [1, 1])


def test_accepts_outputs_bound_to_one_tuple() -> None:
    w = relax.Var("w", relax.TensorType((2,), "float64"))
    bb = relax.BlockBuilder()
    with bb.function("main", [w], attrs={"num_input": 1}):
        with bb.dataflow():
            fields = [bb.emit(op.sum(w * w)), bb.emit(op.negative(w))]
            result = bb.emit_output(relax.Tuple(fields))
        bb.emit_func_output(result)
    out = derive(bb.get(), ["w"])
    assert out["main"].attrs["num_input"] == 1
    loss, negated, grad = values(out, [1.0, 2.0])
    assert loss == 5
    np.testing.assert_array_equal(negated, [-1, -2])
    np.testing.assert_array_equal(grad, [2, 4])


def test_leaves_the_input_and_other_functions_alone() -> None:
    mod = module(residual_net, **RESIDUAL)
    mod["other"] = relax.utils.copy_with_new_vars(mod["main"]).with_attr("global_symbol", "other")
    before = tvm.ir.load_json(tvm.ir.save_json(mod))
    out = derive(mod, ["w0", "w2"])
    tvm.ir.assert_structural_equal(mod, before)
    tvm.ir.assert_structural_equal(out["other"], before["other"])


def conv_chain(n: int):
    def build(bb, x, labels, **params):
        for i in range(n):
            x = bb.emit(nhwc_conv(x, params[f"w{i}"]) + params[f"b{i}"])
            x = bb.emit(op.clip(x, 0, 6))
        pooled = bb.emit(op.mean(x, [1, 2]))
        return cross_entropy(op.matmul(pooled, params["w"]) + params["b"], labels)

    layers = {f"{kind}{i}": s for i in range(n) for kind, s in (("w", (1, 1, 4, 4)), ("b", (4,)))}
    rest = {"w": (4, 3), "b": (3,), "labels": (2,)}
    return module(build, x=(2, 3, 3, 4), **layers, **rest)


N = 4
WEIGHTS, BIASES = [f"w{i}" for i in range(N)], [f"b{i}" for i in range(N)]


@pytest.mark.parametrize(
    "trainable, weight_grads, data_grads",
    [
        pytest.param([*WEIGHTS, *BIASES, "w", "b"], N, N - 1, id="full"),
        pytest.param([*BIASES, "b"], 0, N - 1, id="bias only"),
        pytest.param(["w", "b"], 0, 0, id="classifier only"),
        pytest.param(["w0"], 1, N - 1, id="first only"),
        pytest.param([f"w{N - 1}", f"b{N - 2}"], 1, 1, id="last weight, the bias before"),
    ],
)
def test_builds_only_what_the_update_needs(trainable, weight_grads, data_grads) -> None:
    counts = count_operators(derive(conv_chain(N), trainable))
    assert counts["pock.conv2d_weight_grad"] == weight_grads
    assert counts["pock.conv2d_data_grad"] == data_grads


def test_calls_no_thunk_off_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    called: Counter[tuple[str, int]] = Counter()

    def counting_rule(name: str):
        rule = derive_backward_rule(name)

        def counted(i, thunk):
            def run():
                called[name, i] += 1
                return thunk()

            return run

        def wrapped(ct, call, out):
            thunks = enumerate(rule(ct, call, out))
            return tuple(t and counted(i, t) for i, t in thunks)

        return wrapped

    derive_backward_rule = derive_backward.vjp_rule
    monkeypatch.setattr(derive_backward, "vjp_rule", counting_rule)
    derive(conv_chain(3), ["b1"])
    assert called == {
        ("pock.cross_entropy", 0): 1,
        ("relax.add", 0): 2,  # the classifier's bias, and that of the last convolution
        ("relax.add", 1): 1,  # b1
        ("relax.matmul", 0): 1,
        ("relax.mean", 0): 1,
        ("relax.clip", 0): 2,
        ("relax.nn.conv2d", 0): 1,
    }


def test_emits_a_gradient_as_soon_as_it_can_be() -> None:
    def build(bb, x, w0, w1):
        transposed = [bb.emit(op.permute_dims(w)) for w in (w0, w1)]
        for w in transposed:
            x = bb.emit(op.tanh(op.matmul(x, w)))
        return op.sum(x)

    out = derive(module(build, x=(2, 4), w0=(5, 4), w1=(3, 5)), ["w0", "w1"])
    order = [name for name, _ in calls(out)]
    first_layer = order[order.index("w1_grad") + 1 :]
    # Between the two gradients stands only what the first layer needs: tanh', xᵀ, the product.
    assert first_layer[-1] == "w0_grad"
    assert len(first_layer) == 6, first_layer
    matmuls = [i for i, (_, call) in enumerate(calls(out)) if call.op.name == "relax.matmul"]
    data_grad, weight_grad = matmuls[2:4]
    assert data_grad < weight_grad < order.index("w1_grad"), "w1 is read before it may be updated"


def test_no_gradient_through_integers_and_steps() -> None:
    def build(bb, w):
        steps = bb.emit(op.floor(w))
        whole = bb.emit(op.astype(op.astype(w, "int32"), "float64"))
        return op.sum(w * steps * whole)

    out = derive(module(build, w=(2,)), ["w"])
    _, grad = values(out, [2.5, -3.5])
    np.testing.assert_array_equal(grad, [4, 12])


def test_lists_every_operator_without_a_rule() -> None:
    def build(bb, x, w, v):
        frozen = bb.emit(op.ewise_fma(x, x, x))
        y = bb.emit(op.multiply(frozen, w))
        a = bb.emit(op.ewise_fma(y, y, y))
        b = bb.emit(op.collapse_sum_to(a, (1,)), "bent")
        c = bb.emit(op.ewise_fma(v, v, v))
        return op.sum(b + c)

    mod = module(build, x=(3,), w=(3,), v=(3,))
    with pytest.raises(UnsupportedModelError) as caught:
        DeriveBackward(["w", "v"])(mod)
    message = str(caught.value)
    assert "relax.ewise_fma (" in message
    assert "after w" in message
    assert "after v" in message
    assert "relax.collapse_sum_to (bent, after w)" in message
    assert message.count("after") == 3, "the frozen one is on no path"


def test_names_trainables_that_do_not_reach_the_loss() -> None:
    def build(bb, x, w, v, u):
        bb.emit(op.exp(v))
        return op.sum(x * w + op.floor(u))

    mod = module(build, x=(3,), w=(3,), v=(3,), u=(3,))
    with pytest.raises(UnreachableParameterError, match="depend on v, u:"):
        DeriveBackward(["w", "v", "u"])(mod)


def test_names_unknown_trainables() -> None:
    with pytest.raises(UnknownNameError, match="'b9', 'W'"):
        DeriveBackward(["w0", "b9", "W"])(conv_chain(1))


def test_refuses_a_loss_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="scalar loss"):
        DeriveBackward(["w"])(module(lambda bb, w: op.exp(w), w=(3,)))


@pytest.mark.slow
def test_mobilenet_v2_builds_only_what_the_update_needs() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(num_labels=10, image_size=64)
    net = transformers.MobileNetV2ForImageClassification(config)
    model = import_module(net, (torch.randn(2, 3, 64, 64),), batch=2, name="mobilenet-v2")
    mod = model.mod
    for canonical in (DecomposeBatchNorm(), FoldPadIntoConv2d(), ConvertToChannelsLast()):
        mod = canonical(mod)
    mod = AppendLoss(CrossEntropy())(mod)
    names = [name for name in model.parameters if name not in model.buffers]
    first, *_ = (name for name in names if "convolution" in name)
    for trainable, weight_grads, data_grads in [
        (names, 52, 51),
        ([name for name in names if name.endswith("bias")], 0, 51),
        ([name for name in names if name.startswith("classifier")], 0, 0),
        ([first], 1, 51),
    ]:
        counts = count_operators(derive(mod, trainable))
        assert counts["pock.conv2d_weight_grad"] == weight_grads
        assert counts["pock.conv2d_data_grad"] == data_grads


@pytest.mark.slow
def test_distilbert_matches_torch() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=50,
        max_position_embeddings=16,
        n_layers=2,
        n_heads=2,
        dim=8,
        hidden_dim=16,
        attn_implementation="eager",
    )
    net = transformers.DistilBertForSequenceClassification(config).eval()
    tokens = torch.randint(0, 50, (3, 7))
    model = import_module(net, (tokens,), batch=3, name="distilbert")
    mod = AppendLoss(CrossEntropy())(EliminateDropout()(model.mod))
    names = list(model.parameters)
    labels = torch.tensor([1, 0, 1])
    arrays = [*model.parameters.values(), tokens.int().numpy(), labels.int().numpy()]
    loss, *grads = values(derive(mod, names), *arrays)

    expected = F.cross_entropy(net(tokens).logits, labels)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    theirs = dict(net.named_parameters())
    for name, grad in zip(names, grads, strict=True):
        reference = theirs[name].grad.numpy()
        scale = max(np.abs(reference).max(), 1e-3)  # a key's bias has a true gradient of 0
        np.testing.assert_allclose(grad / scale, reference / scale, atol=2e-5, err_msg=name)
