"""Every decision that is legal computes the same, whatever shape it cuts."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import tvm
from kernel_cases import fuse_kernel, run_built
from tvm import s_tir, tirx
from tvm.relax import op as R

from pock_tvm.relay_passes.expand_transcendentals import ExpandTranscendentals
from pock_tvm.relay_passes.operators.matmul import permuted_matmul
from pock_tvm.relay_passes.read_panels import read_panels
from pock_tvm.schedules import schedule_kernel
from pock_tvm.schedules.cpu.blocking import block
from pock_tvm.schedules.cpu.contraction import read_contraction
from pock_tvm.schedules.cpu.decision import (
    Decision,
    blocking_of,
    illegality,
    problem_of,
    read_decision,
    rules_decision,
)
from pock_tvm.schedules.cpu.gemm import open_contraction
from pock_tvm.targets import get_target
from pock_tvm.tuning.proposals import propose

AXES = {"N": [0, 1], "T": [1, 0]}


def product(form, m, n, k):
    a = np.empty((k, m) if form[0] == "T" else (m, k), "float32")
    b = np.empty((n, k) if form[1] == "T" else (k, n), "float32")
    return fuse_kernel(lambda x, y: permuted_matmul(x, y, AXES[form[0]], AXES[form[1]]), a, b)


def update(m, n, k):
    shapes = [((k, m), "float32"), ((k, n), "float32"), ((m, n), "float32"), ((), "float32")]
    return fuse_kernel(
        lambda x, y, w, lr: R.subtract(
            w, R.multiply(lr, permuted_matmul(x, y, AXES["T"], AXES["N"]))
        ),
        *shapes,
    )


def convolution(side, inputs, outputs):
    return fuse_kernel(
        lambda x, w: R.nn.relu(
            R.nn.conv2d(x, w, padding=1, strides=2, data_layout="NHWC", kernel_layout="HWIO")
        ),
        ((2, side, side, inputs), "float32"),
        ((3, 3, inputs, outputs), "float32"),
    )


def heads(b, m, n, k):
    return fuse_kernel(lambda x, y: R.matmul(x, y), ((b, m, k), "float32"), ((b, k, n), "float32"))


KERNELS = {
    "NN 37 x 53, 300": lambda: product("NN", 37, 53, 300),
    "NT 64 x 200, 129": lambda: product("NT", 64, 200, 129),
    "TN 13 x 50, 5000": lambda: product("TN", 13, 50, 5000),
    "TT 5 x 7, 40": lambda: product("TT", 5, 7, 40),
    "update of 70 x 90, 300": lambda: update(70, 90, 300),
    "convolution": lambda: convolution(11, 5, 21),
    "stored panels": lambda: read_panels(product("NN", 128, 448, 300), 1, 32),
    "batch of products": lambda: heads(3, 21, 40, 33),
}


def built(func, decisions, spec):
    """Build a kernel once for each decision, None for what the rules decide."""
    functions = {}
    for number, decision in enumerate(decisions):
        scheduled = schedule_kernel(func, spec, decision)
        functions[f"f{number}"] = scheduled.with_attr("global_symbol", f"f{number}")
    mod = ExpandTranscendentals()(tvm.IRModule(functions))
    return tirx.build(mod, target=spec.build())


class OneOf:
    """A built function under the name that ``run_built`` calls."""

    def __init__(self, lib, number):
        self.function = lib[f"f{number}"]

    def __getitem__(self, _name):
        return self.function


def inputs_of(func):
    rng = np.random.default_rng(0)
    shapes = [[int(n) for n in p.shape] for p in func.params[:-1]]
    return [np.asarray(rng.standard_normal(shape), "float32") for shape in shapes]


def walk(func, spec, count):
    """Return ``count`` different decisions, each a neighbour of one before."""
    c, random = open_contraction(func, spec), Random(0)
    found = [rules_decision(c, spec)]
    for _ in range(20 * count):
        proposed = propose(random, random.choice(found), c, spec)
        if proposed is None:
            break
        if proposed not in found:
            found.append(proposed)
        if len(found) > count:
            break
    return found[1:]


@pytest.mark.parametrize(
    "name,target", [*((name, "host") for name in KERNELS), ("update of 70 x 90, 300", "x86-64-v2")]
)
def test_every_decision_computes_the_same(name, target):
    func, spec = KERNELS[name](), get_target(target)
    decisions = walk(func, spec, 14)
    assert len(decisions) == 14
    lib = built(func, [None, *decisions], spec)
    operands = inputs_of(func)
    c = open_contraction(func, spec)
    parts, length = rules_decision(c, spec).parts, np.prod([g.extent for g in c.reduced])
    (expected,) = run_built(OneOf(lib, 0), func, operands)
    for number, decision in enumerate(decisions, 1):
        (got,) = run_built(OneOf(lib, number), func, operands)
        if decision.parts == parts == 1:
            np.testing.assert_array_equal(got, expected, err_msg=str(decision))
        else:  # added up in another order: off by k·ε of a partial sum at the most
            atol = 2 * np.finfo("float32").eps * (length + 8) * max(1, abs(expected).max())
            np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=str(decision))


def test_a_walk_reaches_every_kind_of_decision():
    spec = get_target("host")
    found = [d for name in KERNELS for d in walk(KERNELS[name](), spec, 40)]
    for name in ("packs", "shared", "prefetches", "prefetches_epilogue"):
        assert {getattr(d, name) for d in found} == {False, True}, name
    assert {d.copies_left for d in found} == {"", "rows", "sum"}
    assert len({d.parts for d in found}) > 2
    assert len({(d.rows, d.vectors) for d in found}) > 20


@pytest.mark.parametrize("target", ["host", "x86-64-v3", "raspberry-pi-4", "apple-m1"])
@pytest.mark.parametrize("name", KERNELS)
def test_what_the_rules_decide_is_legal_and_means_the_same(name, target):
    func, spec = KERNELS[name](), get_target(target)
    c = open_contraction(func, spec)
    decision = rules_decision(c, spec)
    assert illegality(decision, c, spec) is None
    assert blocking_of(decision, c, spec) == block(c, spec)
    assert read_decision(decision.as_dict()) == decision


@pytest.mark.parametrize(
    "change,trouble",
    [
        ({"rows": 17}, "a tile of 17 rows"),
        ({"rows": 16, "vectors": 4}, "a tile of 16 rows by 4 vectors does not fit"),
        ({"vectors": 400}, "does not fit"),
        ({"group": 9}, "column tiles make no panel of 9"),
        ({"products": 5000}, "the sum has no 5000 products"),
        ({"shared": True, "packs": False}, "a shared panel"),
        ({"shared": True, "packs": True, "products": 100}, "a shared panel"),
        ({"copies_left": "sum"}, "no copy 'sum' of the left operand"),
        ({"copies_left": "columns"}, "no copy 'columns' of the left operand"),
        ({"prefetches": True, "packs": False}, "nothing to prefetch"),
        ({"prefetches_epilogue": True}, "the epilogue reads nothing"),
        ({"parts": 8}, "a sum in parts takes the whole result"),
    ],
)
def test_what_is_not_legal_is_refused_before_anything_is_built(change, trouble):
    spec = get_target("x86-64-v4")
    func = product("NN", 37, 53, 300)
    c = open_contraction(func, spec)
    decision = replace(rules_decision(c, spec), **change)
    assert trouble in illegality(decision, c, spec)
    with pytest.raises(ValueError, match=trouble):
        schedule_kernel(func, spec, decision)


def test_a_right_operand_that_is_no_row_of_vectors_has_to_be_packed():
    spec = get_target("x86-64-v4")
    c = open_contraction(product("NT", 64, 200, 129), spec)
    unpacked = replace(rules_decision(c, spec), packs=False, shared=False, prefetches=False)
    assert "has to be packed" in illegality(unpacked, c, spec)


@pytest.mark.parametrize(
    "change,trouble",
    [
        ({"rows": None}, "rows is missing"),
        ({"speed": 9}, "'speed' is nothing that a decision decides"),
        ({"rows": "8"}, "rows is '8', no int"),
        ({"rows": True}, "rows is 'True', no int"),
        ({"rows": 0}, "rows is 0, out of any range"),
        ({"chunk": 1 << 40}, "out of any range"),
        ({"packs": 1}, "packs is '1', no bool"),
        ({"copies_left": ["rows"]}, "no str"),
    ],
)
def test_a_document_that_is_no_decision(change, trouble):
    document = Decision(8, 3, 1, 1, 64, True, False, "", False, False, 1).as_dict() | change
    document = {k: v for k, v in document.items() if v is not None}
    with pytest.raises(ValueError, match=trouble):
        read_decision(document)


def test_products_of_a_few_rows_and_of_bfloat16_leave_nothing_to_decide():
    spec = get_target("x86-64-v4")
    assert open_contraction(product("NT", 2, 50, 400), spec) is None
    assert open_contraction(product("NT", 64, 50, 400), replace(spec, precision="bf16")) is None
    relu = fuse_kernel(lambda x: R.nn.relu(x), ((8, 8), "float32"))
    assert open_contraction(relu, spec) is None


def test_a_problem_says_what_the_decision_depends_on():
    spec = get_target("x86-64-v4")
    kernels = [product(f, 37, 53, 300) for f in ("NN", "NT", "TN")]
    kernels += [product("NN", 38, 53, 300), update(37, 53, 300)]
    texts = {problem_of(read_contraction(s_tir.Schedule(k), spec), spec) for k in kernels}
    assert len(texts) == len(kernels)
    c = open_contraction(kernels[0], spec)
    assert problem_of(c, replace(spec, cores=64)) not in texts
