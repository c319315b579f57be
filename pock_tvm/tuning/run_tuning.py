"""Tune the kernels of a step that matter, on one device or on several of a kind."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import mean, median
from threading import Lock
from typing import Any

from pock_tvm.artifact.load import Artifact
from pock_tvm.artifact.profiler import time_calls
from pock_tvm.compilation.kernel_sources import KernelSource, read_kernel_sources
from pock_tvm.errors import TuningError
from pock_tvm.own_sources import STAGES, sources_sha256
from pock_tvm.record_files import Record, read_records, write_records
from pock_tvm.schedules.cpu.contraction import Contraction
from pock_tvm.schedules.cpu.decision import (
    Decision,
    illegality,
    problem_of,
    read_decision,
    rules_decision,
)
from pock_tvm.schedules.cpu.gemm import open_contraction
from pock_tvm.schedules.recorded import recorded_decisions
from pock_tvm.targets import TargetSpec
from pock_tvm.tuning.device import DEVICE_ERRORS, Device, last_line
from pock_tvm.tuning.journal import Journal
from pock_tvm.tuning.kernel_library import kernel_library
from pock_tvm.tuning.kernel_times import time_kernels
from pock_tvm.tuning.proposals import propose
from pock_tvm.tuning.step_kernels import calls_in_step
from pock_tvm.tuning.trial import Verdict, judge, same_values

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note)."""

_PROFILED_STEPS = 10

_VISIT = 6
"""Trials of one problem before another gets its turn: its operands stay on the device so long."""


@dataclass
class Problem:
    """Kernels that the same decision is best for."""

    text: str
    kernel: str
    """The slowest of them, which stands for all."""
    source: KernelSource
    contraction: Contraction
    rules: Decision
    best: Decision
    calls: int = 0
    step_us: float = 0.0
    """Of all calls in a step, before."""
    seen: list[Decision] = field(default_factory=list)
    before_us: float = 0.0
    after_us: float = 0.0
    busy: bool = False
    is_exhausted: bool = False
    """Whether nothing is left to propose."""

    @property
    def gain(self) -> float:
        """Return what share of its time the best decision saves."""
        return 1 - self.after_us / self.before_us if self.before_us else 0.0


@dataclass(frozen=True)
class Tuning:
    """What a run found."""

    problems: tuple[Problem, ...]
    step_us: float
    """Of all kernels of a step, timed one by one, before."""
    trials: int
    """In the journal, those of earlier runs among them."""
    records: Path

    @property
    def saved_us(self) -> float:
        """Return what all records together save of a step, by the trials."""
        return sum(p.step_us * p.gain for p in self.problems)


def run_tuning(
    artifact: Artifact,
    spec: TargetSpec,
    devices: Sequence[Device],
    *,
    trials: int,
    records: Path,
    least_share: float,
    is_here: bool,
    progress: Progress,
) -> Tuning:
    """Try decisions about the kernels that take the most time; record what is faster.

    Args:
        artifact: whose training step is tuned.
        spec: the machine that it was compiled for.
        devices: machines of that kind.
        trials: how many in all, those of an interrupted run counted.
        records: file of the core, which is written after each finding; the journal stands beside.
        least_share: of the step's time, below which a problem is left alone.
        is_here: whether the device is this machine, where the step itself can be profiled.
        progress: called as trials end.

    Raises:
        TuningError: the artifact holds no kernels, or no device is left.
        RecordError: records cannot be read or written.
    """
    sources = read_kernel_sources(artifact)
    known = recorded_decisions({name: s.func for name, s in sources.items()}, spec)
    with Journal(records.with_suffix(".trials.jsonl"), sources_sha256(STAGES)) as journal:
        if is_here:
            progress("profile", 0, 1, "")
            times = _profiled(artifact, spec)
        else:
            times = _times(journal, sources, known, spec, devices, progress)
        calls = calls_in_step(artifact)
        step_us = sum(times[name] * count for name, count in calls.items())
        problems = _problems(sources, calls, times, known, spec)
        matter = [p for p in problems if p.step_us >= least_share * step_us]
        run = _Run(journal, matter, spec, records, trials, progress)
        run.replay()
        run.on(devices)
        return Tuning(tuple(matter), step_us, run.done, records)


def _profiled(artifact: Artifact, spec: TargetSpec) -> dict[str, float]:
    """Return the µs of a call of each kernel within steps of the artifact."""
    timings = time_calls(artifact, spec, threads=spec.cores, steps=_PROFILED_STEPS)
    found: dict[str, list[float]] = {}
    for call, ns in zip(artifact.plan()["train_step"]["calls"], timings.calls_ns, strict=True):
        found.setdefault(call["kernel"], []).append(median(ns) / 1e3)
    return {name: mean(us) for name, us in found.items()}


def _times(
    journal: Journal,
    sources: Mapping[str, KernelSource],
    known: Mapping[str, Decision],
    spec: TargetSpec,
    devices: Sequence[Device],
    progress: Progress,
) -> dict[str, float]:
    """Return the µs of a call of each kernel, from the journal as far as it goes."""
    times = {r["kernel"]: float(r["us"]) for r in journal.rows if "problem" not in r}

    def tell(name: str, us: float, device: str) -> None:
        times[name] = us
        journal.add({"kernel": name, "us": us})
        progress("measure", len(times), len(sources), device)

    missing = {name: s for name, s in sources.items() if name not in times}
    if missing:
        time_kernels(missing, known, spec, devices, tell)
    return times


def _problems(
    sources: Mapping[str, KernelSource],
    calls: Counter[str],
    times: Mapping[str, float],
    known: Mapping[str, Decision],
    spec: TargetSpec,
) -> list[Problem]:
    """Return the problems of the step, the slowest first."""
    found: dict[str, Problem] = {}
    for name in sorted(sources, key=lambda n: (-times[n], n)):
        contraction = open_contraction(sources[name].func, spec)
        if contraction is None:
            continue
        text, rules = problem_of(contraction, spec), rules_decision(contraction, spec)
        best = known.get(name, rules)
        new = Problem(text, name, sources[name], contraction, rules, best)
        problem = found.setdefault(text, new)
        problem.calls += calls[name]
        problem.step_us += times[name] * calls[name]
    return sorted(found.values(), key=lambda p: (-p.step_us, p.text))


class _Run:
    """The trials of some problems, shared out to devices."""

    def __init__(
        self,
        journal: Journal,
        problems: Sequence[Problem],
        spec: TargetSpec,
        records: Path,
        trials: int,
        progress: Progress,
    ) -> None:
        self.journal, self.problems, self.spec = journal, problems, spec
        self.records, self.trials, self.progress = records, trials, progress
        self.done = self.started = 0
        self.is_stopped = False
        self.lock = Lock()

    @property
    def is_over(self) -> bool:
        """Tell whether no further trial may begin."""
        return self.is_stopped or self.started >= self.trials

    def replay(self) -> None:
        """Take over the trials of an interrupted run."""
        by_text = {p.text: p for p in self.problems}
        for row in self.journal.rows:
            problem = by_text.get(row.get("problem", ""))
            if problem is None:
                continue
            self.done += 1
            decision = read_decision(row["decision"])
            problem.seen.append(decision)
            if row["is_better"] and illegality(decision, problem.contraction, self.spec) is None:
                problem.best = decision
                problem.before_us, problem.after_us = row["rules_us"], row["us"]
        self.started = self.done

    def on(self, devices: Sequence[Device]) -> None:
        """Let every device take visits until all trials are done."""
        lost: list[str] = []

        def work(device: Device) -> None:
            while (problem := self._next()) is not None:
                trouble = ""
                try:
                    self._visit(device, problem)
                except DEVICE_ERRORS as error:
                    trouble = last_line(error)
                finally:
                    problem.busy = False
                if trouble and not device.reopen():
                    lost.append(f"{device.name} was lost ({trouble})")
                    return

        with ThreadPoolExecutor(len(devices)) as pool:
            try:
                list(pool.map(work, devices))
            except BaseException:  # the pool waits for its threads: they end with this trial
                self.is_stopped = True
                raise
        if len(lost) == len(devices):
            raise TuningError(f"{lost[-1]}; the same command goes on with the trials left")

    def _next(self) -> Problem | None:
        """Return the problem whose next trials promise most: long, and little tried."""
        with self.lock:
            free = [p for p in self.problems if not p.busy and not p.is_exhausted]
            if not free or self.is_over:
                return None
            problem = max(free, key=lambda p: p.step_us / (len(p.seen) + _VISIT))
            problem.busy = True
            return problem

    def _visit(self, device: Device, problem: Problem) -> None:
        tensors = device.tensors(problem.source.func)
        rules = device.load(self._library(problem, problem.rules))
        best, loaded = rules, problem.rules
        expected = device.results(rules, problem.source.func, tensors)
        for _ in range(_VISIT):
            with self._trial(problem) as decision:
                if decision is None:
                    return
                if loaded != problem.best:
                    best, loaded = device.load(self._library(problem, problem.best)), problem.best
                verdict = Verdict(None, is_better=False)
                try:
                    candidate = device.load(self._library(problem, decision))
                    got = device.results(candidate, problem.source.func, tensors)
                    exactly = decision.parts == problem.rules.parts == 1
                    if same_values(expected, got, problem.contraction, exactly=exactly):
                        verdict = judge(device, rules, best, candidate, tensors)
                finally:  # one that crashes is not tried again
                    self._keep(problem, decision, verdict)
                if verdict.is_better:
                    best, loaded = candidate, decision

    @contextmanager
    def _trial(self, problem: Problem) -> Iterator[Decision | None]:
        """Yield the next decision to try; None where none is left."""
        with self.lock:
            number = len(problem.seen)
            is_left = not self.is_over
            self.started += is_left
        decision = self._propose(problem, number) if is_left else None
        if decision is None and is_left:  # too small to decide anything about
            problem.is_exhausted = True
            with self.lock:
                self.started -= 1
        yield decision

    def _propose(self, problem: Problem, number: int) -> Decision | None:
        random = Random(f"{problem.text} {number}")
        for _ in range(_VISIT):
            base = random.choice((problem.best, problem.best, problem.rules))
            found = propose(random, base, problem.contraction, self.spec)
            if found is not None and found not in problem.seen and found != problem.rules:
                return found
        return None

    def _library(self, problem: Problem, decision: Decision) -> bytes:
        with self.lock:  # one at a time: TVM compiles in one thread
            return kernel_library(problem.kernel, problem.source, self.spec, decision)

    def _keep(self, problem: Problem, decision: Decision, verdict: Verdict) -> None:
        with self.lock:
            problem.seen.append(decision)
            self.done += 1
            row: dict[str, Any] = {"problem": problem.text, "decision": decision.as_dict()}
            row |= {"ratio": verdict.ratio, "is_better": verdict.is_better}
            self.journal.add({**row, "us": verdict.us, "rules_us": verdict.rules_us})
            if verdict.is_better:
                problem.best = decision
                problem.before_us, problem.after_us = verdict.rules_us, verdict.us
                self._record(problem)
            saved = sum(p.step_us * p.gain for p in self.problems)
            self.progress("tune", self.done, self.trials, f"{saved / 1e3:.2f} ms saved")

    def _record(self, problem: Problem) -> None:
        core = self.spec.core
        found = read_records(self.records, core) if self.records.exists() else {}
        made = Record(problem.best.as_dict(), problem.before_us, problem.after_us)
        write_records(self.records, core, {**found, problem.text: made})
