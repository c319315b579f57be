"""Progress on stderr: a bar with the time left on a terminal, else a plain line now and then."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 5.0


class ProgressLine:
    """Progress of one verb through its stages; a context manager."""

    def __init__(self) -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._console = console
        self._task: TaskID | None = None
        self._stage = ""
        self._stage_started = self._last_line = time.monotonic()
        self.seconds: dict[str, float] = {}
        """How long each stage took."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say how far a stage is; a stage of one part shows no count."""
        if stage != self._stage:
            self._enter(stage, total)
        if self._task is not None:
            known = total if total > 1 else None
            self._bar.update(self._task, completed=done, total=known, note=note)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._console.print(self._line(stage, done, total, note, now))

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
        self._bar.stop()

    def _enter(self, stage: str, total: int) -> None:
        self._leave()
        self._stage = stage
        self._stage_started = time.monotonic()
        self._task = self._bar.add_task(stage, total=total if total > 1 else None, note="")

    def _leave(self) -> None:
        if self._task is None:
            return
        spent = time.monotonic() - self._stage_started
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
        self._bar.remove_task(self._task)
        self._task, self._stage = None, ""

    def _line(self, stage: str, done: int, total: int, note: str, now: float) -> str:
        if total <= 1:
            return stage
        left = (now - self._stage_started) / max(done, 1) * (total - done)
        parts = [f"{stage} {done}/{total}", note, f"{left:.0f} s left"]
        return ", ".join(part for part in parts if part)
