"""A lowered joint graph as kernel calls: hazards of updates in place, names, shared kernels."""

import pytest
import small_net
import small_transformer
from pass_checks import main_of
from tvm.relax import op

from pock_tvm.frontend import load_model
from pock_tvm.losses import CrossEntropy
from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.extract_step import extract_step
from pock_tvm.relay_passes.reorder_for_memory import reorder_for_memory
from pock_tvm.relay_passes.share_kernels import share_kernels


def extracted(reference, batch, optimizer):
    model = load_model(reference, batch)
    known = {n: model.parameters[n] for n in model.buffers}
    trainable = [n for n in model.parameters if n not in model.buffers]
    mod = pipeline.canonicalize("frozen", known)(model.mod)
    mod = pipeline.train(CrossEntropy(), optimizer, trainable, {})(mod)
    updates = [str(n) for n in mod["main"].attrs["updates"]]
    regions = {**dict.fromkeys(model.parameters, "frozen"), **dict.fromkeys(updates, "state")}
    return extract_step(pipeline.lower()(mod), "train_step", regions, ("loss",)), updates


@pytest.fixture(scope="module", params=["conv-sgd", "transformer-sgd", "transformer-adamw"])
def step(request):
    net, optimizer = request.param.split("-")
    module = small_net if net == "conv" else small_transformer
    rule = SGD() if optimizer == "sgd" else AdamW()
    return extracted(f"{module.__name__}:build", module.BATCH, rule)


def test_every_update_is_made_once_and_after_all_readers_of_the_old_value(step) -> None:
    one, updates = step
    for order in (one.step, reorder_for_memory(one.step)):
        for name in updates:
            writers = [i for i, c in enumerate(order.calls) if name in c.writes]
            assert len(writers) == 1, name
            if name.startswith("optimizer.correction"):
                continue  # its new value is read by every other update
            readers = [i for i, c in enumerate(order.calls) if name in c.reads]
            assert max(readers) <= writers[0], name


def test_public_names(step) -> None:
    one, _ = step
    assert one.step.outputs == ("loss",)
    assert set(one.step.inputs) == {one.step.inputs[0], "labels", "learning_rate"}
    assert one.step.tensors["loss"].shape == ()


def test_equal_constants_are_kept_once(step) -> None:
    one, _ = step
    contents = [(v.dtype, v.shape, v.tobytes()) for v in one.constants.values()]
    assert len(contents) == len(set(contents))


def test_an_embedding_is_overwritten_through_one_argument() -> None:
    one, _ = extracted("small_transformer:build", small_transformer.BATCH, SGD())
    (call,) = (c for c in one.step.calls if c.overwrites)
    assert call.writes == ("words.weight",)
    assert call.arguments == call.reads
    table = one.step.tensors["words.weight"].shape
    assert table not in {t.shape for t in one.step.tensors.values() if t.region == "arena"}


def test_steps_share_equal_kernels() -> None:
    one, _ = extracted("small_transformer:build", small_transformer.BATCH, SGD())
    steps, kernels = share_kernels([one, one])
    assert steps[0].calls == steps[1].calls
    assert {c.kernel for c in steps[0].calls} == set(kernels)
    assert len(kernels) <= len(one.kernels)


def test_two_wholes_of_the_same_parts_are_two_tensors() -> None:
    """A residual block's input and its expansion: both kept, joined with no kernel between."""

    def build(bb, x, w, v):
        y = bb.emit(op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO"))
        z = bb.emit(op.nn.conv2d(y, w, data_layout="NHWC", kernel_layout="HWIO"))
        return bb.emit(op.matmul(y, v)), bb.emit(op.matmul(z, v))

    shapes = {"x": (4, 8, 8, 16), "w": (1, 1, 16, 16), "v": (16, 16)}
    mod = pipeline.lower(("x",), ("v",), parts=2)(main_of(build, shapes, "float32"))
    step = extract_step(mod, "predict", {"w": "frozen", "v": "state"}, ("of y", "of z")).step
    assert not [call for call in step.calls if {*call.reads} & {*call.writes}]
    wholes = {call.reads[0] for call in step.calls if "v" in call.reads}
    assert len(wholes) == 2
