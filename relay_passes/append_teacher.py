"""Append the model as it was before training: the teacher of learning without forgetting.

Before:  main(w, v, x) -> x·w·v                        w, say, is trainable
After:   main(w, v, x, teacher.w) -> (x·w·v, rest…, x·teacher.w·v)

The second forward pass reads copies of those parameters that training changes, and shares all
others. What depends on no copy is then the same in both passes, and common subexpressions are
computed once. No gradient flows into the teacher: none of its operands learns. Run it on the
canonical model, before ``AppendLoss``.
"""

from collections.abc import Sequence

import tvm
from tvm import relax

from pock_tvm.relay_passes.rewrite import bindings_of, substitute

_PREFIX = "teacher."


def teacher_name(parameter: str) -> str:
    """Return the name of the teacher's copy of ``parameter``."""
    return f"{_PREFIX}{parameter}"


def is_teacher_name(name: str) -> bool:
    """Tell whether a tensor is a copy that a teacher reads."""
    return name.startswith(_PREFIX)


@tvm.transform.module_pass(opt_level=0, name="AppendTeacher")
class AppendTeacher:
    """Return from ``main``, last, what ``teacher`` returns first.

    Args:
        teacher: the model as it predicts; its parameters are named as those of ``main``.
        copied: parameters that training changes, of which the teacher keeps the original values.
    """

    def __init__(self, teacher: tvm.IRModule, copied: Sequence[str]) -> None:
        self.teacher = teacher
        self.copied = tuple(copied)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Rewrite ``main``."""
        student, teacher = mod["main"], self.teacher["main"]
        params = {p.name: relax.Var(p.name, p.ty) for p in student.params}
        copies = {
            p.name: relax.Var(teacher_name(p.name), p.ty)
            for p in teacher.params
            if p.name in self.copied or p.name not in params
        }
        bb = relax.BlockBuilder()
        attrs = dict(student.attrs or {})
        with bb.function("main", [*params.values(), *copies.values()], attrs=attrs):
            with bb.dataflow():
                outputs = _inline(bb, student, params)
                outputs += _inline(bb, teacher, {**params, **copies})[:1]
                result = bb.emit_output(relax.Tuple(outputs))
            bb.emit_func_output(result)
        out = mod.clone()
        out["main"] = bb.get()["main"]
        return out


def _inline(
    bb: relax.BlockBuilder, func: relax.Function, arguments: dict[str, relax.Var]
) -> list[relax.Expr]:
    """Emit the body of ``func`` on arguments by name; return its outputs."""
    env: dict[relax.Var, relax.Expr] = {p: arguments[p.name] for p in func.params}
    for binding in bindings_of(func):
        value = substitute(binding.value, env)
        env[binding.var] = value if isinstance(value, relax.Tuple) else bb.emit(value)
    result = substitute(func.body.body, env)
    return list(result.fields) if isinstance(result, relax.Tuple) else [result]
