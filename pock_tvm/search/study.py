"""A search as stages, each of which takes up what an earlier attempt has left in the database."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.errors import PockError
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.search.contributions import Contribution, contributions
from pock_tvm.search.cost_model import Cost
from pock_tvm.search.database import Database
from pock_tvm.search.estimators import beside_the_real_thing, estimate
from pock_tvm.search.kernel_times import KernelTimes, most_telling, profile
from pock_tvm.search.masked_trainer import MaskedTrainer
from pock_tvm.search.planning import PlannedCost, Setting
from pock_tvm.search.pool import Pool, Task
from pock_tvm.search.runs import Run, load_samples
from pock_tvm.search.settings import SearchSettings
from pock_tvm.search.space import Choice, Space
from pock_tvm.search.workspace import EVERYTHING, Workspace
from pock_tvm.update import UpdateScheme, learnable_names, resolve

Tell = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note)."""

PROFILE_STEPS = 40
FULL = "full"
"""The plan and the profile of the full update."""


@dataclass
class Study:
    """What all stages of one search work with."""

    model: ImportedModel
    workspace: Workspace
    database: Database
    pool: Pool
    settings: SearchSettings
    tell: Tell
    space: Space = field(init=False)
    setting: Setting = field(init=False)

    def __post_init__(self) -> None:
        self._parameters = parameters_of(self.model)
        self.space = Space.of(self._parameters)
        s = self.settings
        self.setting = self.workspace.setting(s.target, s.optimizer, s.loss, s.attention)

    @property
    def everything(self) -> UpdateScheme:
        """The full update."""
        return UpdateScheme(name="full", trainable=("*",))

    @property
    def learnable(self) -> tuple[str, ...]:
        """Every tensor that can learn, in the model's order."""
        return tuple(learnable_names(self._parameters))

    @property
    def adaptable(self) -> tuple[str, ...]:
        """Every weight that low-rank factors can adapt, but those of the head."""
        linear = [p for p in self._parameters if p.reader == "linear" or p.pointwise]
        return tuple(p.name for p in linear if p.name not in self.space.always)

    def do(self, stage: str, tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
        """Do the tasks that have no result yet; return the results of all."""
        results = {key: self.database.get(stage, key) for key in tasks}
        missing = {key: task for key, task in tasks.items() if results[key] is None}
        done = len(tasks) - len(missing)
        self.tell(stage, done, len(tasks), "")
        for key, result in self.pool.map(missing):
            if "error" not in result:  # what failed is tried again when the search is resumed
                self.database.put(stage, key, result)
            results[key] = result
            done += 1
            self.tell(stage, done, len(tasks), str(result.get("error", "")))
        return {key: result for key, result in results.items() if result is not None}

    def mask(self, scheme: UpdateScheme) -> dict[str, Any]:
        """Return what a scheme lets learn, as a run on the artifact of everything takes it."""
        return resolve(scheme, self._parameters, self.model.parameters).describe()

    def masked_run(self, scheme: UpdateScheme, **options: Any) -> Task:
        """Return a run of a scheme on the artifact of everything."""
        artifact = str(self.workspace.folder / "artifacts" / EVERYTHING)
        return Run(artifact=artifact, mask=self.mask(scheme), **options).as_task()

    def contributions(self) -> dict[str, Contribution]:
        """Measure what each choice of one thing gains on held-out samples.

        Raises:
            PockError: no run gave a number.
        """
        s = self.settings
        self.tell("compile", 0, 1, "one artifact for all runs")
        self.workspace.artifact(EVERYTHING, "full", self.setting, gradients=True)
        where = {"train": self.workspace.data("train"), "measure": self.workspace.data("held_out")}
        singles = self.space.singles()
        seeds = range(s.seed, s.seed + s.seeds)
        frozen = {"train": where["train"], "measure": where["measure"], "steps": 0}
        tasks = {
            "frozen|0": self.masked_run(
                self.scheme(self.space.nothing), **frozen, learning_rate=0.0
            )
        }
        for name, choice in singles.items():
            for seed in seeds:
                tasks[f"{name}|{seed}"] = self.masked_run(
                    self.scheme(choice),
                    **where,
                    steps=s.steps,
                    learning_rate=s.learning_rate,
                    seed=seed,
                )
        results = self.do("contributions", tasks)
        by_run = {(name, seed): results[f"{name}|{seed}"] for name in singles for seed in seeds}
        found = contributions(list(singles), by_run, results["frozen|0"], seeds, s.measure)
        if all(one.diverged == one.runs for one in found.values()):
            raise PockError(
                f"every run diverged at a learning rate of {s.learning_rate:g}; nothing can be "
                "compared: give a smaller one (--lr)"
            )
        return found

    def estimators(self, found: Mapping[str, Contribution]) -> dict[str, Any]:
        """Compare cheap guesses with the measured contributions."""
        kept = self.database.get("estimators", "all")
        if kept is None:
            self.tell("estimators", 0, 1, "")
            artifact = self.workspace.artifact(EVERYTHING, "full", self.setting, gradients=True)
            with MaskedTrainer(artifact.directory, threads=1) as trainer:
                inputs, labels = load_samples(self.workspace.data("train"))
                kept = estimate(
                    trainer,
                    inputs,
                    labels,
                    self.space.weights,
                    batches=self.settings.gradient_batches,
                    seed=self.settings.seed,
                )
            self.database.put("estimators", "all", kept)
        return {"values": kept, "spearman": beside_the_real_thing(self.space, kept, found)}

    def scheme(self, choice: Choice, name: str = "searched") -> UpdateScheme:
        """Return the scheme of a choice."""
        return self.space.scheme(choice, name)

    def plan(self, schemes: Mapping[str, UpdateScheme]) -> dict[str, PlannedCost]:
        """Plan schemes; the name of each has to say what it is.

        Raises:
            PockError: a scheme cannot be planned.
        """
        tasks = {key: self.setting.plan_task(scheme) for key, scheme in schemes.items()}
        found = {}
        for key, result in self.do("plans", tasks).items():
            if "error" in result:
                raise PockError(f"planning {key} failed: {result['error']}")
            found[key] = PlannedCost(**result)
        return found

    def plan_choices(self, choices: Iterable[Choice]) -> dict[Choice, PlannedCost]:
        """Plan choices."""
        by_key = {key_of(choice): choice for choice in choices}
        costs = self.plan({key: self.scheme(choice) for key, choice in by_key.items()})
        return {by_key[key]: cost for key, cost in costs.items()}

    def kernel_times(
        self, planned: Mapping[Choice, PlannedCost], everything: PlannedCost
    ) -> KernelTimes:
        """Time the kernels of the full update and of the artifacts that tell most beside it.

        The full update always: budgets are shares of its step.
        """
        costs = {FULL: everything, **{key_of(choice): cost for choice, cost in planned.items()}}
        cycles = {k: c for cost in costs.values() for k, c in cost.cycles.items()}
        if self.settings.target != "host":
            return KernelTimes.of([], cycles)  # estimates only: there is nothing to run them on
        chosen = self.database.get("profiles", "chosen")
        if chosen is None:
            others = most_telling(
                costs, dict.fromkeys(everything.calls, 0.0), self.settings.profiles
            )
            chosen = {"keys": [FULL, *others]}
            self.database.put("profiles", "chosen", chosen)
        profiles = []
        for index, key in enumerate(chosen["keys"]):
            kept = self.database.get("profiles", key)
            if kept is None:
                self.tell("kernel times", index, len(chosen["keys"]), "")
                scheme = self.everything if key == FULL else self.scheme(choice_of(key))
                artifact = self.workspace.artifact(f"profile{index}", scheme, self.setting)
                kept = profile(artifact, threads=1, steps=PROFILE_STEPS)
                self.database.put("profiles", key, kept)
            profiles.append(kept)
        return KernelTimes.of(profiles, cycles)


def key_of(choice: Choice) -> str:
    """Return a choice as a key of the database."""
    return json.dumps([choice.biases, *choice.ratios])


def choice_of(key: str) -> Choice:
    """Read such a key."""
    return Choice.of(json.loads(key))


def cost_of(planned: PlannedCost, times: KernelTimes) -> Cost:
    """Return what the model of costs predicts, of a planned scheme."""
    return (
        float(planned.resident_bytes),
        float(planned.transient_bytes),
        times.step_ms(planned),
    )
