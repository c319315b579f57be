"""Options and arguments that several verbs share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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

data_option: Decorator = click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Samples: an .npz with one array per model input and `labels`, a .pockdata file, or a "
    "folder of pictures, one folder per class.",
)

threads_option: Decorator = click.option(
    "--threads", type=click.IntRange(1, 64), help="Default: all cores this process may use."
)

trained_option: Decorator = click.option(
    "--checkpoint", type=_FILE, help="Use the weights of this checkpoint, not the initial ones."
)

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
)
