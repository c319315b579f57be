"""Search for what to update: all stages, from a model and samples to a scheme and a report."""

import hashlib
import importlib.metadata
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.artifact.fresh_file import fresh_file
from pock_tvm.errors import PockError
from pock_tvm.frontend.model import ImportedModel
from pock_tvm.own_sources import sources_sha256
from pock_tvm.record_files import records_sha256
from pock_tvm.search.database import Database
from pock_tvm.search.outcome import outcome_of
from pock_tvm.search.pool import LocalPool, Pool
from pock_tvm.search.proof import before, prove, rank_real
from pock_tvm.search.report_page import report_page
from pock_tvm.search.samples import LabelledSamples, Split, check_split, split
from pock_tvm.search.scheme_file import write_scheme
from pock_tvm.search.selection import select
from pock_tvm.search.settings import Limits, SearchSettings, parse_memory, parse_time
from pock_tvm.search.study import Study, Tell
from pock_tvm.search.trial import try_finalists
from pock_tvm.search.workspace import Workspace, fingerprint
from pock_tvm.targets import get_target
from pock_tvm.update import UpdateScheme


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found, and where it was written."""

    scheme: UpdateScheme
    path: Path
    database: Path
    report: Path
    summary: dict[str, Any]
    """Everything that the report shows, as plain data."""


def search(
    model: ImportedModel,
    data: LabelledSamples | Split,
    output: str | Path,
    *,
    memory: str | None = None,
    time: str | None = None,
    settings: SearchSettings | None = None,
    pool: Pool | None = None,
    progress: Tell | None = None,
) -> SearchResult:
    """Find what to update of a model under a budget; go on where an earlier attempt stopped.

    Args:
        model: imported by ``pock_tvm.frontend``; its batch is that of all runs.
        data: samples with labels; a ``Split`` is taken as it is.
        output: the scheme file, ``NAME.toml``. Beside it: ``NAME.sqlite`` with all results,
            ``NAME.html`` and ``NAME.json`` with the report, and the folder ``NAME.work``.
        memory: ``48MB`` of weights, state and transients, or ``0.25x`` of full's transients.
        time: ``12ms`` a step, or ``0.5x`` of full's.
        settings: how thorough to be.
        pool: where runs are done; processes of this machine by default.
        progress: called with (stage, done, total, note).

    Raises:
        BatchError: the data does not fit the model.
        MemoryBudgetError: the budget cannot be met; the message says what could.
        PockError: the database holds another search.
    """
    settings = settings or SearchSettings()
    limits = Limits(
        memory=parse_memory(memory) if memory else None, time=parse_time(time) if time else None
    )
    path = Path(output).absolute()
    if path.suffix != ".toml":
        raise PockError(f"the output is a scheme file: write {path.with_suffix('.toml').name}")
    parts = data if isinstance(data, Split) else split(data, seed=settings.seed)
    check_split(parts, model.batch, classes_of(model))
    if limits.time is not None and settings.target != "host":
        raise PockError(
            f"kernel times of {settings.target} cannot be measured here; search with --memory alone"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        database = stack.enter_context(Database(path.with_suffix(".sqlite")))
        database.claim(
            {
                "model": tensors_sha256(model.parameters),
                "batch": model.batch,
                "samples": fingerprint(parts),
                "settings": settings.describe(),  # budgets are not: results hold under any
            }
        )
        workspace = Workspace(path.with_suffix(".work"), model, parts)
        _forget_what_others_planned(database, workspace, settings.target)
        study = Study(
            model=model,
            workspace=workspace,
            database=database,
            pool=pool or stack.enter_context(LocalPool()),
            settings=settings,
            tell=progress or (lambda stage, done, total, note: None),
        )
        found = study.contributions()
        guesses = study.estimators(found)
        selection = try_finalists(study, select(study, found, limits))
        ranking = rank_real(study, selection)
        proof = prove(study, selection)
        summary = outcome_of(study, found, guesses, selection, ranking, proof)
        summary["before"] = before(study)
    scheme = study.space.scheme(selection.finalists[0], path.stem)
    text = json.dumps(summary, indent=1)
    summary = json.loads(text)  # what is returned is what is written
    with fresh_file(path.with_suffix(".json")) as fresh:
        fresh.write_text(text, encoding="utf-8")
    with fresh_file(path.with_suffix(".html")) as fresh:
        fresh.write_text(report_page(summary), encoding="utf-8")
    write_scheme(scheme, path, _comments(model, summary))
    return SearchResult(
        scheme=scheme,
        path=path,
        database=path.with_suffix(".sqlite"),
        report=path.with_suffix(".html"),
        summary=summary,
    )


def _forget_what_others_planned(database: Database, workspace: Workspace, target: str) -> None:
    """Plan and time anew where an earlier attempt had another compiler, or another machine.

    What a scheme learns hangs on neither: those runs, which take most of the time, are kept.
    """
    parts = [
        *(sources_sha256(), records_sha256(), importlib.metadata.version("apache-tvm")),
        repr(get_target(target)),
    ]
    version = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if not database.is_of(version):
        workspace.forget_artifacts()
    database.renew(version, ("plans", "profiles", "measured"))


def classes_of(model: ImportedModel) -> int | None:
    """Return how many classes the model's output tells apart: the extent of its last axis."""
    shape = model.mod["main"].ret_ty.shape
    return None if shape is None else int(shape[-1])


def _comments(model: ImportedModel, summary: dict[str, Any]) -> dict[str, Any]:
    best = summary["chosen"]
    return {
        "searched for": f"{model.name}, batches of {model.batch}",
        "budget": json.dumps(summary["budget"]),
        "planned": f"{best['total_bytes']:,} bytes, {best['transient_bytes']:,} of them transient",
        "trains": summary["chosen"]["words"],
    }
