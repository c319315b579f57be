"""The PyTorch model that a reference names, before it is imported: to export, to check."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.frontend.logits import Logits
from pock_tvm.frontend.reference import call_reference

_PREFIX = "module."
"""Of the wrapped model's names."""


@dataclass(frozen=True)
class TorchSource:
    """A module in eval mode, or an exported program, and inputs to call it with."""

    reference: str
    model: torch.nn.Module | torch.export.ExportedProgram
    example_inputs: tuple[torch.Tensor, ...]
    output: str | int | None = None
    """Name or position of the logits among several tensors."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors by the model's own names."""
        if isinstance(self.model, torch.export.ExportedProgram):
            state = {**self.model.constants, **self.model.state_dict}
        else:
            state = {**dict(self.model.named_buffers()), **self.model.state_dict()}
        return {n: v.detach() for n, v in state.items() if isinstance(v, torch.Tensor)}

    def module(self) -> Logits:
        """Return a copy of the model as a module that returns its logits."""
        if isinstance(self.model, torch.export.ExportedProgram):
            return Logits(copy.deepcopy(self.model).module(), self.reference, self.output)
        return Logits(copy.deepcopy(self.model).eval(), self.reference, self.output)

    def input_names(self) -> list[str]:
        """Return what the model calls its inputs."""
        if isinstance(self.model, torch.export.ExportedProgram):
            return [str(name) for name in self.model.graph_signature.user_inputs]
        return list(inspect.signature(self.model.forward).parameters)[: len(self.example_inputs)]

    def to_onnx(self, values: Mapping[str, torch.Tensor]) -> Any:
        """Return an ONNX model with these values in place of the model's own.

        A module's batch stays free where the module allows it; an exported program has its own.
        """
        model = self.module()
        own = {**dict(model.module.named_buffers()), **dict(model.module.named_parameters())}
        with torch.no_grad():
            for name, value in values.items():
                if name in own:
                    own[name].copy_(value)
        fixed = isinstance(self.model, torch.export.ExportedProgram)
        inputs = self.example_inputs
        if not fixed:
            # A batch of one would be taken for a constant.
            inputs = tuple(torch.cat([x, x])[:2] for x in inputs)
        free = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
        exported = torch.onnx.export(
            model,
            inputs,
            dynamo=True,
            verbose=False,
            input_names=self.input_names(),
            output_names=["logits"],
            dynamic_shapes=None if fixed else (free,),
        )
        assert exported is not None
        return _without_prefix(exported.model_proto)


def load_source(reference: str, output: str | int | None = None) -> TorchSource:
    """Return the module or program that ``reference`` names, as ``load_model`` understands it.

    Raises:
        PockError: the file is no exported program, or has no example inputs.
        UnknownNameError: the reference names no PyTorch model.
    """
    if reference.endswith(".pt2"):
        path = Path(reference)
        try:
            program = torch.export.load(path)
        except Exception as error:
            raise PockError(f"{path} is not an exported program: {error}") from error
        if program.example_inputs is None:
            raise PockError(f"{path} holds no example inputs; export it again with torch.export")
        return TorchSource(reference, program, tuple(program.example_inputs[0]), output)
    if reference.startswith("zoo:"):
        from pock_tvm.frontend.zoo import build_zoo_model

        module, inputs = build_zoo_model(reference.removeprefix("zoo:"))
        return TorchSource(reference, module.eval(), tuple(inputs), output)
    module_name, _, function_name = reference.partition(":")
    if not function_name:
        raise UnknownNameError(
            f"{reference!r} is no PyTorch model; write a .pt2 file, package.module:function, "
            "or zoo:NAME"
        )
    found, *_, examples = call_reference(module_name, function_name)
    if not isinstance(found, torch.nn.Module):
        raise PockError(f"{reference} returns no torch.nn.Module, but {type(found).__name__}")
    tensors = tuple(x for x in examples if isinstance(x, torch.Tensor))
    return TorchSource(reference, found.eval(), tensors, output)


def _without_prefix(model: Any) -> Any:
    """Give the tensors of the ONNX model the names that they have in the wrapped one."""
    names = {t.name: t.name.removeprefix(_PREFIX) for t in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
    for info in model.graph.value_info:
        info.name = names.get(info.name, info.name)
    return model
