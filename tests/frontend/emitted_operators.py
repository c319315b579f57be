"""Read from the sources of the importers which Relax operators they can make, and of what.

Each importer has a table from the source's operators to converters, TVM's or ours. Here the code of
a converter is followed through the functions, methods and base classes of its module, and every
mention of an operator of Relax in it counts. What PyTorch's decompositions replace, and
what converters of our own replace, does not.
"""

import ast
import functools
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend
from tvm.relax.frontend.tflite import tflite_frontend
from tvm.relax.frontend.torch import base_fx_graph_translator, exported_program_translator

from pock_tvm.frontend import onnx_operators, stablehlo_operators
from pock_tvm.frontend.dropout import DROPOUT_CONVERTERS
from pock_tvm.frontend.gradient_barriers import BARRIER_CONVERTERS
from pock_tvm.frontend.torch_converters import CONVERTERS, decompositions

REGISTERED = frozenset(tvm.ir.Op.list_op_names())
PREFIXES = ("relax.op.", "_op.", "op.", "R.")
OURS = {name: f"pock.{name}" for name in ("dropout", "resample", "stop_gradient")}
"""Functions that build operators of our own."""

Sources = dict[str, set[str]]
"""Relax operator, or ``topi.name`` for a kernel without an operator -> layers it is made of."""


class Module:
    """The code of one or several modules: functions, classes with their methods, and tables."""

    def __init__(self, *modules: ModuleType) -> None:
        self.nodes: dict[str, ast.AST] = {}
        self.methods: dict[str, dict[str, ast.AST]] = {}
        for module in modules:
            for node in ast.parse(Path(inspect.getfile(module)).read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    self.nodes[node.name] = node
                if isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    self.nodes.update({t.id: node for t in targets if isinstance(t, ast.Name)})
                if isinstance(node, ast.ClassDef):
                    functions = [f for f in node.body if isinstance(f, ast.FunctionDef)]
                    self.methods[node.name] = {f.name: f for f in functions}

    def operators(self, start: ast.AST) -> set[str]:
        """Return every operator that the code under ``start``, and all it mentions, can make."""
        found: set[str] = set()
        queue, seen = [start], [start]
        while queue:
            for chain in _chains(queue.pop()):
                found |= _named(chain)
                for mentioned in self._mentioned(chain):
                    if mentioned not in seen:
                        seen.append(mentioned)
                        queue.append(mentioned)
                        found |= _pools(mentioned)
        return found

    def _mentioned(self, chain: str) -> list[ast.AST]:
        """Return the code that a mention leads to; of ``self.f`` that of all classes with an f.

        A converter that is a class is followed as a whole, with its bases, so that its ``cls.f``
        leads nowhere new.
        """
        owner, _, rest = chain.partition(".")
        if owner == "self" and rest:
            return [own[rest] for own in self.methods.values() if rest in own]
        if rest in self.methods.get(owner, {}):
            return [self.methods[owner][rest]]
        return [self.nodes[owner]] if owner in self.nodes else []


def _chain(node: ast.AST) -> str | None:
    """Return ``a.b.c`` as it is written."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else None


def _chains(node: ast.AST) -> Iterator[str]:
    """Yield every ``a.b.c`` under a node, and of none of them a part."""
    chain = _chain(node)
    if chain is not None:
        yield chain
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _named(chain: str) -> set[str]:
    """Return what a mention names: an operator, or those that a function of TVM is made of."""
    if chain.startswith("topi."):
        return {chain}
    if chain in OURS:
        return {OURS[chain]}
    for prefix in PREFIXES:
        path = chain.removeprefix(prefix)
        if path == chain:
            continue
        if f"relax.{path}" in REGISTERED:
            return {f"relax.{path}"}
        built = functools.reduce(lambda o, part: getattr(o, part, None), path.split("."), relax.op)
        if inspect.isfunction(built):
            return set().union(*map(_named, _mentions(built)))
    return set()


def _mentions(function: Callable[..., Any]) -> list[str]:
    """Return the operators that a function of ``relax.op`` is written with."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return [c.replace("_ffi_api.", "op.") for c in _chains(tree) if c != function.__name__]


def _pools(node: ast.AST) -> set[str]:
    """Return the pools that a class of TVM's ONNX importer asks for by its ``name``."""
    names = [
        item.value.value
        for item in getattr(node, "body", [])
        if isinstance(item, ast.Assign)
        and isinstance(item.value, ast.Constant)
        and [getattr(t, "id", "") for t in item.targets] == ["name"]
    ]
    pools = {f"relax.nn.{name}{axes}d" for name in names for axes in (1, 2, 3)}
    return pools & REGISTERED


def _table(method: Callable[..., Any]) -> dict[str, ast.AST]:
    """Return the entries of the largest table of converters in a method, as they are written."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    largest = max(tables, key=lambda table: len(table.keys))
    return {str(k.value): v for k, v in zip(largest.keys, largest.values, strict=True)}


def _add(sources: Sources, layer: str, operators: Iterable[str]) -> None:
    for name in operators:
        sources[name].add(layer)


def _ours(sources: Sources, converters: dict[str, Callable[..., Any]]) -> None:
    """Add converters of our own."""
    for layer, converter in converters.items():
        bound = converter
        mentioned: set[str] = set()
        while isinstance(bound, functools.partial):
            mentioned |= _arguments(bound)
            bound = bound.func
        module = inspect.getmodule(bound)
        code = Module(module)
        # A closure that a function of the module returned: the function that made it.
        name = bound.__qualname__.partition(".")[0]
        _add(sources, layer, mentioned | code.operators(code.nodes[name]))


def _arguments(bound: functools.partial[Any]) -> set[str]:
    """Return the operators that a converter is given to apply."""
    named = [getattr(argument, "__name__", "") for argument in bound.args]
    return {f"relax.{name}" for name in named} & REGISTERED


def torch_sources() -> Sources:
    """Return what TVM's importer of exported programs makes, with our converters and rewritings."""
    sources: Sources = defaultdict(set)
    code = Module(base_fx_graph_translator, exported_program_translator)
    decomposed = set(decompositions())
    importer = exported_program_translator.ExportedProgramImporter
    for layer, converter in _table(importer.create_convert_map).items():
        packet, _, overload = layer.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if layer not in CONVERTERS and (operator is None or operator not in decomposed):
            _add(sources, layer, code.operators(converter))
    _ours(sources, {**CONVERTERS, **BARRIER_CONVERTERS, **DROPOUT_CONVERTERS})
    return sources


def onnx_sources() -> Sources:
    """Return what TVM's converters of nodes make, and ours."""
    sources: Sources = defaultdict(set)
    code = Module(onnx_frontend)
    for layer, converter in _table(onnx_frontend._get_convert_map).items():
        if layer not in onnx_operators._OURS:
            _add(sources, layer, code.operators(converter))
    _ours(sources, onnx_operators._OURS)
    return sources


def tflite_sources() -> Sources:
    """Return what TVM's importer of TFLite files makes."""
    sources: Sources = defaultdict(set)
    code = Module(tflite_frontend)
    for layer, converter in _table(tflite_frontend.OperatorConverter.__init__).items():
        _add(sources, layer, code.operators(converter))
    return sources


def jax_sources() -> Sources:
    """Return what our converters of StableHLO make."""
    sources: Sources = defaultdict(set)
    tree = ast.parse(Path(inspect.getfile(stablehlo_operators)).read_text())
    _add(sources, "stablehlo", Module(stablehlo_operators).operators(tree))
    return sources


IMPORTERS: dict[str, Callable[[], Sources]] = {
    "torch": torch_sources,
    "ONNX": onnx_sources,
    "TFLite": tflite_sources,
    "JAX": jax_sources,
}
