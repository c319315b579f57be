"""How thorough a search is, and what its result may cost."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from pock_tvm.errors import PockError
from pock_tvm.relay_passes.fuse_attention import Attention
from pock_tvm.search.contributions import Measure
from pock_tvm.search.objective import Budget

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_TIMES = {"US": 1e-3, "µS": 1e-3, "MS": 1.0, "S": 1e3}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A bound: an amount, or a share of what the full update needs."""

    amount: float
    of_full: bool = False

    def against(self, full: float) -> float:
        """Return the amount."""
        return self.amount * full if self.of_full else self.amount


def parse_memory(text: str) -> Limit:
    """Read ``48MB`` (weights, state, transients) or ``0.25x`` (of the full update's transients).

    Raises:
        PockError: it is neither.
    """
    return _parse(text, _UNITS, "memory", "48MB, 32MiB or 0.25x")


def parse_time(text: str) -> Limit:
    """Read ``12ms`` or ``0.5x`` (of the full update's step).

    Raises:
        PockError: it is neither.
    """
    return _parse(text, _TIMES, "time", "12ms, 800us or 0.5x")


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str, like: str) -> Limit:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ]+)\s*", text)
    unit = match[2].upper() if match else ""
    if match and unit == "X" and float(match[1]) > 0:
        return Limit(amount=float(match[1]), of_full=True)
    if match and unit in units and float(match[1]) > 0:
        return Limit(amount=float(match[1]) * units[unit])
    raise PockError(f"{what} {text!r} is no budget; write {like}")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What a search does. The defaults suit a small net and some hundreds of samples."""

    target: str = "host"
    optimizer: str = "adamw"
    loss: str = "cross_entropy"
    attention: Attention = "full"
    """``flash``: in tiles, in every plan and run."""
    learning_rate: float = 3e-3
    """Of the short runs; the proof tries a third and three times of it too."""
    steps: int = 60
    """Of a short run."""
    seeds: int = 3
    """Runs of each contribution."""
    measure: Measure = "accuracy"
    samples: int = 20_000
    """Choices that the search looks at."""
    tried: int = 12
    """Planned schemes that compete on held-out samples for the finals."""
    finalists: int = 3
    proof_steps: int = 150
    proof_seeds: int = 5
    rates: tuple[float, ...] = (1 / 3, 1.0, 3.0)
    """Times ``learning_rate``: the proof gives each contender the best on held-out samples."""
    ranked: int = 10
    """Schemes whose predicted order is compared with the real one."""
    gradient_batches: int = 16
    """For the cheap estimators."""
    profiles: int = 4
    """Artifacts whose kernels are timed, beside that of the full update."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "seeds",
            "samples",
            "tried",
            "finalists",
            "proof_steps",
            "proof_seeds",
        ):
            if getattr(self, name) < 1:
                raise PockError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.learning_rate > 0:
            raise PockError(f"the learning rate is {self.learning_rate}; it must be above 0")

    def describe(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "rates": list(self.rates)}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The budgets as they were asked for."""

    memory: Limit | None = None
    """An amount counts weights, state and transients; a share is of the transients."""
    time: Limit | None = None

    def budget(self, full_transient_bytes: float, full_step_ms: float) -> Budget:
        """Return the budgets as amounts."""
        memory = self.memory
        share = memory is not None and memory.of_full
        return Budget(
            total_bytes=memory.amount if memory and not share else None,
            transient_bytes=memory.against(full_transient_bytes) if memory and share else None,
            step_ms=self.time.against(full_step_ms) if self.time else None,
        )
