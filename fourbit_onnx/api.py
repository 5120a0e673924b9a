"""The functions behind the public names; each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from fourbit_onnx.passes.pipeline import Compiled
    from fourbit_onnx.recipes.recipe import Recipe


def convert(
    model: str | Path | onnx.ModelProto,
    output: str | Path,
    *,
    recipe: str | Recipe = "ibm2020",
    loss: str = "cross_entropy",
    loss_output: str = "",
    optimizer: str = "sgd",
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 1e-4,
    clip_decay: float = 1e-3,
    max_norm: float = 0.0,
    keep: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
    freeze: Sequence[str] = (),
    initial_clip: float = 0.0,
    overwrite: bool = False,
) -> Compiled:
    """Make a float32 ONNX model ready to be trained by a recipe, and write the artifact folder.

    Args:
        model: A file, or a model in memory.
        output: The folder; it must not exist, unless ``overwrite`` and it is an artifact folder.
        recipe: A name of ``fourbit_onnx.recipes.table``, or a recipe of your own.
        loss: ``cross_entropy`` (int64 labels), ``mse``, ``l1``, ``bce_with_logits``; or ``output``: the
            model has a scalar output that is its loss.
        loss_output: The output that the loss reads; "" for the first.
        optimizer: ``sgd`` or ``adamw``.
        momentum: SGD only; so is ``nesterov``.
        nesterov: Whether SGD looks ahead.
        weight_decay: For tensors of two or more dimensions.
        clip_decay: For the PACT clips.
        max_norm: Largest global L2 norm of the gradients; 0 for no limit.
        keep: Patterns (``*``, ``?``) of node or weight names whose products stay in float32.
        settings: (pattern, recipe name) for single products; the last that fits decides.
        freeze: Patterns of weight names that are not trained.
        initial_clip: First value of the PACT clips; 0: calibrated on the first batches.
        overwrite: Replace an artifact folder.

    Returns:
        The four graphs, the manifest, the plan and the first state.

    Raises:
        GraphError: The model cannot be read, or not be trained.
        RecipeError: A recipe, pattern or optimiser setting does not exist.
        ArtifactError: The folder exists, or cannot be written.
    """
    from fourbit_onnx.passes.convert import convert as write
    from fourbit_onnx.passes.optimizer import Optimizer
    from fourbit_onnx.passes.pipeline import Options
    from fourbit_onnx.recipes import table

    options = Options(
        recipe=table.find(recipe) if isinstance(recipe, str) else recipe,
        loss=loss,
        loss_output=loss_output,
        optimizer=Optimizer(
            optimizer,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            clip_decay=clip_decay,
            max_norm=max_norm,
        ),
        keep=tuple(keep),
        settings=tuple(settings),
        freeze=tuple(freeze),
        initial_clip=initial_clip,
    )
    source = Path(model) if isinstance(model, (str, Path)) else model
    return write(source, Path(output), options, overwrite=overwrite)


def export(folder: str | Path, output: str | Path, *, weights: str = "int4") -> onnx.ModelProto:
    """Write the trained model of an artifact folder for any onnxruntime, without our library.

    Args:
        folder: The artifact folder; its checkpoint is used.
        output: The model file.
        weights: ``int4`` (initialisers of 4 bits and DequantizeLinear), ``int8`` (the same codes in bytes,
            for runtimes without INT4), or ``float`` (the quantised values in float32).

    Returns:
        The model that was written.

    Raises:
        ArtifactError: The folder or the file cannot be used.
    """
    from fourbit_onnx.runtime.export import export as write

    return write(Path(folder), Path(output), weights=weights)
