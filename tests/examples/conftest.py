"""The artifact around ``fake_step.c``, as the tests in ``tests/artifact`` use it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "artifact"))
