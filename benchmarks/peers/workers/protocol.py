"""What a worker and the benchmark say to each other: a line a step, over two pipes."""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(make: Callable[[dict[str, Any], Path], Any]) -> None:
    """Make the step of the task in the folder that is named, and do one for every line that comes.

    ``make`` returns a function that does a step and returns its loss; or two, the second of which
    says the loss, off the clock, where a step does not know it.

    Answers with the loss, the seconds of the step by the clock of this process, and the bytes of
    resident memory that came to that of the libraries.
    """
    answers = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    before = resident("VmRSS")
    step = make(task, folder)
    step, read_loss = step if isinstance(step, tuple) else (step, None)
    for _ in sys.stdin:
        loss = read_loss() if read_loss else None
        begin = time.perf_counter()
        known = step()
        loss = known if loss is None else loss
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
