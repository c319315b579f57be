"""Import a JAX function of (parameters, inputs…), such as ``apply`` of a Flax module.

JAX lowers it to StableHLO for the batch; every leaf of the parameters becomes a tensor named after
its path, as in ``params.Conv_0.kernel``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir
from jax.tree_util import tree_flatten_with_path
from jaxlib.mlir.dialects import stablehlo
from tvm import IRModule, relax

from pock_tvm.errors import BatchError, UnsupportedModelError
from pock_tvm.frontend.model import ImportedModel, InputSpec
from pock_tvm.frontend.origins import mark_origins
from pock_tvm.frontend.outputs import choose_output
from pock_tvm.frontend.stablehlo_operators import RULES, Value, whole
from pock_tvm.relay_passes.rewrite import bindings_of

_STATISTICS = "batch_stats."
"""The collection in which Flax keeps running statistics."""


def _keep_stop_gradient() -> None:
    """Let JAX lower ``stop_gradient`` to a barrier, of the same values, instead of to nothing."""
    (equation,) = jax.make_jaxpr(jax.lax.stop_gradient)(1.0).eqns

    def lower(_context: Any, x: Any) -> Any:
        return stablehlo.OptimizationBarrierOp([x]).results

    mlir.register_lowering(equation.primitive, lower)


def import_jax(
    apply: Callable[..., Any],
    parameters: Any,
    example_inputs: tuple[Any, ...],
    batch: int,
    name: str,
    *,
    output: str | int | None = None,
) -> ImportedModel:
    """Lower ``apply(parameters, *inputs)`` for ``batch`` samples and import it.

    Args:
        apply: a function that JAX can trace; it returns one array, or several.
        parameters: a tree of arrays.
        example_inputs: arrays whose leading axis is the batch, of any length.
        batch: samples in one training step.
        name: what to call the model in the artifact.
        output: name or position of the logits among several outputs.

    Raises:
        PockError: the function returns several arrays, and none was chosen.
        UnsupportedModelError: JAX cannot trace it, or it uses operations that cannot be imported;
            all of them are named.
    """
    inputs = [_of_batch(x, batch) for x in example_inputs]
    found = {}

    def one(parameters: Any, *inputs: Any) -> Any:
        leaves = {
            _path(path) or "output": x
            for path, x in tree_flatten_with_path(apply(parameters, *inputs))[0]
        }
        found.update(leaves)
        return list(leaves.values())

    leaves = {_path(path): np.asarray(x) for path, x in tree_flatten_with_path(parameters)[0]}
    _keep_stop_gradient()
    try:
        lowered = jax.jit(one, keep_unused=True).lower(parameters, *inputs)
        module = lowered.compiler_ir("stablehlo")
    # JAX raises errors of many kinds, and whatever the user's function does.
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedModelError(f"JAX cannot lower {name}: {first}") from error
    chosen = choose_output(name, list(found), output)
    functions = {str(f.attributes["sym_name"]).strip('"'): f for f in module.body.operations}
    lacking = _lacking(functions)
    if lacking:
        listed = "; ".join(f"{o} (in {', '.join(at)})" for o, at in lacking.items())
        raise UnsupportedModelError(f"{name} cannot be imported: no converter for {listed}")
    names = _input_names(apply, len(inputs))
    params = [
        *(relax.Var(k, relax.TensorType(v.shape, str(v.dtype))) for k, v in leaves.items()),
        *(
            relax.Var(k, relax.TensorType(x.shape, str(x.dtype)))
            for k, x in zip(names, inputs, strict=True)
        ),
    ]
    main, origins = _build(name, functions, params, chosen)
    main = mark_origins(main, [origins.get(b.var) for b in bindings_of(main)])
    main = relax.transform.DeadCodeElimination()(IRModule({"main": main}))["main"]
    main, leaves = _in_order_of_use(main, leaves)
    return ImportedModel(
        name=name,
        mod=IRModule({"main": main}),
        parameters=leaves,
        inputs=tuple(
            InputSpec(k, x.shape, str(x.dtype)) for k, x in zip(names, inputs, strict=True)
        ),
        buffers=frozenset(k for k in leaves if k.startswith(_STATISTICS)),
    )


def _in_order_of_use(
    main: relax.Function, leaves: dict[str, np.ndarray]
) -> tuple[relax.Function, dict[str, np.ndarray]]:
    """Order parameters as the model reads them, as schemes expect; JAX sorts them by name."""
    weights, inputs = main.params[: len(leaves)], main.params[len(leaves) :]
    used = [v for b in bindings_of(main) for v in relax.analysis.free_vars(b.value)]
    place = {v: k for k, v in reversed(list(enumerate(used)))}
    ordered = sorted(weights, key=lambda v: place.get(v, len(used)))
    func = relax.Function([*ordered, *inputs], main.body, main.ret_ty)
    names = dict(zip(weights, leaves, strict=True))
    values = {names[v]: leaves[names[v]] for v in ordered}
    return func.with_attr("global_symbol", "main"), values


def _of_batch(x: Any, batch: int) -> jax.ShapeDtypeStruct:
    array = np.asarray(x)
    if array.ndim == 0:
        raise BatchError("an example input is a scalar; its leading axis must be the batch")
    dtype = "int32" if array.dtype == np.int64 else array.dtype
    return jax.ShapeDtypeStruct((batch, *array.shape[1:]), dtype)


def _path(keys: tuple[Any, ...]) -> str:
    """Return the path of a leaf: keys of mappings, positions, names of fields."""
    parts = (getattr(k, "key", getattr(k, "idx", getattr(k, "name", k))) for k in keys)
    return ".".join(map(str, parts))


def _input_names(apply: Callable[..., Any], count: int) -> list[str]:
    code = getattr(apply, "__code__", None)
    names = list(code.co_varnames[1 : code.co_argcount]) if code else []
    return names if len(names) == count else [f"input_{k}" for k in range(count)]


def _lacking(functions: dict[str, Any]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for function in functions.values():
        for node in _nodes(function):
            kind = node.operation.name
            if kind not in RULES and kind not in ("func.call", "func.return"):
                places.setdefault(kind, []).append(place_of(node))
    return places


def _nodes(function: Any) -> Iterator[Any]:
    yield from function.regions[0].blocks[0].operations


def place_of(node: Any) -> str:
    """Return the scope that JAX notes with an operation."""
    text = str(node.location).removeprefix("loc(").split("(")[0].strip('":')
    return text or "the model itself"


def _build(
    name: str, functions: dict[str, Any], params: list[relax.Var], chosen: int
) -> tuple[relax.Function, dict[relax.Var, str]]:
    bb = relax.BlockBuilder()
    origins: dict[relax.Var, str] = {}
    failed: list[str] = []

    def run(function: Any, arguments: list[Value]) -> list[Value | None]:
        block = function.regions[0].blocks[0]
        values: dict[Any, Value | None] = dict(zip(block.arguments, arguments, strict=True))
        for node in block.operations:
            operands = [values[x] for x in node.operands]
            kind = node.operation.name
            if kind == "func.return":
                return operands
            if any(x is None for x in operands):
                results: list[Value | None] = [None] * len(node.results)
            elif kind == "func.call":
                callee = str(node.attributes["callee"]).strip('@"')
                results = run(functions[callee], operands)
            else:
                results = [convert(node, operands)]
            values.update(zip(node.results, results, strict=True))
        raise AssertionError("a function without a return")

    def convert(node: Any, operands: list[Any]) -> Value | None:
        try:
            value = RULES[node.operation.name](node, operands)
            if not isinstance(value, relax.Expr):
                return value
            value = bb.normalize(value)
        # Whatever a converter runs into is about this one operation.
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            failed.append(f"{node.operation.name} (in {place_of(node)}): {reason}")
            return None
        if isinstance(value, relax.Call):
            value = bb.emit(value)
            origins[value] = place_of(node)
        return value

    with bb.function("main", params):
        with bb.dataflow():
            result = run(functions["main"], list(params))[chosen]
            output = bb.emit_output(relax.Tuple([]) if result is None else whole(result))
        bb.emit_func_output(output)
    if failed:
        raise UnsupportedModelError(f"{name} cannot be imported: {'; '.join(failed)}")
    return bb.get()["main"], origins
