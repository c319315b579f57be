"""Make the rows that a batch has read parts of their table again, and their slots too.

Before:  main(w, …, w[rows], m.w[rows], …):  s', m' = step(w[rows], m.w[rows], s)
         return loss, i, t, s', m'                           updates = ["w[rows]", "m.w[rows]"]
After:   main(w, …, m.w, …):  a = take(w, i);  b = take(m.w, i);  s', m' = step(a, b, s)
         w' = write_slice(w, t, s');  n' = write_slice(m.w, t, m')
         return loss, w', n'                                 updates = ["w", "m.w"]

``SliceTouchedRows`` made the parameters, ``AppendOptimizer`` the step. Tables are written in place:
rows that were not read keep their bits, in the weight and in its slots.
"""

from collections.abc import Sequence

import tvm
from tvm import relax
from tvm.relax.op import take

from pock_tvm.errors import UnsupportedModelError
from pock_tvm.relay_passes.operators.write_slice import write_slice
from pock_tvm.relay_passes.rewrite import bindings_of, returned_fields, static_shape, substitute
from pock_tvm.relay_passes.slice_touched_rows import rows_name


@tvm.transform.module_pass(opt_level=0, name="WriteTouchedRows")
class WriteTouchedRows:
    """Replace parameters ``w[rows]``, their slots and updates by rows of full tables.

    Args:
        tables: as ``SliceTouchedRows`` got them.

    Raises:
        UnsupportedModelError: the optimizer keeps something per weight that is not of its shape.
    """

    def __init__(self, tables: Sequence[str]) -> None:
        self.tables = tuple(tables)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        if not self.tables:
            return mod
        func = mod["main"]
        outputs = returned_fields(func)
        statistics = len((func.attrs or {}).get("running_statistics", []))
        first = 1 + statistics
        places = dict(zip(self.tables, _pairs(outputs[first:], len(self.tables)), strict=True))
        outputs = outputs[:first] + outputs[first + 2 * len(self.tables) :]
        updates = [str(name) for name in func.attrs["updates"]]

        weights = {p.name: relax.Var(p.name, p.ty) for p in func.params}
        table_of = {p: t for p in func.params for t in self.tables if _is_part(p.name, t)}
        full = {p: _full(p, weights[t], t, weights) for p, t in table_of.items()}
        kept = [full.get(p, weights[p.name]) for p in func.params]
        params = list(dict.fromkeys(kept))
        env: dict[relax.Var, relax.Expr] = {p: weights[p.name] for p in func.params}
        for part in table_of:
            del env[part]
        by_name = {p.name: p for p in table_of}
        new = {
            out: by_name[name]
            for name, out in zip(updates, outputs[1:], strict=False)
            if name in by_name
        }
        bb = relax.BlockBuilder()
        with bb.function("main", params, attrs=dict(func.attrs)):
            with bb.dataflow():
                for binding in bindings_of(func):
                    if isinstance(binding.value, relax.Tuple):
                        continue  # the old result
                    for part in relax.analysis.free_vars(binding.value):
                        if part in table_of and part not in env:
                            index = substitute(places[table_of[part]][0], env)
                            env[part] = bb.emit(take(full[part], index, axis=0))
                    env[binding.var] = bb.emit(substitute(binding.value, env))
                    if binding.var in new:
                        part = new[binding.var]
                        target = substitute(places[table_of[part]][1], env)
                        written = write_slice(full[part], target, env[binding.var], 0)
                        env[binding.var] = bb.emit(written)
                result = bb.emit_output(relax.Tuple([substitute(v, env) for v in outputs]))
            bb.emit_func_output(result)
        renamed = [full[by_name[n]].name if n in by_name else n for n in updates]
        out = mod.clone()
        out["main"] = bb.get()["main"].with_attr("updates", renamed)
        return relax.transform.DeadCodeElimination()(out)


def _pairs(values: Sequence[relax.Expr], count: int) -> list[tuple[relax.Expr, relax.Expr]]:
    return [(values[2 * i], values[2 * i + 1]) for i in range(count)]


def _is_part(name: str, table: str) -> bool:
    part = rows_name(table)
    return name == part or (name.startswith("optimizer.") and name.endswith(f".{part}"))


def _full(
    part: relax.Var, weight: relax.Var, table: str, weights: dict[str, relax.Var]
) -> relax.Var:
    """Return the table that a part is rows of: the weight, or a slot of its size."""
    if part.name == rows_name(table):
        return weight
    count = static_shape(weights[rows_name(table)])
    if static_shape(part) != count:
        raise UnsupportedModelError(
            f"lazy-rows on {table}: the optimizer keeps {part.name} of shape {static_shape(part)}, "
            "which has no rows; choose another optimizer, or leave `embeddings` out"
        )
    name = part.name.removesuffix(rows_name(table)) + table
    return relax.Var(name, weight.ty)
