"""The functions behind the public names; each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourbit_onnx.recipes import table

if TYPE_CHECKING:
    import onnx

    from fourbit_onnx.passes.pipeline import Compiled
    from fourbit_onnx.recipes.recipe import Recipe


def convert(
    model: str | Path | onnx.ModelProto,
    output: str | Path,
    *,
    recipe: str | Recipe = table.DEFAULT,
    without: Sequence[str] = (),
    loss: str = "cross_entropy",
    loss_output: str = "",
    optimizer: str = "sgd",
    momentum: float | None = None,
    nesterov: bool = False,
    weight_decay: float = 1e-4,
    clip_decay: float = 0.0,
    max_norm: float = 0.0,
    keep: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
    freeze: Sequence[str] = (),
    initial_clip: float = 0.0,
    recompute: str = "none",
    overwrite: bool = False,
) -> Compiled:
    """Make a float32 ONNX model ready to be trained by a recipe, and write the artifact folder.

    Args:
        model: A file, or a model in memory.
        output: The folder; it must not exist, unless ``overwrite`` and it is an artifact folder.
        recipe: A name of ``fourbit_onnx.recipes.table``, the path of a TOML file, or a recipe of your own;
            ``auto``: the one that docs/accuracy.md names for models like this one.
        without: Techniques of the recipe to switch off: ``fourbit_onnx.recipes.techniques``.
        loss: ``cross_entropy`` (int64 labels), ``mse``, ``l1``, ``bce_with_logits``; or ``output``: the
            model has a scalar output that is its loss.
        loss_output: The output that the loss reads; "" for the first.
        optimizer: ``sgd`` or ``adamw``.
        momentum: SGD only; so is ``nesterov``. None: 0.9.
        nesterov: Whether SGD looks ahead.
        weight_decay: For tensors of two or more dimensions.
        clip_decay: For the PACT clips.
        max_norm: Largest global L2 norm of the gradients; 0 for no limit.
        keep: Patterns (``*``, ``?``) of node or weight names whose products stay in float32.
        settings: (pattern, recipe name) for single products; the last that fits decides.
        freeze: Patterns of weight names that are not trained.
        initial_clip: First value of the PACT clips; 0: calibrated on the first batches.
        recompute: Which inputs of batch normalisation the backward pass computes again, instead of keeping
            them: ``none``, ``cheap`` (sums of few terms, which free most for their time) or ``all``. Less
            memory and the same bits, in more time. No change for ``fp32`` and ``fp16``.
        overwrite: Replace an artifact folder.

    Returns:
        The four graphs, the manifest, the plan and the first state.

    Raises:
        GraphError: The model cannot be read, or not be trained.
        RecipeError: A recipe, pattern, optimiser setting or form of ``recompute`` does not exist.
        ArtifactError: The folder exists, or cannot be written.
    """
    from fourbit_onnx.passes.choose_recipe import resolve
    from fourbit_onnx.passes.convert import convert as write
    from fourbit_onnx.passes.optimizer import Optimizer
    from fourbit_onnx.passes.pipeline import Options
    from fourbit_onnx.recipes.recipe import patterns

    source = Path(model) if isinstance(model, (str, Path)) else model
    chosen = table.find(resolve(recipe, lambda: source)[0]) if isinstance(recipe, str) else recipe
    for technique in without:
        chosen = chosen.without(technique)
    options = Options(
        recipe=chosen,
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
        keep=patterns("keep", keep),
        settings=tuple(settings),
        freeze=patterns("freeze", freeze),
        initial_clip=initial_clip,
        recompute=recompute,
    )
    return write(source, Path(output), options, overwrite=overwrite)


def export(
    folder: str | Path, output: str | Path, *, weights: str = "int4", overwrite: bool = False
) -> onnx.ModelProto:
    """Write the trained model of an artifact folder for any onnxruntime, without our library.

    Args:
        folder: The artifact folder; its checkpoint is used.
        output: The model file; it must not exist, unless ``overwrite`` and it is a model that was exported
            before.
        weights: ``int4`` (initialisers of 4 bits and DequantizeLinear), ``int8`` (the same codes in bytes,
            for runtimes without INT4), or ``float`` (the quantised values in float32).
        overwrite: Replace an exported model.

    Returns:
        The model that was written.

    Raises:
        ArtifactError: The folder cannot be used, or the file exists or cannot be written.
    """
    from fourbit_onnx.runtime.export import export as write

    return write(Path(folder), Path(output), weights=weights, overwrite=overwrite)


def check(
    subject: str | Path,
    output: str | Path,
    *,
    recipes: Sequence[str | Recipe] = ("fp16", table.DEFAULT),
    without: Sequence[str] = (),
    seeds: int = 5,
    first_seed: int = 0,
    data: str | Path | None = None,
    evaluation: str | Path | None = None,
    keys: Mapping[str, str] | None = None,
    loss: str | None = None,
    keep: Sequence[str] = (),
    model: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    budget: float | None = None,
    jobs: int | None = None,
    observe: str = "first",
    sensitivity: bool = False,
    force: bool = False,
    progress: bool = False,
    command: str = "",
    **settings: Any,
) -> dict[str, Any]:
    """Train every recipe with every seed, from the same weights and data order, and compare with FP16.

    Runs are processes of one thread each. Runs that are finished in ``output`` are not repeated, those under
    way are continued; more seeds and recipes may be added.

    Args:
        subject: A task of ``fourbit_onnx.harness.tasks``, or an ONNX file (then ``data`` is needed).
        output: The folder for all files; ``report.json`` and ``report.html`` are the result.
        recipes: Names, paths of TOML files, ``auto`` or `Recipe`, as for `convert`; ``fp16`` joins them.
        without: Techniques; every recipe that has one is tried without it, too, as ``RECIPE~TECHNIQUE``.
        seeds: Runs of every recipe.
        first_seed: Their seeds are this number and those that follow.
        data: For a model file: what to train on.
        evaluation: For a model file: what to test on; None: the test part of ``data``, else a fifth of it.
        keys: For a model file: model input to array of the data.
        loss: For a model file: as for `convert`; None: ``cross_entropy``.
        keep: As for `convert`.
        model: For a task: another reference model.
        model_options: For a task: what its builder gets, beside what the data decides and, for the task's
            own model, what the task has.
        budget: Seconds; no seed is begun that would not end in time. None: no limit.
        jobs: Runs at a time; None: one a processor.
        observe: Whose quantisers are measured during training: ``first`` seed, ``all``, ``none``.
        sensitivity: Whether to try the sites one by one at the end, with the first 4-bit recipe: which of
            them lose by 4 bits.
        force: Replace a check of other settings.
        progress: Whether to show the progress on stderr.
        command: How the check is called in the report.
        settings: Fields of `harness.tasks.Task` to change: ``epochs``, ``batch_size``, ``optimizer``,
            ``learning_rate``, ``schedule``, ``warmup``, ``weight_decay``, ``clip_decay``, ``max_norm``,
            ``margin``, ``metric``; None is no change.

    Returns:
        What ``report.json`` holds.

    Raises:
        FourbitError: Task, model, data or recipe does not exist or will not do; the folder is of other
            settings; SciPy is not installed.
        KeyboardInterrupt: Ctrl-C; everything is saved, the same call goes on.
    """
    from fourbit_onnx.harness import check as harness
    from fourbit_onnx.harness import display, subjects

    experiment = subjects.experiment(
        str(subject),
        data=None if data is None else str(data),
        evaluation=None if evaluation is None else str(evaluation),
        keys=keys or {},
        model=model,
        settings=settings,
        loss=loss,
        keep=keep,
        first_seed=first_seed,
        model_options=model_options,
    )
    with display.shown(experiment.task.metric, progress) as bars:
        return harness.Check(
            experiment,
            recipes,
            seeds,
            Path(output),
            without=without,
            budget=budget,
            jobs=jobs,
            observe=observe,
            sensitivity=sensitivity,
            force=force,
            command=command or "fourbit_onnx.check",
            display=bars,
        ).run()
