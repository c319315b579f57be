"""The task as MNN can train it: the ONNX file without the operators that it has no gradient of.

MNN 3.6 says nothing where a gradient ends: what lies before simply does not learn. So the worker
checks that all that should learn has changed after the first step.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.onnx_task import write_onnx_task
from benchmarks.peers.task import Task


def write_mnn_task(task: Task, folder: Path) -> bool:
    """Write what `write_onnx_task` does, the operators replaced, and the matrices by name.

    Global pooling and flattening become a mean over pixels, a layer norm its arithmetic, and one
    row of a tensor a masked mean. Scales and shifts of norms stay frozen then, as embeddings do,
    whose gathering has no gradient.

    Returns:
        Whether what learns differs from the task.
    """
    import onnx

    folded = write_onnx_task(task, folder)
    model = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    frozen = {n.op_type for n in model.graph.node} & {"LayerNormalization", "Gather"}
    rewriter = _Rewriter(model.graph, stored)
    nodes = [new for node in model.graph.node for new in rewriter.replaced(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, folder / "model.onnx")
    np.savez(
        folder / "matrices.npz",
        **{n: a for n, a in stored.items() if n.endswith(".weight") and a.ndim > 1},
    )
    return folded or bool(frozen)


class _Rewriter:
    def __init__(self, graph: Any, stored: dict[str, np.ndarray]) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.constants = dict(stored)
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        known = [*graph.value_info, *graph.input, *graph.output]
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}

    def replaced(self, node: Any) -> list[Any]:
        """Return the nodes that stand for one."""
        from onnx import helper

        (result, *_) = node.output
        match node.op_type:
            case "GlobalAveragePool":
                pixels = {"axes": [2, 3], "keepdims": 0}
                return [helper.make_node("ReduceMean", node.input, [result], **pixels)]
            case "Flatten":  # of what was pooled
                return [helper.make_node("Identity", node.input, [result])]
            case "LayerNormalization":
                return self._layer_norm(node)
            case "Gather" if self._is_row(node):
                return self._row(node)
        return [node]

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def _layer_norm(self, node: Any) -> list[Any]:
        from onnx import helper

        (x, scale, shift), (y, *_) = node.input, node.output
        (epsilon,) = [a.f for a in node.attribute if a.name == "epsilon"]
        parts = ("mean", "centred", "square", "variance", "sum", "rstd", "norm", "scaled")
        names = {part: f"{y}_{part}" for part in parts}
        last = {"axes": [-1], "keepdims": 1}
        steps = [
            ("ReduceMean", [x], "mean", last),
            ("Sub", [x, names["mean"]], "centred", {}),
            ("Mul", [names["centred"]] * 2, "square", {}),
            ("ReduceMean", [names["square"]], "variance", last),
            ("Add", [names["variance"], self._constant(f"{y}_epsilon", epsilon)], "sum", {}),
            # a power, for a root would be recognized and made a layer norm again
            ("Pow", [names["sum"], self._constant(f"{y}_power", -0.5)], "rstd", {}),
            ("Mul", [names["centred"], names["rstd"]], "norm", {}),
            ("Mul", [names["norm"], scale], "scaled", {}),
        ]
        nodes = [helper.make_node(op, read, [names[n]], **more) for op, read, n, more in steps]
        return [*nodes, helper.make_node("Add", [names["scaled"], shift], [y])]

    def _is_row(self, node: Any) -> bool:
        index = self.constants.get(node.input[1])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return axis != 0 and index is not None and index.ndim == 0

    def _row(self, node: Any) -> list[Any]:
        from onnx import helper

        (x, index), (y,) = node.input, node.output
        (axis,) = [a.i for a in node.attribute if a.name == "axis"]
        length = self.shapes[x][axis]
        mask = np.zeros([length if i == axis else 1 for i in range(len(self.shapes[x]))])
        mask.flat[int(self.constants[index])] = length
        return [
            helper.make_node("Mul", [x, self._constant(f"{y}_mask", mask)], [f"{y}_masked"]),
            helper.make_node("ReduceMean", [f"{y}_masked"], [y], axes=[axis], keepdims=0),
        ]
