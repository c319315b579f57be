"""A worker: reads a task per line from stdin, writes its result as a line; ends with its input.

python -m pock_tvm.search.worker
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from pock_tvm.errors import PockError


def perform(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task; what is wrong with it comes back as text, so that the others go on."""
    try:
        if task["task"] == "plan":
            from pock_tvm.search import planning  # imports TVM, which a run does not need

            return planning.perform(task)
        from pock_tvm.search import runs

        return runs.perform(task)
    except PockError as error:
        return {"error": str(error)}


def main() -> None:
    """Serve until the input ends."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody else prints among the results
    for line in sys.stdin:
        result = perform(json.loads(line))
        results.write(json.dumps(result) + "\n")
        results.flush()


if __name__ == "__main__":
    main()
