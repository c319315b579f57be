"""What bfloat16 products need of a processor, as LLVM functions that kernels import.

TVM has no vectors of bfloat16 that its code generator survives, so kernels hold pairs of them as
32-bit integers: of two neighbouring products, the first in the low half.

    bf16_pairs(floats of lanes products, of the lanes behind) -> pairs along a vector
    bf16_zip(low, high) -> pairs (low[i], high[i])
    bf16_dot(sums, pairs, pairs) -> sums + low · low + high · high, in float32
"""

from typing import Any

from tvm import ir, tirx

from pock_tvm.targets import TargetSpec

# VCVTNE2PS2BF16 takes the upper half first. It and VDPBF16PS take subnormal numbers for zero.
_X86 = """\
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
  <16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)

define <32 x bfloat> @pock_bf16_round(<16 x float> %low, <16 x float> %high) alwaysinline {
  %both = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(
    <16 x float> %high, <16 x float> %low)
  ret <32 x bfloat> %both
}
define <16 x float> @pock_bf16_sum(<16 x float> %s, <32 x bfloat> %x, <32 x bfloat> %y)
    alwaysinline {
  %sum = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
    <16 x float> %s, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %sum
}
"""

_ARM = """\
declare <4 x float> @llvm.aarch64.neon.bfdot.v4f32.v8bf16(
  <4 x float>, <8 x bfloat>, <8 x bfloat>)

define <8 x bfloat> @pock_bf16_round(<4 x float> %low, <4 x float> %high) alwaysinline {
  %l = fptrunc <4 x float> %low to <4 x bfloat>
  %h = fptrunc <4 x float> %high to <4 x bfloat>
  %both = shufflevector <4 x bfloat> %l, <4 x bfloat> %h,
    <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  ret <8 x bfloat> %both
}
define <4 x float> @pock_bf16_sum(<4 x float> %s, <8 x bfloat> %x, <8 x bfloat> %y) alwaysinline {
  %sum = call <4 x float> @llvm.aarch64.neon.bfdot.v4f32.v8bf16(
    <4 x float> %s, <8 x bfloat> %x, <8 x bfloat> %y)
  ret <4 x float> %sum
}
"""

_COMMON = """
define <LANES x i32> @pock_bf16_pairs(<LANES x float> %low, <LANES x float> %high) alwaysinline {
  %both = call <ALL x bfloat> @pock_bf16_round(<LANES x float> %low, <LANES x float> %high)
  %pairs = bitcast <ALL x bfloat> %both to <LANES x i32>
  ret <LANES x i32> %pairs
}
define <LANES x i32> @pock_bf16_zip(<LANES x float> %low, <LANES x float> %high) alwaysinline {
  %both = call <ALL x bfloat> @pock_bf16_round(<LANES x float> %low, <LANES x float> %high)
  %zipped = shufflevector <ALL x bfloat> %both, <ALL x bfloat> poison, <ALL x i32> <ORDER>
  %pairs = bitcast <ALL x bfloat> %zipped to <LANES x i32>
  ret <LANES x i32> %pairs
}
define <LANES x float> @pock_bf16_dot(<LANES x float> %s, <LANES x i32> %x, <LANES x i32> %y)
    alwaysinline {
  %left = bitcast <LANES x i32> %x to <ALL x bfloat>
  %right = bitcast <LANES x i32> %y to <ALL x bfloat>
  %sum = call <LANES x float> @pock_bf16_sum(
    <LANES x float> %s, <ALL x bfloat> %left, <ALL x bfloat> %right)
  ret <LANES x float> %sum
}
"""


class BF16Functions:
    """The functions for one machine; ``lanes`` sums or pairs are a vector."""

    def __init__(self, spec: TargetSpec) -> None:
        is_x86 = str(spec.tvm_options["mtriple"]).startswith("x86_64")
        self.lanes = 16 if is_x86 else 4
        order = ", ".join(f"i32 {at}" for v in range(self.lanes) for at in (v, v + self.lanes))
        common = _COMMON.replace("ORDER", order)
        common = common.replace("LANES", str(self.lanes)).replace("ALL", str(2 * self.lanes))
        self._text = (_X86 if is_x86 else _ARM) + common

    def around(self, body: Any) -> Any:
        """Return ``body`` with the functions at hand."""
        node = tirx.const(0, "int32")
        return tirx.AttrStmt(node, "pragma_import_llvm", ir.StringImm(self._text), body)

    def pairs(self, low: Any, high: Any) -> Any:
        """Return ``2 · lanes`` neighbouring floats as pairs."""
        return self._call("int32", "pairs", low, high)

    def zip(self, low: Any, high: Any) -> Any:
        """Return the pairs of two vectors."""
        return self._call("int32", "zip", low, high)

    def dot(self, total: Any, left: Any, right: Any) -> Any:
        """Return ``total`` and the products of pairs."""
        return self._call("float32", "dot", total, left, right)

    def _call(self, dtype: str, name: str, *arguments: Any) -> Any:
        return tirx.call_pure_extern(f"{dtype}x{self.lanes}", f"pock_bf16_{name}", *arguments)
