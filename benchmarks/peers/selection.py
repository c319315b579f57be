"""What an update scheme trains, for peers that are told by name."""

from benchmarks.peers.task import model_reference
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.frontend import load_model
from pock_tvm.update import learnable_names, parse_update, resolve


def learned_names(model: str, update: str) -> tuple[str, ...]:
    """Return the names of the parameters that ``update`` trains, whole or some channels of them.

    A peer that trains a tensor trains all its channels, so where a scheme takes some of them the
    peer does more.

    Args:
        model: a zoo name, or ``package.module:function``.
        update: an update as ``pock compile --update`` takes it.

    Raises:
        ValueError: the update is low-rank, which peers are not told how to do.
    """
    imported = load_model(model_reference(model), 1)
    parameters = parameters_of(imported)
    scheme = parse_update(update, learnable_names(parameters))
    chosen = resolve(scheme, parameters, imported.parameters)
    if chosen.lora:
        raise ValueError("no peer has our low-rank factors")
    return (*chosen.whole, *chosen.channels)
