"""Optimizers and losses by NAME:OPTION=VALUE, with the flags that say the same."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import click

from pock_tvm.named_options import split_reference

T = TypeVar("T")


def choose(
    option: str,
    reference: str,
    known: Mapping[str, type],
    make: Callable[..., T],
    given: Mapping[str, Any],
) -> T:
    """Build what NAME:OPTION=VALUE names with the flags that were given; refuse others' flags."""
    name, _ = split_reference(reference)
    chosen = {key: value for key, value in given.items() if value is not None}
    accepted = [field.name for field in fields(known[name])] if name in known else list(chosen)
    for key in chosen:
        if key not in accepted:
            raise click.UsageError(
                f"{_flag(key)} is not for {option} {name}, "
                f"which takes {', '.join(accepted) or 'no options'}"
            )
    return make(reference, **chosen)


def _flag(name: str) -> str:
    return "--betas" if name in ("beta1", "beta2") else f"--{name.replace('_', '-')}"
