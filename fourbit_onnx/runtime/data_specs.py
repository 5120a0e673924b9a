"""What the data must look like, from the graphs of the artifact folder."""

import dataclasses

from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.runtime.session import Session


def data_specs(manifest: Manifest, training: Session, evaluation: Session) -> dict[str, Spec]:
    """Name to spec of inputs and targets, in the order of a tuple of arrays.

    Raises:
        ArtifactError: The manifest names an input that no graph has.
    """
    specs = {}
    for name in [*manifest.inputs, *manifest.targets]:
        spec = training.inputs.get(name) or evaluation.inputs.get(name)
        if spec is None or not spec.shape:
            raise ArtifactError(
                f"the manifest's {name!r} is no input with a batch axis; make the folder again with "
                "fourbit convert"
            )
        specs[name] = spec
    for name in manifest.targets:
        if manifest.loss == "cross_entropy":
            classes = _classes(manifest, evaluation, specs[name])
            specs[name] = dataclasses.replace(specs[name], classes=classes)
        elif manifest.loss == "bce_with_logits":
            specs[name] = dataclasses.replace(specs[name], unit=True)
    return specs


def fixed_batch(specs: dict[str, Spec]) -> int | None:
    """The batch size that the graph insists on; None if any will do."""
    return next((spec.shape[0] for spec in specs.values() if isinstance(spec.shape[0], int)), None)


def _classes(manifest: Manifest, evaluation: Session, labels: Spec) -> int | None:
    """The number of classes: axis 1 of the scores, but the last of (batch, position, class).

    ONNX Runtime does not check labels (it reads beyond the scores). Where several outputs could be the
    scores, the largest number is taken, so that no good label is refused.
    """
    found = []
    for output in manifest.outputs:
        shape = evaluation.outputs[output].shape if output in evaluation.outputs else ()
        if len(shape) == len(labels.shape) + 1:
            size = shape[2] if len(shape) == 3 else shape[1]
            found += [size] if isinstance(size, int) else []
    return max(found, default=None)
