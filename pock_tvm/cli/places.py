"""Arguments that the verbs for devices share."""

import shlex
from pathlib import Path
from typing import Any

import click

from pock_tvm.cli.options import Decorator


class PlaceParameter(click.ParamType[Any]):
    """A folder on a device, as a URL."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the place."""
        from pock_tvm.deploy import parse_place
        from pock_tvm.errors import DeployError

        try:
            return parse_place(value) if isinstance(value, str) else value
        except DeployError as error:
            self.fail(str(error), param, ctx)


class CommandParameter(click.ParamType[tuple[str, ...]]):
    """A command with its arguments, as one would type it."""

    name = "command"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return its words."""
        try:
            return tuple(shlex.split(value)) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{value!r} is no command: {error}", param, ctx)


place_argument: Decorator = click.argument("place", metavar="URL", type=PlaceParameter())

runner_option: Decorator = click.option(
    "--runner",
    type=CommandParameter(),
    default="",
    help="A command of the device that runs the executable, such as qemu-aarch64.",
)

ssh_config_option: Decorator = click.option(
    "--ssh-config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration of the OpenSSH client, instead of your own.",
)
