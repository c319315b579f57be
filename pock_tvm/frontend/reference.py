"""Resolve what a user writes for MODEL: a file, ``package.module:function``, or ``zoo:NAME``."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.frontend.shapes import Shapes


def load_model(
    reference: str,
    batch: int,
    *,
    shapes: Shapes | None = None,
    output: str | int | None = None,
) -> ImportedModel:
    """Import the model that ``reference`` names, for ``batch`` samples.

    Args:
        reference: a ``.onnx`` or ``.tflite`` file; a ``.pt2`` file of ``torch.export.save``;
            ``package.module:function``, a function without arguments that returns
            (module, example inputs), or for JAX (function, parameters, example inputs); or
            ``zoo:NAME``.
        batch: samples in one training step; a file must have been exported for it, or with a
            symbolic leading axis.
        shapes: for files, static shapes of inputs whose other axes have no fixed length.
        output: name or position of the logits, for a model that returns several tensors.

    Raises:
        UnknownNameError: the reference names nothing.
        PockError: a library is not installed, the file is damaged, the function returns something
            else, or it is left open which output is meant.
        BatchError: the file was exported for another batch.
        UnsupportedModelError: the model cannot be exported or imported.
    """
    if batch < 1:
        raise PockError(f"batch is {batch}; it must be at least 1")
    if reference.endswith(".onnx"):
        with _needs("onnx"):
            from pock_tvm.frontend.onnx_file import import_onnx_file
        return import_onnx_file(Path(reference), batch, shapes=shapes, output=output)
    if reference.endswith(".tflite"):
        with _needs("tflite"):
            from pock_tvm.frontend.tflite_file import import_tflite_file
        return import_tflite_file(Path(reference), batch, shapes=shapes, output=output)
    if reference.endswith(".pt2"):
        with _needs("torch"):
            from pock_tvm.frontend.torch_export import import_file
        return import_file(Path(reference), batch, shapes=shapes, output=output)
    if shapes:
        raise PockError(
            f"--shape is for files; the example inputs of {reference} say what its shapes are"
        )
    if reference.startswith("zoo:"):
        with _needs("torch"):
            from pock_tvm.frontend.torch_export import import_module
            from pock_tvm.frontend.zoo import build_zoo_model

        name = reference.removeprefix("zoo:")
        module, example_inputs = build_zoo_model(name)
        return import_module(module, example_inputs, batch, name, output=output)
    module_name, _, function_name = reference.partition(":")
    if not function_name:
        raise UnknownNameError(
            f"unknown model {reference!r}; write a .onnx, .pt2 or .tflite file, "
            "package.module:function, or zoo:NAME"
        )
    model, *parameters, example_inputs = call_reference(module_name, function_name)
    if parameters:
        with _needs("jax"):
            from pock_tvm.frontend.jax_function import import_jax
        return import_jax(
            model, parameters[0], tuple(example_inputs), batch, function_name, output=output
        )
    with _needs("torch"):
        from pock_tvm.frontend.torch_export import import_module
    return import_module(model, tuple(example_inputs), batch, function_name, output=output)


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Say which extra brings a library that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise PockError(
            f"importing this model needs {error.name}; "
            f"install it with: pip install 'pock-tvm[{extra}]'"
        ) from error


def call_reference(module_name: str, function_name: str) -> tuple[Any, ...]:
    """Call a user's function; modules in the current folder are found too."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"no module {error.name!r} for model {module_name}:{function_name}"
        ) from error
    except AttributeError as error:
        raise UnknownNameError(
            f"module {module_name!r} has no function {function_name!r}"
        ) from error
    result = function()
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise PockError(
            f"{module_name}:{function_name} must return (module, example inputs), or for JAX "
            f"(function, parameters, example inputs); it returned {type(result).__name__}"
        )
    return result
