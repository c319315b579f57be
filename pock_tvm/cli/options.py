"""Options and arguments that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Any], Any]

_FILE = click.Path(path_type=Path, dir_okay=False)

artifact_argument: Decorator = click.argument("directory", type=click.Path(path_type=Path))

data_option: Decorator = click.option(
    "--data",
    type=_FILE,
    required=True,
    help="Samples: an .npz with one array per model input and `labels`, or a .pockdata file.",
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
