"""How much each site loses by four bits: one site at a time in 4 bits, and one at a time in float32."""

import dataclasses
import glob
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.errors import RecipeError
from fourbit_onnx.passes.load import load
from fourbit_onnx.passes.pipeline import Options, build
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.plan import Plan
from fourbit_onnx.runtime import calibration
from fourbit_onnx.runtime.session import Session, Value, array, value

Array = npt.NDArray[Any]
Batch = Mapping[str, Array]
Progress = Callable[[int, int], None]

MOST = 64  # places that are tried, those with the most multiply-accumulates


def sensitivity(
    model: Path | onnx.ModelProto,
    recipe: str,
    state: Mapping[str, Array],
    batch: Batch,
    evaluation: Sequence[Batch],
    *,
    loss: str = "cross_entropy",
    loss_output: str = "",
    most: int = MOST,
    threads: int | None = None,
    native: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Loss and gradient with single sites in another precision, against the model all in float32.

    Everything is measured at one state, nothing is trained: the weights, running statistics, clips and
    gradient scales of ``state`` go into the other graphs by name; clips that ``state`` does not have (of a
    site that the recipe keeps in float32) are calibrated on ``batch``. Two conversions and two runs a place.
    What a recipe draws is one draw, that of the state's ``random_state``: of a dithered scale, one place of
    the grid.

    Args:
        model: As it was converted.
        recipe: The 4-bit recipe, by a name that `table.find` takes.
        state: ``Trainer.state.tensors`` after training.
        batch: The batch whose gradient is compared: array by name of the model's input or target.
        evaluation: Batches for the loss; more and larger ones give a steadier figure.
        loss: As for `api.convert`.
        loss_output: As for `api.convert`.
        most: Places at most; those with the most multiply-accumulates are taken.
        threads: Threads of each operator; None: one for every processor that this process may use.
        native: Whether to use the native kernels, if the library is there.
        progress: Called with places done and places in all, before the first one too.

    Returns:
        ``recipe``; ``loss``: that in float32; ``all_four_bit``: the figures of the recipe as it is;
        ``sites``: in the order of the model, ``site`` (a group of like sites is one), ``macs``,
        ``four_bit`` (whether the recipe has it in 4 bits), ``only_four_bit``, ``only_high`` (None if the
        recipe keeps the site high anyway); ``left_out``: places beyond ``most``.
        The figures are ``loss_change``: loss minus that in float32; and ``gradient_error``: L2 norm of the
        difference of the whole gradient (clips left out), divided by the norm of that in float32.

    Raises:
        RecipeError: There is no such recipe, or it has nothing in 4 bits.
        GraphError: The model cannot be read or trained.
        TrainingError: An operator refuses a number.
    """
    source = load(model) if isinstance(model, Path) else model
    common = Options(table.find("fp32"), loss=loss, loss_output=loss_output)
    whole = dataclasses.replace(common, recipe=table.find(recipe))

    def measured(options: Options) -> tuple[Plan, _Figures]:
        return _measure(source, options, state, batch, evaluation, threads, native)

    _, reference = measured(common)
    plan, found = measured(whole)
    if not any(site.precision == "4-bit" for site in plan.sites):
        raise RecipeError(f"recipe {recipe!r} has no site of this model in 4 bits; choose another recipe")
    places = _places(plan)
    chosen = sorted(sorted(places.values(), key=lambda place: -place.macs)[:most], key=lambda p: p.number)
    rows = []
    for done, place in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        settings = [(pattern, recipe) for pattern in place.patterns]
        alone_plan, alone = measured(dataclasses.replace(common, settings=settings))
        if not any(site.precision == "4-bit" for site in alone_plan.sites):
            continue  # it can have no 4-bit product
        row: dict[str, Any] = {"site": place.name, "macs": place.macs, "four_bit": place.four_bit}
        row["only_four_bit"] = alone.against(reference)
        row["only_high"] = None
        if place.four_bit:
            _, without = measured(dataclasses.replace(whole, keep=place.patterns))
            row["only_high"] = without.against(reference)
        rows.append(row)
    if progress is not None:
        progress(len(chosen), len(chosen))
    return {
        "recipe": whole.recipe.name,
        "loss": reference.loss,
        "all_four_bit": found.against(reference),
        "sites": rows,
        "left_out": len(places) - len(chosen),
    }


@dataclasses.dataclass
class _Place:
    """A site, or a group of like ones."""

    name: str
    number: int
    macs: int = 0
    four_bit: bool = False
    patterns: list[str] = dataclasses.field(default_factory=list)


def _places(plan: Plan) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for site in plan.sites:
        name = getattr(site, "group", "") or site.name
        place = places.setdefault(name, _Place(name, len(places)))
        place.macs += site.macs
        place.four_bit |= site.precision == "4-bit"
        place.patterns.append(glob.escape(site.name))
    return places


@dataclasses.dataclass(frozen=True)
class _Figures:
    """Mean loss over the evaluation batches; parameter to gradient, the clips left out."""

    loss: float
    gradients: Mapping[str, Array]

    def against(self, other: "_Figures") -> dict[str, float]:
        """The change from ``other`` to this."""
        error = norm = 0.0
        for name, gradient in other.gradients.items():
            exact = gradient.astype(np.float64)
            error += float(np.sum((self.gradients[name] - exact) ** 2))
            norm += float(np.sum(exact**2))
        relative = math.sqrt(error / norm) if norm else float(error > 0)
        return {"loss_change": self.loss - other.loss, "gradient_error": relative}


def _measure(
    model: onnx.ModelProto,
    options: Options,
    state: Mapping[str, Array],
    batch: Batch,
    evaluation: Sequence[Batch],
    threads: int | None,
    native: bool,
) -> tuple[Plan, _Figures]:
    compiled = build(model, options)
    manifest = compiled.manifest
    with tempfile.TemporaryDirectory() as temporary:

        def session(graph: onnx.ModelProto, name: str) -> Session:
            path = Path(temporary) / name
            onnx.save(graph, path)
            return Session(path, threads=threads, native=native)

        values = {name: _value(state.get(name), first) for name, first in compiled.state.items()}
        missing = calibration.missing(manifest, values)
        if missing and compiled.calibration is not None:
            graph = session(compiled.calibration, files.CALIBRATION_MODEL)
            values |= calibration.calibrate(graph, manifest, values, missing, [dict(batch)])
        gradients = {
            name: output for name, output in manifest.gradients.items() if name not in manifest.clips
        }
        training = session(compiled.training, files.TRAINING_MODEL)
        outputs = training.run({**values, **_feeds(batch)}, list(gradients.values()), "sensitivity")
        graph = session(compiled.evaluation, files.EVAL_MODEL)
        total, samples = 0.0, 0
        for part in evaluation:
            count = len(next(iter(part.values())))
            found = graph.run({**values, **_feeds(part)}, [manifest.loss_output], "sensitivity")
            total += count * float(array(found[manifest.loss_output]).reshape(()))
            samples += count
        figures = _Figures(total / samples, {name: array(outputs[o]) for name, o in gradients.items()})
    return compiled.plan, figures


def _value(trained: Array | None, first: npt.NDArray[np.generic]) -> Value:
    """What the state has under this name, if it is of this shape; else the first value."""
    fits = trained is not None and trained.shape == first.shape and trained.dtype == first.dtype
    return value(np.array(trained if fits else first))


def _feeds(batch: Batch) -> dict[str, Value]:
    return {name: value(part) for name, part in batch.items()}
