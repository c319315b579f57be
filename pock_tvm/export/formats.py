"""One function per format, by name."""

import os
from collections.abc import Callable
from pathlib import Path

from pock_tvm.artifact.export import write_tensors
from pock_tvm.errors import PockError, UnknownNameError
from pock_tvm.export.delta import Delta
from pock_tvm.export.tensors import TrainedModel

FORMATS = ("safetensors", "torch", "onnx", "delta")
_SUFFIXES = {
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".onnx": "onnx",
    ".delta": "delta",
}

Progress = Callable[[str, int, int], None]


def format_of(path: Path, chosen: str | None = None) -> str:
    """Return the format that was chosen, or else the one of the file's suffix.

    Raises:
        UnknownNameError: the suffix says nothing.
    """
    if chosen:
        return chosen
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise UnknownNameError(
        f"{path} has no suffix that names a format ({', '.join(_SUFFIXES)}); "
        f"pass --format with one of {', '.join(FORMATS)}"
    )


def export_file(
    trained: TrainedModel,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    source: str | None = None,
    output_name: str | int | None = None,
) -> None:
    """Write a trained model.

    Args:
        trained: an artifact, and what a checkpoint says.
        path: the file; a file that is there already is replaced.
        format: one of ``FORMATS``; by the suffix of ``path`` where None.
        source: for ONNX, the model that was compiled: an ``.onnx`` or ``.pt2`` file,
            ``package.module:function``, or ``zoo:NAME``.
        output_name: name or position of the logits among the tensors that a PyTorch source returns.

    Raises:
        UnknownNameError: neither format nor suffix says what to write.
        ArtifactError: the source is not the model that was compiled, or nothing can be written.
        PockError: a source is needed, or a library is missing.
    """
    place = Path(path)
    chosen = format_of(place, format)
    if chosen == "safetensors":
        about = {"format": "pt", "model": trained.description.model}
        write_tensors({**trained.unused, **trained.tuned}, {}, about, place)
    elif chosen == "delta":
        Delta.of(trained).write(place)
    elif chosen == "torch":
        try:
            from pock_tvm.export.torch_file import write_state_dict
        except ModuleNotFoundError as error:
            raise _missing(error, "torch") from error
        write_state_dict(trained, place)
    elif chosen == "onnx":
        _write_onnx(trained, place, source, output_name)
    else:
        raise UnknownNameError(f"unknown format {chosen!r}; known are {', '.join(FORMATS)}")


def _write_onnx(
    trained: TrainedModel, path: Path, source: str | None, output_name: str | int | None
) -> None:
    if source is None:
        raise PockError(
            "an artifact holds no ONNX graph: pass --model with the model that was compiled "
            "(.onnx, .pt2, package.module:function, zoo:NAME)"
        )
    try:
        from pock_tvm.export.onnx_file import (
            check_source,
            initializers,
            read_onnx,
            with_values,
            write_onnx,
        )

        if source.endswith(".onnx"):
            model = read_onnx(Path(source))
            check_source(trained, initializers(model), source)
            write_onnx(with_values(model, trained.tuned), path)
            return
        from pock_tvm.export.onnx_program import onnx_from_torch
        from pock_tvm.frontend.torch_source import load_source
    except ModuleNotFoundError as error:
        raise _missing(error, "onnx") from error
    write_onnx(onnx_from_torch(load_source(source, output_name), trained), path)


def _missing(error: ModuleNotFoundError, extra: str) -> PockError:
    return PockError(
        f"this format needs {error.name}; install it with: pip install 'pock-tvm[{extra}]'"
    )
