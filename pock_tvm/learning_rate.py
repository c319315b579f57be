"""Learning-rate schedules: the rate of a step, from its number and the length of the run.

A schedule is a pure function, so that a resumed run needs nothing but its position. ``pock_rate.c``
computes the same for the standalone program. With ``warmup=w`` the rate of the first w steps rises
linearly, step k from 0 has (k + 1) / (w + 1) of the peak, and the schedule proper runs over the
steps that are left.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pock_tvm.named_options import build, require, split_reference


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The peak, as ``torch.optim.lr_scheduler.ConstantLR`` with factor 1."""

    name: ClassVar[str] = "constant"
    warmup: int = 0

    def __post_init__(self) -> None:
        require(self.warmup >= 0, f"{self.name}: warmup is {self.warmup}; it must not be negative")

    def rate(self, peak: float, step: int, total: int) -> float:
        """Return the rate of a step.

        Args:
            peak: the highest rate.
            step: steps that the run has done, 0 at first.
            total: steps of the whole run.
        """
        if step < self.warmup:
            return peak * (step + 1) / (self.warmup + 1)
        return peak * self.factor(step - self.warmup, max(total - self.warmup, 1))

    def factor(self, step: int, total: int) -> float:
        """Return the share of the peak, after the warm-up."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class _Decay(Constant):
    end: float = 0.0
    """The share of the peak that the run would reach one step after its last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.end <= 1, f"{self.name}: end is {self.end}; it must be in [0, 1]")

    def factor(self, step: int, total: int) -> float:
        """end + (1 - end) · what is left."""
        return self.end + (1 - self.end) * self.left(min(step / total, 1.0))

    def left(self, done: float) -> float:
        """Return how much of the way down is left when a share of the run is done."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Linear(_Decay):
    """1 - t, as ``LinearLR`` from 1 to ``end``."""

    name: ClassVar[str] = "linear"

    def left(self, done: float) -> float:
        """1 - t."""
        return 1 - done


@dataclass(frozen=True, kw_only=True)
class Cosine(_Decay):
    """(1 + cos πt) / 2, as ``CosineAnnealingLR`` (Loshchilov & Hutter 2017, without restarts)."""

    name: ClassVar[str] = "cosine"

    def left(self, done: float) -> float:
        """(1 + cos πt) / 2."""
        return (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class Polynomial(_Decay):
    """(1 - t)ᵖ, as ``PolynomialLR``."""

    name: ClassVar[str] = "polynomial"
    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.power > 0, f"polynomial: power is {self.power}; it must be above 0")

    def left(self, done: float) -> float:
        """(1 - t)ᵖ."""
        return (1 - done) ** self.power


@dataclass(frozen=True, kw_only=True)
class Step(Constant):
    """``by`` to the power of k // every, as ``StepLR``."""

    name: ClassVar[str] = "step"
    every: int = 0
    by: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every > 0, "step: say after how many steps the rate drops, step:every=100")
        require(0 < self.by <= 1, f"step: by is {self.by}; it must be in (0, 1]")

    def factor(self, step: int, total: int) -> float:
        """byᵏ⁄⁄ᵉᵛᵉʳʸ."""
        return self.by ** (step // self.every)


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Up to the peak and down again along cosines, as ``OneCycleLR`` (Smith & Topin 2018)."""

    name: ClassVar[str] = "one-cycle"
    rise: float = 0.3
    """Share of the run in which the rate rises."""
    first: float = 0.04
    """Share of the peak at the first step."""
    last: float = 4e-6
    """Share of the peak at the last step."""

    def __post_init__(self) -> None:
        require(0 <= self.rise <= 1, f"one-cycle: rise is {self.rise}; it must be in [0, 1]")
        for key in ("first", "last"):
            value = getattr(self, key)
            require(0 <= value <= 1, f"one-cycle: {key} is {value}; it must be in [0, 1]")

    def rate(self, peak: float, step: int, total: int) -> float:
        """Return the rate of a step; see ``Constant.rate``."""
        top, bottom = self.rise * total - 1, total - 1.0
        if step <= top:
            return peak * _blend(self.first, 1.0, step / top if top else 1.0)
        done = (step - top) / (bottom - top) if bottom > top else 1.0
        return peak * _blend(1.0, self.last, min(done, 1.0))


def _blend(start: float, end: float, done: float) -> float:
    return end + (start - end) * ((1 + math.cos(math.pi * done)) / 2)


Schedule = Constant | Linear | Cosine | Polynomial | Step | OneCycle
SCHEDULES: dict[str, type[Schedule]] = {
    s.name: s for s in (Constant, Linear, Cosine, Step, Polynomial, OneCycle)
}


Rate = float | Callable[[int], float]
"""A learning rate, or a function of the number of steps that the run has done."""


def rate_function(peak: Rate, schedule: str | Schedule) -> Callable[[int, int], float]:
    """Return ``(step, total) -> rate``.

    Raises:
        UnknownNameError: the schedule is none, or the peak is a function already.
    """
    chosen = make_schedule(schedule) if isinstance(schedule, str) else schedule
    if not callable(peak):
        return functools.partial(chosen.rate, peak)
    by_step = peak
    require(
        chosen == Constant(), "the learning rate is a function; give it or a schedule, not both"
    )
    return lambda step, _total: by_step(step)


def make_schedule(reference: str) -> Schedule:
    """Build a schedule from ``cosine:warmup=100``, ``step:every=500,by=0.5`` and the like.

    Raises:
        UnknownNameError: there is no such schedule or option, or a value is out of range.
    """
    name, options = split_reference(reference)
    return build("schedule", SCHEDULES, name, options)
