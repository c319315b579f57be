"""What a worker and the benchmark say to each other: a line a step, over standard streams."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(make: Callable[[dict[str, Any], Path], Callable[[], float]]) -> None:
    """Make the step of the task in the folder that is named, and do one for every line that comes.

    Answers with the loss, the seconds of the step by the clock of this process, and the bytes of
    resident memory that came to that of the libraries.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries write there
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    before = resident("VmRSS")
    step = make(task, folder)
    for _ in sys.stdin:
        begin = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - begin
        line = {"loss": loss, "seconds": seconds, "bytes": resident("VmHWM") - before}
        answers.write(json.dumps(line) + "\n")
        answers.flush()


def resident(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB", text, re.M)
    assert match, f"/proc/self/status has no {field}"
    return 1024 * int(match.group(1))
