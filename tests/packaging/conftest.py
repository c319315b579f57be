"""The artifacts around ``fake_step.c``, and what builds drivers."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "artifact"), str(TESTS / "runtime")]
