"""``pock inspect``: what an artifact or a checkpoint holds, after checking all of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pock_tvm.cli.memory import memory_of, memory_rows
from pock_tvm.cli.options import json_option
from pock_tvm.cli.output import format_bytes, print_json, print_rows, print_table
from pock_tvm.errors import PockError

if TYPE_CHECKING:
    from pock_tvm.artifact.checkpoint import CheckpointFile
    from pock_tvm.artifact.load import Artifact
    from pock_tvm.report.lifetimes import Lifetime


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--top", type=click.IntRange(0), default=10, show_default=True, help="Tensors to list."
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the life of every tensor of a training step: .png, .svg, or .html to point at.",
)
@json_option
def inspect_command(*, path: Path, top: int, picture: Path | None, as_json: bool) -> None:
    """Check the artifact or checkpoint at PATH and show what it holds.

    \b
    $ pock inspect net
    artifact /home/me/net
      model      mobilenet_v2
      target     host (kind llvm, mtriple x86_64-linux-gnu, mcpu znver4)
      precision  fp32
      batch      2
      samples    pixel_values float32[2, 3, 224, 224], labels int32[2]
      loss       cross_entropy (label_smoothing 0.0, ignore_index -100)
      optimizer  sgd (weight_decay 0.0, decay_matrices_only False, momentum 0.0, nesterov False)
      update     bias: 54 of 158 tensors learn
      made by    pock_tvm 0.1.0
      id         4579c5c88974106f
    entry points
      name        symbol                 kernel calls
      train_step  pock_entry_train_step           318
      evaluate    pock_entry_evaluate              57
      predict     pock_entry_predict               54
    ...

    \b
    $ pock inspect net --picture net.html

    \b
    $ pock inspect net.ckpt
    checkpoint net.ckpt, SHA-256 checked
      model                      mobilenet_v2
      steps done                 12
      samples drawn in this run  24
      seed of the order          0
      size                       5.0 MiB
      tensors                    54
    """
    if path.is_file():
        from pock_tvm.artifact.checkpoint import read_checkpoint

        checkpoint = read_checkpoint(path)
        if as_json:
            print_json(describe_checkpoint(checkpoint))
        else:
            _show_checkpoint(checkpoint)
        return
    from pock_tvm.artifact.load import load_artifact

    artifact = load_artifact(path)
    if picture is not None:
        _draw(artifact, picture)
    if as_json:
        print_json(describe_artifact(artifact, top))
    else:
        _show_artifact(artifact, top)


def describe_artifact(artifact: "Artifact", top: int) -> dict[str, Any]:
    """Return what an artifact is, as plain data."""
    description = artifact.description
    return {
        "kind": "artifact",
        "directory": str(artifact.directory),
        "artifact_id": artifact.artifact_id,
        "created_by": description.created_by,
        "model": description.model,
        "target": description.target,
        "tvm_options": dict(description.tvm_options),
        "cpu_features": list(artifact.cpu_features),
        "precision": description.precision,
        "batch": description.batch,
        "accumulate": description.accumulate,
        "dropout": description.dropout,
        "loss": dict(description.loss),
        "optimizer": dict(description.optimizer),
        "update": dict(description.update),
        "trainable": [tensor.name for tensor in description.tensors if tensor.trainable],
        "inputs": [
            {"name": t.name, "shape": list(t.original_shape), "dtype": t.dtype}
            for t in description.sample_tensors
        ],
        "entries": [
            {"name": e.name, "symbol": e.symbol, "kernel_calls": e.kernel_calls}
            for e in description.entries
        ],
        "memory": memory_of(description),
        "winograd_calls": _winograd_calls(artifact),
        "peak": _peak(artifact, top),
        "largest_tensors": [
            {"name": t.name, "region": t.region, "shape": list(t.shape), "bytes": t.nbytes}
            for t in _largest(description.tensors, top)
        ],
        "files": dict(artifact.files),
        "verified": True,
    }


def describe_checkpoint(checkpoint: "CheckpointFile") -> dict[str, Any]:
    """Return what a checkpoint is, as plain data."""
    return {
        "kind": "checkpoint",
        "path": str(checkpoint.path),
        "model": checkpoint.model,
        "steps_done": checkpoint.step,
        "samples_drawn": checkpoint.cursor,
        "seed": checkpoint.seed,
        "bytes": checkpoint.nbytes,
        "tensors": [
            {"name": name, "shape": list(shape)} for name, shape in checkpoint.shapes.items()
        ],
        "verified": True,
    }


def _show_artifact(artifact: "Artifact", top: int) -> None:
    found = describe_artifact(artifact, top)
    update = found["update"]
    trainable, weights = len(found["trainable"]), _count_weights(artifact)
    samples = (f"{i['name']} {i['dtype']}{i['shape']}" for i in found["inputs"])
    print_rows(
        f"artifact {artifact.directory}",
        {
            "model": found["model"],
            "target": _with_options({"name": found["target"], **found["tvm_options"]}),
            "precision": found["precision"],
            "batch": found["batch"],
            "samples": ", ".join(samples),
            "loss": _with_options(found["loss"]),
            "optimizer": _with_options(found["optimizer"]),
            "update": f"{update['name']}: {trainable} of {weights} tensors learn",
            **(
                {"by winograd tiles": f"{n} calls in a step"}
                if (n := found["winograd_calls"])
                else {}
            ),
            "made by": f"pock_tvm {found['created_by']}",
            "id": found["artifact_id"][:16],
        },
    )
    print_table(
        "entry points",
        ("name", "symbol", "kernel calls"),
        [tuple(entry.values()) for entry in found["entries"]],
    )
    print_rows("memory", memory_rows(found["memory"]))
    peak = found["peak"]
    kinds = ", ".join(f"{kind} {format_bytes(n)}" for kind, n in peak["bytes_by_kind"].items())
    print_table(
        f"transients at the peak, call {peak['call']} of {peak['calls']}: {kinds}",
        ("name", "kind", "shape", "calls", "size"),
        [
            (t["name"], t["kind"], t["shape"], "{}-{}".format(*t["live"]), format_bytes(t["bytes"]))
            for t in peak["tensors"]
        ],
    )
    print_table(
        "largest tensors",
        ("name", "region", "shape", "size"),
        [
            (t["name"], t["region"], t["shape"], format_bytes(t["bytes"]))
            for t in found["largest_tensors"]
        ],
    )
    print_rows(
        "files, every SHA-256 checked", {n: format_bytes(b) for n, b in artifact.files.items()}
    )


def _show_checkpoint(checkpoint: "CheckpointFile") -> None:
    print_rows(
        f"checkpoint {checkpoint.path}, SHA-256 checked",
        {
            "model": checkpoint.model,
            "steps done": checkpoint.step,
            "samples drawn in this run": checkpoint.cursor,
            "seed of the order": checkpoint.seed,
            "size": format_bytes(checkpoint.nbytes),
            "tensors": len(checkpoint.shapes),
        },
    )


def _lifetimes(artifact: "Artifact") -> tuple[list["Lifetime"], int]:
    """Return the arena tensors of the training step, and how many calls it has."""
    from pock_tvm.report.lifetimes import lifetimes

    entry = artifact.description.entry("train_step")
    plan = artifact.plan()["train_step"]
    return lifetimes(plan, entry.outputs if entry else ()), len(plan["calls"])


def _winograd_calls(artifact: "Artifact") -> int:
    calls = artifact.plan()["train_step"]["calls"]
    return sum(call["kernel"].startswith("winograd_") for call in calls)


def _peak(artifact: "Artifact", top: int) -> dict[str, Any]:
    """Return what lives when most of the arena is in use."""
    from pock_tvm.report.lifetimes import at_peak, peak_bytes_by_kind

    tensors, calls = _lifetimes(artifact)
    time, there = at_peak(tensors, calls)
    return {
        "call": time,
        "calls": calls,
        "bytes_by_kind": peak_bytes_by_kind(tensors, calls),
        "tensors": [
            {
                "name": t.name,
                "kind": t.kind,
                "shape": list(t.shape),
                "live": [t.start, t.end],
                "bytes": t.nbytes,
            }
            for t in there[:top]
        ],
    }


def _draw(artifact: "Artifact", picture: Path) -> None:
    if picture.suffix.lower() not in (".png", ".svg", ".html"):
        raise click.UsageError(
            f"--picture {picture}: write a name that ends in .png, .svg or .html"
        )
    try:
        from pock_tvm.report.lifetime_picture import draw_lifetimes
    except ModuleNotFoundError as error:
        raise PockError(
            f"--picture needs {error.name}; install it with: pip install 'pock-tvm[report]'"
        ) from error
    description = artifact.description
    title = f"{description.model}, {description.update['name']}, batch {description.batch}"
    draw_lifetimes(*_lifetimes(artifact), title, picture)


def _largest(tensors: Any, top: int) -> list[Any]:
    return sorted(tensors, key=lambda tensor: (-tensor.nbytes, tensor.name))[:top]


def _count_weights(artifact: "Artifact") -> int:
    return sum(tensor.role == "weight" for tensor in artifact.description.tensors)


def _with_options(described: dict[str, Any]) -> str:
    options = ", ".join(f"{k} {v}" for k, v in described.items() if k != "name")
    return f"{described['name']} ({options})" if options else str(described["name"])
