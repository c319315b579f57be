"""Options and arguments that several verbs share."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pock_tvm.samples.columns import Columns

Decorator = Callable[[Any], Any]

_FILE = click.Path(path_type=Path, dir_okay=False)

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class ByteCount(click.ParamType[int]):
    """A number of bytes with a unit: 64MB, 32MiB, 1.5 GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f"{value!r} is no size; write 64MB, 32MiB or a number of bytes", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


BYTES = ByteCount()

artifact_argument: Decorator = click.argument("directory", type=click.Path(path_type=Path))


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data`` and what says how a table is read; they arrive as ``data`` and ``columns``."""
    required = click.option(
        "--data",
        type=click.Path(path_type=Path),
        required=True,
        help="Samples: an .npz with one array per model input and `labels`; a .csv, .tsv or .jsonl "
        "file; a folder of pictures, one folder per class; what `datasets` saved to disk; or a "
        "packed file (`pock pack`).",
    )
    return required(column_options(command))


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what the columns of a table are; they arrive as ``columns``."""

    @functools.wraps(command)
    def with_columns(
        *,
        tokenizer: Path | None,
        text_columns: tuple[str, ...],
        label_column: str | None,
        label_names: str | None,
        split: str | None,
        **rest: Any,
    ) -> Any:
        names = tuple(name.strip() for name in label_names.split(",")) if label_names else ()
        columns = Columns(
            tokenizer=tokenizer,
            text=text_columns,
            label=label_column,
            label_names=names,
            split=split,
        )
        return command(columns=columns, **rest)

    options = (
        click.option("--tokenizer", type=_FILE, help="For text: the model's tokenizer.json."),
        click.option(
            "--text-column",
            "text_columns",
            multiple=True,
            help="Of a table; twice, where the model compares two texts. Default: text.",
        ),
        click.option("--label-column", help="Of a table. Default: label."),
        click.option(
            "--label-names",
            metavar="NAME,NAME",
            help="Labels that are words, in the order of the model's outputs. Default: by alphabet,"
            " where the data holds as many as the model has outputs.",
        ),
        click.option("--split", help="Of a data set that has several."),
    )
    for option in reversed(options):
        with_columns = option(with_columns)
    return with_columns


threads_option: Decorator = click.option(
    "--threads", type=click.IntRange(1, 64), help="Default: all cores this process may use."
)

trained_option: Decorator = click.option(
    "--checkpoint", type=_FILE, help="Use the weights of this checkpoint, not the initial ones."
)

augment_option: Decorator = click.option(
    "--augment",
    metavar="crop=PIXELS,flip",
    help="Move pictures by up to so many pixels, mirror half of them; another way each time.",
)

head_option: Decorator = click.option(
    "--head",
    type=click.IntRange(2),
    metavar="CLASSES",
    help="Give the model a new head of so many classes, drawn at random, to be learned.",
)

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
)

attention_option: Decorator = click.option(
    "--attention",
    type=click.Choice(["full", "flash"]),
    default="full",
    show_default=True,
    help="flash: keep no matrix of queries times keys, but compute some rows at a time, twice.",
)

rpc_option: Decorator = click.option(
    "--rpc",
    metavar="HOST:PORT",
    help="A TVM RPC tracker; kernels are measured on all its free devices of the --key at once.",
)

key_option: Decorator = click.option("--key", help="Of devices, with --rpc, as raspberry-pi-4.")

precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="bf16: matrix products of operands rounded to bfloat16, summed in float32, where the"
    " target has instructions for it. Weights and everything in memory stay float32.",
)

winograd_option = click.option(
    "--winograd",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="auto: 3x3 convolutions with frozen weights by Winograd's tiles, where that is faster by"
    " estimate; the weights take more memory, so not with --memory-budget.",
)

frozen_option = click.option(
    "--frozen",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="int8: products with frozen weights in 8-bit integers, as far as nothing before learns.",
)
