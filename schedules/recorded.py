"""The decision that a tuner recorded for a kernel on the core at hand."""

from collections.abc import Mapping

from tvm import tirx

from pock_tvm.errors import RecordError
from pock_tvm.record_files import records_of
from pock_tvm.schedules.cpu.decision import Decision, illegality, problem_of, read_decision
from pock_tvm.schedules.cpu.gemm import open_contraction
from pock_tvm.targets import TargetSpec


def recorded_decisions(
    kernels: Mapping[str, tirx.PrimFunc], spec: TargetSpec
) -> dict[str, Decision]:
    """Return the decisions on record, of those of ``kernels`` that have one.

    Raises:
        RecordError: a file cannot be read, or decides what is not legal.
    """
    records = records_of(spec.core) if spec.device is None else {}
    found: dict[str, Decision] = {}
    if not records:
        return found
    for name, kernel in kernels.items():
        contraction = open_contraction(kernel, spec)
        problem = "" if contraction is None else problem_of(contraction, spec)
        if contraction is None or problem not in records:
            continue
        record, path = records[problem]
        try:
            decision = read_decision(record.decision)
            trouble = illegality(decision, contraction, spec)
        except ValueError as error:
            trouble = str(error)
        if trouble:
            raise RecordError(f"{path}: the record of {problem!r} is wrong: {trouble}; remove it")
        found[name] = decision
    return found
