"""``pock compile``: from a trained model to an artifact that learns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pock_tvm.cli.compile_reference import compile_or_copy
from pock_tvm.cli.memory import (
    check_frontier_picture,
    draw_frontier,
    frontier_rows,
    memory_of,
    memory_rows,
)
from pock_tvm.cli.options import (
    BYTES,
    attention_option,
    frozen_option,
    head_option,
    json_option,
    precision_option,
    winograd_option,
)
from pock_tvm.cli.output import format_bytes, format_seconds, print_json, print_rows, print_table
from pock_tvm.cli.progress import ProgressLine
from pock_tvm.clipping import CLIPPINGS
from pock_tvm.losses import LOSSES
from pock_tvm.optimizers import OPTIMIZERS


@click.command("compile")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write; an artifact that is there already is replaced.",
)
@click.option(
    "--target",
    default="host",
    show_default=True,
    help="See `pock targets`; or a .toml file that describes your own.",
)
@precision_option
@frozen_option
@winograd_option
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Samples in a step."
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=8,128",
    help="For files: the shape of an input whose axes have no fixed length; may be repeated.",
)
@head_option
@click.option("--output-name", help="The logits among several outputs, by name or position.")
@click.option(
    "--update",
    default="full",
    show_default=True,
    help="What learns: full, bias, head, last:N, preset (PockEngine's recipe for the architecture),"
    " a .toml file, or patterns such as 'fc.*,*.bias'.",
)
@click.option(
    "--optimizer",
    default="sgd",
    show_default=True,
    metavar="NAME[:OPTION=VALUE,...]",
    help=f"{', '.join(OPTIMIZERS)}; such as rmsprop:centered=true.",
)
@click.option(
    "--momentum", type=click.FloatRange(0, 1, max_open=True), help="sgd, rmsprop; default 0."
)
@click.option("--nesterov", is_flag=True, default=None, help="sgd, with momentum.")
@click.option("--weight-decay", type=click.FloatRange(0), help="Default: adamw 0.01, others 0.")
@click.option(
    "--decay-matrices-only",
    is_flag=True,
    default=None,
    help="No weight decay for tensors of one axis: biases and norms.",
)
@click.option("--betas", type=(float, float), help="adam, adamw, lion; default 0.9 0.999 (0.99).")
@click.option(
    "--eps", type=click.FloatRange(0, min_open=True), help="adam, adamw, rmsprop; default 1e-8."
)
@click.option(
    "--clip",
    metavar="KIND:LIMIT",
    help=f"Bound the gradients: {', '.join(CLIPPINGS)}; such as global-norm:1.0.",
)
@click.option(
    "--loss",
    default="cross_entropy",
    show_default=True,
    metavar="NAME[:OPTION=VALUE,...]",
    help=f"{', '.join(LOSSES)}; such as cross_entropy:label_smoothing=0.1.",
)
@click.option(
    "--label-smoothing", type=click.FloatRange(0, 1, max_open=True), help="cross_entropy."
)
@click.option("--ignore-index", type=int, help="cross_entropy: the label to skip; default -100.")
@click.option(
    "--batch-norm",
    type=click.Choice(["frozen", "train"]),
    default="frozen",
    show_default=True,
    help="Normalize with the running statistics, or with the batch's and update the running ones.",
)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Batches whose gradients make one step: the memory of a batch, the step of a large one.",
)
@click.option(
    "--dropout/--no-dropout",
    default=False,
    show_default=True,
    help="Drop out while training, where the model does. Evaluation never does.",
)
@attention_option
@click.option(
    "--memory-budget",
    type=BYTES,
    metavar="SIZE",
    help="Weights, optimizer state and transients, such as 64MB or 32MiB; compute tensors again"
    " instead of keeping them until the plan fits.",
)
@click.option(
    "--frontier",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw what fewer bytes cost in time, as .png or .svg; also with the batch in parts, for"
    " which the step is planned several times.",
)
@click.option(
    "--executable/--no-executable",
    default=None,
    help="Link the standalone pock_train too. Default: only for other machines.",
)
@click.option(
    "--library/--no-library",
    default=None,
    help="Link the shared library too, for a program of your own. Default: for this machine,"
    " phones and Macs.",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    help="Take kernels, or the whole artifact, that were compiled before from ~/.cache/pock_tvm, or"
    " from the folder that POCK_CACHE names (off: none), and leave new ones there.",
)
@click.option(
    "--keep-gradients", is_flag=True, hidden=True, help="Keep `gradient.NAME` in the arena."
)
@json_option
def compile_command(*, frontier: Path | None, as_json: bool, **arguments: Any) -> None:
    """Compile MODEL into a training artifact.

    MODEL is a .onnx or .tflite file, a .pt2 file written by torch.export.save,
    package.module:function returning (module, example inputs), or zoo:NAME, one of these with
    random weights; zoo:NAME@small is a small form of the same architecture, for first tries.

    \b
    mcunet              MCUNet-5fps, 96 x 96
    proxyless           ProxylessNAS-mobile, width 0.3, 176 x 176
    mobilenet_v2        MobileNetV2, 224 x 224
    mobilenet_v2_035    the same, width 0.35
    resnet50            ResNet-50, 224 x 224
    efficientnet_lite0  EfficientNet-lite0's shape, 224 x 224
    vit_tiny, vit_base  vision transformers, patches of 16, 224 x 224
    bert_base           BERT-base, a classifier of 128 tokens
    distilbert          DistilBERT-base, a classifier of 128 tokens
    llama_small         Llama of width 512 and 8 layers, 128 tokens
    gpt2                GPT-2 of 124 million parameters, 128 tokens
    clip                CLIP ViT-B/32, for --loss contrastive

    \b
    $ pock compile zoo:distilbert -o net --batch 1
    distilbert for host, batches of 1
      artifact                /home/me/net
      update                  full
      dropout                 off; --dropout for 8 places of the model
      trainable parameters    66,955,010
      kernel calls in a step  532
      code                    243.0 KiB
    memory
      trainable weights      255.4 MiB
      constants              528 B
      transient              24.4 MiB
      transient lower bound  24.4 MiB
      workspace per thread   464.4 KiB
      total                  279.8 MiB
    memory for time
      weights, state and transients  more time, by estimate
                          297.8 MiB                    0.0%
                          291.8 MiB                    0.3%
                          287.7 MiB                    0.5%
                          282.0 MiB                    1.1%
                          277.5 MiB                    4.0%
                          271.5 MiB                   10.5%
                          267.4 MiB                   15.1%
                          262.5 MiB                   36.8%
    time
      import    12.8 s
      derive    3.0 s
      plan      714.08 ms
      schedule  391.91 ms
      build     5.7 s
      link      7.3 s
    """
    if frontier is not None:
        check_frontier_picture(frontier)
    arguments["explore_memory"] = frontier is not None
    with ProgressLine() as progress:
        artifact, report = compile_or_copy(progress=progress, **arguments)
    if frontier is not None:
        draw_frontier(report, frontier)
    if as_json:
        print_json(report)
        return
    description = artifact.description
    print_rows(
        f"{description.model} for {description.target}, {_batches(report)}",
        {
            "artifact": artifact.directory,
            "update": description.update["name"],
            **({} if report["precision"] == "fp32" else {"precision": report["precision"]}),
            **_dropout_row(report),
            **_attention_row(report, arguments["attention"]),
            "trainable parameters": f"{report['trainable_parameters']:,}",
            "kernel calls in a step": report["kernel_calls"],
            **({"in 8-bit integers": f"{n} weights"} if (n := report["quantized_weights"]) else {}),
            **({"by winograd tiles": f"{n} weights"} if (n := report["winograd_weights"]) else {}),
            **_parts_row(report),
            "code": format_bytes(report["object_bytes"]),
        },
    )
    print_rows("memory", memory_rows(memory_of(description)))
    if report["clipping"]:
        click.echo(_clipping_line(report))
    print_table("memory for time", *frontier_rows(report["memory_frontier"], report["batch"]))
    print_rows("time", {name: format_seconds(spent) for name, spent in progress.seconds.items()})


def _parts_row(report: Mapping[str, Any]) -> dict[str, str]:
    if report["micro_batches"] > 1:
        each = report["batch"] // report["micro_batches"]
        return {"micro-batches": f"{each} of {report['batch']} samples at a time"}
    parts = report["prefix_parts"].get("train_step", 1)
    if parts == 1:
        return {}
    return {"frozen prefix": f"{report['batch'] // parts} of {report['batch']} samples at a time"}


def _batches(report: Mapping[str, Any]) -> str:
    """Say what a step is made of."""
    several = f"steps of {report['accumulate']} " if report["accumulate"] > 1 else ""
    return f"{several}batches of {report['batch']}"


def _dropout_row(report: Mapping[str, Any]) -> dict[str, str]:
    """Say what becomes of a model's dropouts, where it has any."""
    if not report["dropouts"]:
        return {}
    places = f"{report['dropouts']} places of the model"
    return {"dropout": f"in {places}" if report["dropout"] else f"off; --dropout for {places}"}


def _attention_row(report: Mapping[str, Any], asked: str) -> dict[str, str]:
    """Say how much attention is computed in tiles, where that was asked for."""
    tiled, rest = report["attention"]["tiled"], report["attention"]["written_out"]
    if asked == "full":
        return {}
    left = f"; {rest} not of its form, with all scores kept" if rest else ""
    return {"attention": f"in tiles at {tiled} of {tiled + rest} places{left}"}


def _clipping_line(report: Mapping[str, Any]) -> str:
    """Say what clipping costs."""
    kind, extra = report["optimizer"]["clip"].partition(":")[0], report["clipping"]["extra_bytes"]
    what = "clipping keeps all gradients" if kind == "global-norm" else "clipping"
    return f"{kind} {what}: {'-' if extra < 0 else '+'}{format_bytes(abs(extra))}"
