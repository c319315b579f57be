"""Import a PyTorch module or an exported program.

The importer of TVM names parameters after the exported graph; the original names stand in the
program's signature. It also turns buffers into anonymous constants: the running statistics of
batch normalization are given back their names here, since a training step may update them.
"""

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind
from tvm import IRModule, relax, tirx
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from pock_tvm.errors import BatchError, PockError, UnsupportedModelError
from pock_tvm.frontend.attention_modules import export_for_training
from pock_tvm.frontend.dropout import DROPOUT_CONVERTERS, DROPOUT_DECOMPOSITIONS, mark_dropouts
from pock_tvm.frontend.gradient_barriers import BARRIER_CONVERTERS, mark_gradient_barriers
from pock_tvm.frontend.logits import Logits
from pock_tvm.frontend.model import ImportedModel, InputSpec
from pock_tvm.frontend.origins import WHOLE_MODEL, mark_origins
from pock_tvm.frontend.outputs import choose_output, return_one
from pock_tvm.frontend.padding_rows import freeze_padding_rows, padding_rows
from pock_tvm.frontend.shapes import Extent, Shapes, bind_shapes
from pock_tvm.frontend.tied import tied_names
from pock_tvm.frontend.torch_constants import fold_constants
from pock_tvm.frontend.torch_converters import CONVERTERS, decompositions
from pock_tvm.relay_passes.rewrite import bindings_of

_BATCH_NORM = ("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.int64: "int32"}


def import_module(
    module: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    batch: int,
    name: str,
    *,
    output: str | int | None = None,
) -> ImportedModel:
    """Export ``module`` in eval mode for ``batch`` samples and import it.

    Args:
        module: returns one tensor, a mapping with ``logits``, or several tensors.
        example_inputs: tensors whose leading axis is the batch, of any length.
        batch: samples in one training step.
        name: what to call the model in the artifact.
        output: name or position of the logits among several tensors.

    Raises:
        PockError: the module returns several tensors, and none was chosen.
        UnsupportedModelError: the module cannot be exported, or uses operators TVM cannot import.
    """
    resized = tuple(_resize_batch(x, batch) for x in example_inputs)
    was_training = module.training
    try:
        # mark_dropouts keeps the dropouts, in this mode too.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            program = export_for_training(Logits(module.eval(), name, output), resized)
    except PockError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"torch.export refuses {name}: {_first_line(error)}; export it yourself to a .pt2 file"
        ) from error
    finally:
        module.train(was_training)
    input_names = list(inspect.signature(module.forward).parameters)[: len(resized)]
    return import_program(program, name, batch, prefix="module.", input_names=input_names)


def import_program(
    program: torch.export.ExportedProgram,
    name: str,
    batch: int,
    *,
    prefix: str = "",
    input_names: Sequence[str] | None = None,
    shapes: Shapes | None = None,
    output: str | int | None = None,
) -> ImportedModel:
    """Import an exported program.

    Args:
        program: one tensor output, or several.
        name: what to call the model in the artifact.
        batch: samples in one training step; binds the leading axis of every input.
        prefix: left off the names of parameters.
        input_names: what to call the inputs; the program's own names where None.
        shapes: static shapes of inputs whose other axes have no fixed length.
        output: name or position of the logits among several outputs.

    Raises:
        PockError: the program returns several tensors, and none was chosen.
        BatchError: the program was exported for another batch.
        UnsupportedModelError: the program uses operators that TVM cannot import.
    """
    chosen = choose_output(name, _output_names(program), output)
    mark_dropouts(program)
    mark_gradient_barriers(program)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions({**decompositions(), **DROPOUT_DECOMPOSITIONS})
            constants = fold_constants(program)
            importer = ExportedProgramImporter()
            mod = importer.from_exported_program(
                program,
                keep_params_as_input=True,
                unwrap_unit_return_tuple=True,
                no_bind_return_tuple=False,
                custom_convert_map={
                    **CONVERTERS,
                    **DROPOUT_CONVERTERS,
                    **BARRIER_CONVERTERS,
                    **constants,
                },
            )
    except Exception as error:
        lacking = _unsupported_operators(error, program, prefix) or _first_line(error)
        raise UnsupportedModelError(f"TVM cannot import {name}: {lacking}") from error

    specs = program.graph_signature.input_specs
    originals = {
        s.arg.name: s.target.removeprefix(prefix)
        for s in specs
        if s.kind in (InputKind.PARAMETER, InputKind.BUFFER)
    }
    stored = {
        key.removeprefix(prefix): value.detach()
        for key, value in {**program.state_dict, **program.constants}.items()
        if isinstance(value, torch.Tensor)
    }
    weights = [s.target.removeprefix(prefix) for s in specs if s.kind == InputKind.PARAMETER]
    aliases = tied_names(weights, stored)
    user_inputs = [s.arg.name for s in specs if s.kind == InputKind.USER_INPUT]
    statistics = _batch_norm_statistics(program, originals)
    new_names = dict(zip(user_inputs, input_names or user_inputs, strict=True))
    modules = {
        value: _module_path(node, prefix)
        for node, value in importer.env.items()
        if isinstance(value, relax.Var)
    }
    main = mark_origins(mod["main"], [modules.get(b.var) for b in bindings_of(mod["main"])])
    main = return_one(main, chosen)
    main = _bind_symbols(name, main, new_names, batch, shapes or {})
    main = _name_parameters(main, originals, new_names, statistics, aliases)
    rows = padding_rows(program, originals)
    main = freeze_padding_rows(main, {aliases.get(table, table): r for table, r in rows.items()})
    count = len(main.params) - len(user_inputs)
    parameters = {v.name: np.array(stored[v.name].cpu().numpy()) for v in main.params[:count]}
    return ImportedModel(
        name=name,
        mod=IRModule({"main": main}),
        parameters=parameters,
        inputs=tuple(_input_spec(v) for v in main.params[count:]),
        buffers=frozenset(name for pair in statistics for name in pair),
        aliases=aliases,
        unused=_unused(program.state_dict, prefix, {*parameters, *aliases}),
    )


def _unused(
    state: Mapping[str, torch.Tensor], prefix: str, used: set[str]
) -> dict[str, np.ndarray]:
    """Return what a state dict holds besides the tensors that the graph reads."""
    rest = {name.removeprefix(prefix): value.detach().cpu() for name, value in state.items()}
    return {
        name: np.array(value.numpy())
        for name, value in rest.items()
        if name not in used and value.dtype != torch.bfloat16  # numpy has none
    }


def import_file(
    path: Path, batch: int, *, shapes: Shapes | None = None, output: str | int | None = None
) -> ImportedModel:
    """Import a ``.pt2`` file written by ``torch.export.save``; see ``import_program``.

    Raises:
        PockError: the file cannot be read, or was exported for another batch.
        UnsupportedModelError: the program uses operators that TVM cannot import.
    """
    if not path.is_file():
        raise PockError(f"no such file: {path}")
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise PockError(f"{path} is not an exported program: {_first_line(error)}") from error
    return import_program(program, path.stem, batch, shapes=shapes, output=output)


def _output_names(program: torch.export.ExportedProgram) -> list[str]:
    """Return the outputs of a program by key, or by position where they have none."""
    count = len(program.graph_signature.user_outputs)
    out = torch.utils._pytree.tree_unflatten(range(count), program.call_spec.out_spec)
    if isinstance(out, Mapping) and list(out.values()) == list(range(count)):
        return [str(key) for key in out]
    return [str(position) for position in range(count)]


def _bind_symbols(
    name: str,
    main: relax.Function,
    inputs: Mapping[str, str],
    batch: int,
    shapes: Shapes,
) -> relax.Function:
    """Give the symbols in the shapes of inputs their lengths."""
    declared: dict[str, list[Extent]] = {}
    for p in main.params:
        if p.name in inputs:
            declared[inputs[p.name]] = [
                int(d) if isinstance(d, tirx.IntImm) else str(d) for d in p.ty.shape
            ]
    bound = bind_shapes(name, declared, batch, shapes)
    lengths = {
        symbol: extent
        for key, extents in declared.items()
        for symbol, extent in zip(extents, bound[key], strict=True)
        if isinstance(symbol, str)
    }
    if not lengths:
        return main
    return relax.transform.BindSymbolicVars(lengths, "main")(IRModule({"main": main}))["main"]


def _resize_batch(x: torch.Tensor, batch: int) -> torch.Tensor:
    if x.ndim == 0:
        raise BatchError("an example input is a scalar; its leading axis must be the batch")
    repeats = -(-batch // x.shape[0])
    return torch.cat([x] * repeats)[:batch]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _unsupported_operators(
    error: Exception, program: torch.export.ExportedProgram, prefix: str
) -> str | None:
    """List the operators that the importer names in its error, each with the modules it is in."""
    if "Unsupported function types" not in str(error):
        return None
    listing = str(error).partition("Unsupported function types")[2]
    places: dict[str, dict[str, None]] = {n: {} for n in re.findall(r"'([^']+)'", listing)}
    for node in program.graph.nodes:
        name = getattr(node.target, "__name__", "")
        if node.op == "call_function" and name in places:
            places[name][_module_path(node, prefix)] = None
    # An operator that the importer itself made of others stands in no module.
    listed = [f"{n} (in {', '.join(paths)})" if paths else n for n, paths in places.items()]
    return f"its importer lacks {'; '.join(listed)}" if listed else None


def _module_path(node: torch.fx.Node, prefix: str) -> str:
    """Return the path of the module that a node was exported from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return path.removeprefix(prefix.rstrip(".")).lstrip(".") or WHOLE_MODEL


def _operator_name(node: torch.fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def _batch_norm_statistics(
    program: torch.export.ExportedProgram, originals: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return the names of (running mean, running variance), batch norm by batch norm."""
    return [
        (originals[node.args[3].name], originals[node.args[4].name])
        for node in program.graph.nodes
        if node.op == "call_function" and _operator_name(node) in _BATCH_NORM
    ]


def _name_parameters(
    func: relax.Function,
    originals: Mapping[str, str],
    user_inputs: Mapping[str, str],
    statistics: list[tuple[str, str]],
    aliases: Mapping[str, str],
) -> relax.Function:
    """Rebuild ``func`` with named parameters: weights, statistics, then inputs (int64 -> int32)."""
    weights = [p for p in func.params if p.name in originals]
    inputs = [p for p in func.params if p.name in user_inputs]
    named = {originals[p.name]: relax.Var(originals[p.name], p.ty) for p in weights}
    renamed = {p: named[aliases.get(originals[p.name], originals[p.name])] for p in weights}
    for p in inputs:
        dtype = "int32" if str(p.ty.dtype) == "int64" else p.ty.dtype
        renamed[p] = relax.Var(user_inputs[p.name], relax.TensorType(p.ty.shape, dtype))
    stats: dict[str, relax.Var] = {}

    params_after: list[relax.Var] = [
        renamed[p] for p in weights if originals[p.name] not in aliases
    ]
    remaining = iter(statistics)

    @relax.expr_functor.mutator
    class Rename(relax.PyExprMutator):
        def visit_call_(self, call: relax.Call) -> relax.Expr:
            call = super().visit_call_(call)
            if getattr(call.op, "name", "") != "relax.nn.batch_norm":
                return call
            args = list(call.args)
            for i, stat in zip((3, 4), next(remaining), strict=True):
                if stat not in stats:
                    stats[stat] = relax.Var(stat, args[i].ty)
                args[i] = stats[stat]
            return relax.Call(call.op, args, call.attrs, call.ty_args, call.span)

        def visit_var_(self, var: relax.Var) -> relax.Expr:
            return self.replace(var, super().visit_var_(var))

        def replace(self, var: relax.Var, default: Any) -> relax.Expr:
            new = renamed.get(var)
            if new is None:
                return default
            if new.ty.dtype != var.ty.dtype:
                return relax.op.astype(new, var.ty.dtype)
            return new

    body = Rename().visit_expr(func.body)
    params_after += list(stats.values()) + [renamed[p] for p in inputs]
    return relax.Function(params_after, body, func.ret_ty).with_attr("global_symbol", "main")


def _input_spec(var: relax.Var) -> InputSpec:
    shape = tuple(int(d) for d in var.ty.shape)
    return InputSpec(var.name, shape, str(var.ty.dtype))
