"""What ``pock compile`` does once its options are read: compile, or copy what it made before."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pock_tvm.cli.choose import choose
from pock_tvm.cli.compile_key import compile_key
from pock_tvm.cli.progress import ProgressLine
from pock_tvm.clipping import make_clipping
from pock_tvm.losses import LOSSES, make_loss
from pock_tvm.optimizers import OPTIMIZERS, make_optimizer

if TYPE_CHECKING:
    from pock_tvm.artifact.load import Artifact
    from pock_tvm.compilation.winograd import Winograd
    from pock_tvm.compile import CompiledModel
    from pock_tvm.relay_passes.decompose_batch_norm import Statistics
    from pock_tvm.relay_passes.fuse_attention import Attention
    from pock_tvm.relay_passes.quantize_frozen import Frozen
    from pock_tvm.targets.precision import Precision


def compile_or_copy(
    *, model: str, output: Path, cache: bool, progress: ProgressLine, **options: Any
) -> tuple["Artifact", Mapping[str, Any]]:
    """Return the artifact and the report of this compilation, or of the same one before."""
    started = time.perf_counter()
    # It reads manifests, with NumPy: not for --help.
    from pock_tvm.artifact.artifact_cache import ArtifactCache

    kept = ArtifactCache.of_user() if cache else None
    key = compile_key(model, options) if kept is not None else None
    if kept is not None and key is not None and kept.holds(key):
        progress("copy", 0, 1)
        found = kept.copy_to(output, key)
        progress("copy", 1, 1)
        if found is not None:
            artifact, report = found
            return artifact, {**report, "compile_s": round(time.perf_counter() - started, 3)}
    compiled = _compile(model=model, output=output, cache=cache, progress=progress, **options)
    report = compiled.report()
    if kept is not None and key is not None:
        kept.keep(key, compiled.artifact, report)
    return compiled.artifact, report


def _compile(
    *,
    model: str,
    output: Path,
    target: str,
    precision: "Precision" = "fp32",
    batch: int,
    shapes: Sequence[str],
    output_name: str | None,
    head: int | None = None,
    update: str,
    optimizer: str,
    loss: str,
    label_smoothing: float | None,
    ignore_index: int | None,
    clip: str | None,
    batch_norm: "Statistics",
    attention: "Attention",
    frozen: "Frozen",
    memory_budget: int | None,
    explore_memory: bool,
    executable: bool | None,
    library: bool | None,
    accumulate: int,
    dropout: bool,
    keep_gradients: bool,
    cache: bool,
    progress: ProgressLine,
    winograd: "Winograd" = "auto",
    **optimizer_options: Any,
) -> "CompiledModel":
    """Import the model that a reference names and compile it; names are checked first."""
    beta1, beta2 = optimizer_options.pop("betas") or (None, None)
    optimizer_options.update(beta1=beta1, beta2=beta2)
    chosen_optimizer = choose(
        "--optimizer", optimizer, OPTIMIZERS, make_optimizer, optimizer_options
    )
    loss_options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index}
    chosen_loss = choose("--loss", loss, LOSSES, make_loss, loss_options)
    clipping = make_clipping(clip) if clip else None

    # TVM and PyTorch take seconds to import: only here, and after what needs neither.
    from pock_tvm.compilation.new_head import with_new_head
    from pock_tvm.compile import compile
    from pock_tvm.targets import get_target
    from pock_tvm.targets.precision import with_precision

    spec = get_target(target)
    with_precision(spec, precision)  # before the import of the model, not after
    progress("import", 0, 1)
    from pock_tvm.frontend import load_model
    from pock_tvm.frontend.shapes import parse_shapes

    imported = load_model(model, batch, shapes=parse_shapes(shapes), output=output_name)
    if head:
        imported = with_new_head(imported, head)
    return compile(
        imported,
        output,
        target=spec,
        precision=precision,
        update=update,
        loss=chosen_loss,
        optimizer=chosen_optimizer,
        clip=clipping,
        batch_norm=batch_norm,
        accumulate=accumulate,
        dropout=dropout,
        attention=attention,
        frozen=frozen,
        winograd=winograd,
        memory_budget=memory_budget,
        explore_memory=explore_memory,
        keep_gradients=keep_gradients,
        executable=executable,
        library=library,
        cache=cache,
        progress=progress,
    )
