"""``pock``, the command line: one file per verb, each a parser over a plain function."""

import logging
import os
import sys
import warnings
from typing import Any

import click

from pock_tvm import PockError, __version__
from pock_tvm.cli.apply_delta import apply_delta_command
from pock_tvm.cli.bench import bench_command
from pock_tvm.cli.check import check_command
from pock_tvm.cli.compile import compile_command
from pock_tvm.cli.deploy import deploy_command
from pock_tvm.cli.evaluate import evaluate_command
from pock_tvm.cli.export import export_command
from pock_tvm.cli.inspect import inspect_command
from pock_tvm.cli.pack import pack_command
from pock_tvm.cli.package import package_command
from pock_tvm.cli.predict import predict_command
from pock_tvm.cli.profile import profile_command
from pock_tvm.cli.run_remote import run_remote_command
from pock_tvm.cli.search import search_command
from pock_tvm.cli.targets import targets_command
from pock_tvm.cli.train import train_command
from pock_tvm.cli.tune import tune_command

__all__ = ["main", "pock"]


class _Failure(click.ClickException):
    """A line on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"pock: {self.message}", err=True)


class _Pock(click.Group):
    """Turn the errors of every verb into one line and an exit code, unless ``--debug`` is given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order in which one uses them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except BrokenPipeError:
            # The reader has gone; keep the interpreter from complaining when it flushes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise _Failure("the reader of the output has gone") from None
        except KeyboardInterrupt as stop:
            raise _Failure(str(stop) or "interrupted", 130) from None
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise _Failure(_one_line(error)) from error


@click.group(cls=_Pock, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pock")
@click.option("--debug", is_flag=True, help="Log what happens; show tracebacks of errors.")
def pock(*, debug: bool) -> None:
    """Compile a model into an artifact that goes on learning, and train with it.

    \b
    $ pock compile zoo:mobilenet_v2 -o net --batch 8 --update bias
    $ pock train net --data photos.npz --lr 0.01 --epochs 3 --checkpoint net.ckpt
    $ pock evaluate net --data test.npz --checkpoint net.ckpt

    Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
    130 interrupted.
    """
    if debug:
        log = logging.getLogger("pock_tvm")  # not the root: torch has much to say
        log.setLevel(logging.DEBUG)
        log.addHandler(logging.StreamHandler())


for _command in (
    compile_command,
    search_command,
    check_command,
    train_command,
    evaluate_command,
    predict_command,
    pack_command,
    export_command,
    apply_delta_command,
    inspect_command,
    profile_command,
    bench_command,
    tune_command,
    package_command,
    deploy_command,
    run_remote_command,
    targets_command,
):
    pock.add_command(_command)


def main() -> None:
    """Run the command line; the entry point of the ``pock`` script."""
    if not sys.warnoptions and "--debug" not in sys.argv:
        warnings.simplefilter("ignore")  # those of torch and tvm are not for users
    pock()


def _one_line(error: Exception) -> str:
    if isinstance(error, PockError):
        return str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return (
        f"internal error: {type(error).__name__}: {error}; `pock --debug ...` shows where, "
        "please report it"
    )
