"""What an importer can make is derived, rewritten, known to have no gradient, or refused."""

import pytest
import tvm
from emitted_operators import onnx_sources, tflite_sources, torch_sources
from operator_document import DOCUMENT, document, emitted, unexplained
from operator_facts import LIMITS, MADE_OF_NUMBERS, REFUSED, REWRITTEN_EXAMPLES, WITHOUT_FLOATS
from tvm import relax

from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.vjp import REWRITTEN, operands
from pock_tvm.relay_passes.vjp.paths import is_float


def built(example):
    """Return a module of one operator, and the call."""
    x = relax.Var("x", relax.TensorType((2, 3, 4, 6), "float32"))
    bb = relax.BlockBuilder()
    with bb.function("main", [x]):
        with bb.dataflow():
            call = bb.normalize(example(x))
            bound = bb.emit(call)
            if isinstance(bound.ty, relax.TupleType) and len(bound.ty.fields):
                bound = bb.emit(relax.TupleGetItem(bound, 0))
            result = bb.emit_output(bound)
        bb.emit_func_output(result)
    return bb.get(), call


def test_sources_are_read():
    """Spot checks of what is known to be made: else an empty table would pass everything below."""
    assert "convolution.default" in torch_sources()["relax.nn.conv2d"]
    assert "hardtanh.default" in torch_sources()["relax.clip"]
    assert "lstm.input" not in torch_sources()["relax.tanh"], "PyTorch unrolls it"
    assert "MaxPool" in onnx_sources()["relax.nn.max_pool3d"]
    assert "LSTM" in onnx_sources()["relax.sigmoid"]
    assert "Clip" in onnx_sources()["relax.clip"]
    assert not any(name.startswith("topi.") and "Clip" in s for name, s in onnx_sources().items())
    assert "CONV_2D" in tflite_sources()["relax.nn.conv2d"]


def test_every_operator_is_explained_once():
    assert unexplained(emitted()) == []


def test_nothing_is_explained_that_is_not_made():
    made = emitted()
    assert {*WITHOUT_FLOATS, *MADE_OF_NUMBERS, *REFUSED} <= set(made)
    assert all(tvm.ir.Op.get(name) for name in (*REWRITTEN, *LIMITS))


@pytest.mark.parametrize("name", WITHOUT_FLOATS)
def test_result_has_no_floats(name):
    _, call = built(WITHOUT_FLOATS[name])
    assert call.op.name == name
    assert not is_float(call.ty)


@pytest.mark.parametrize("name", MADE_OF_NUMBERS)
def test_no_operand_has_floats(name):
    _, call = built(MADE_OF_NUMBERS[name])
    assert call.op.name == name
    assert not any(is_float(operand.ty) for operand in operands(call))


def test_every_rewritten_operator_has_an_example():
    assert set(REWRITTEN_EXAMPLES) == set(REWRITTEN)


@pytest.mark.parametrize("name", REWRITTEN)
def test_no_rewritten_operator_is_left(name):
    mod, call = built(REWRITTEN_EXAMPLES[name])
    assert call.op.name == name
    after = pipeline.canonicalize("frozen", {})(mod)
    values = [b.value for block in after["main"].body.blocks for b in block.bindings]
    left = {value.op.name for value in values if isinstance(value, relax.Call)}
    assert not left & set(REWRITTEN)


def test_document_is_up_to_date():
    assert DOCUMENT.read_text() == document(), "run python tests/frontend/operator_document.py"
