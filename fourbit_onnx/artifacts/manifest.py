"""``manifest.json``: what every input and output of the artifact graphs is for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from fourbit_onnx.artifacts import digests
from fourbit_onnx.errors import ArtifactError

VERSION = 1

TRAINING_MODEL = "training_model.onnx"
EVAL_MODEL = "eval_model.onnx"
OPTIMIZER_MODEL = "optimizer_model.onnx"
CALIBRATION_MODEL = "calibration_model.onnx"
GRAPHS = (TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL, CALIBRATION_MODEL)
PLAN = "plan.json"
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The roles of the inputs and outputs; all names are names in the graphs.

    Attributes:
        version: Version of this file's layout.
        recipe: Name of the recipe that made the graphs.
        loss: ``cross_entropy``, ``mse``, ``bce_with_logits``, ``l1`` or ``output``.
        optimizer: ``sgd`` or ``adamw``.
        inputs: The data inputs of the model, in its order.
        targets: The label inputs; empty when the loss is an output of the model.
        outputs: The model's own outputs, in ``eval_model.onnx``.
        metrics: Metric name to output; scalars, means over the batch, in both graphs.
        loss_output: The output that holds the loss, a float32 scalar.
        parameters: Trained tensors, PACT clips included.
        gradients: Parameter to output of ``training_model.onnx``.
        clips: PACT clip to output of ``calibration_model.onnx``.
        frozen: Float tensors that are not trained, inputs all the same.
        buffers: Running statistics, input to output of ``training_model.onnx``.
        quantizer_state: Gradient scales and loss scale, input to output of ``training_model.onnx``.
        moments: State of the optimiser, input to output of ``optimizer_model.onnx``.
        updates: Parameter to output of ``optimizer_model.onnx``.
        recomputed: How many inputs of batch normalisation the backward pass computes again.
        skip: Boolean output of the training graph, input of the optimiser: false skips the step; "" if none.
        sha256: File to the digest of its bytes, `MANIFEST` to that of the other fields; what is not named,
            or has "", is not checked.
    """

    recipe: str
    loss: str
    optimizer: str
    inputs: list[str]
    targets: list[str]
    outputs: list[str]
    metrics: dict[str, str]
    parameters: list[str]
    gradients: dict[str, str]
    updates: dict[str, str]
    moments: dict[str, str]
    clips: dict[str, str] = dataclasses.field(default_factory=dict)
    frozen: list[str] = dataclasses.field(default_factory=list)
    buffers: dict[str, str] = dataclasses.field(default_factory=dict)
    quantizer_state: dict[str, str] = dataclasses.field(default_factory=dict)
    loss_output: str = "loss"
    recomputed: int = 0
    skip: str = ""
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = VERSION

    def to_json(self) -> str:
        """The manifest as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def produced(self) -> dict[str, list[str]]:
        """Graph to the outputs that it must have."""
        numbers = [self.loss_output, *self.metrics.values()]
        carried = {**self.buffers, **self.quantizer_state}.values()
        skip = [self.skip] if self.skip else []
        return {
            TRAINING_MODEL: [*numbers, *self.gradients.values(), *carried, *skip],
            EVAL_MODEL: [*numbers, *self.outputs],
            OPTIMIZER_MODEL: [*self.updates.values(), *self.moments.values()],
            CALIBRATION_MODEL: [*self.clips.values()],
        }

    def state(self) -> list[str]:
        """What a checkpoint must have."""
        first = [*self.parameters, *self.clips, *self.frozen]
        return [*first, *self.buffers, *self.quantizer_state, *self.moments]


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, with digests of the graphs, which are in the folder already, and of itself.

    Raises:
        OSError: It cannot be written.
    """
    found = {name: digests.of_file(folder / name) for name in GRAPHS if (folder / name).exists()}
    found[MANIFEST] = _own_digest(dataclasses.asdict(manifest))
    text = dataclasses.replace(manifest, sha256=found).to_json()
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest of an artifact folder, whose graphs are those that it was written with.

    Raises:
        ArtifactError: There is none, or it is damaged, or of another version; or a graph is another one.
    """
    path = folder / MANIFEST
    restore = copied(MANIFEST)
    remedy = f"make the folder again, without its training, with: fourbit convert MODEL -o {folder} --force"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{folder} is not an artifact folder (no readable {MANIFEST}); name one that fourbit convert "
            "made, or make one in a new place: fourbit convert MODEL -o NEW"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {restore}") from error
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        found = fields.get("version") if isinstance(fields, dict) else None
        if type(found) is int and found > VERSION:
            remedy = "update fourbit_onnx"
        raise ArtifactError(f"{path} has version {found!r}, this is for version {VERSION}; {remedy}")
    known = {field.name for field in dataclasses.fields(Manifest)}
    for field in dataclasses.fields(Manifest):
        if field.name in fields and not _fits(fields[field.name], field.type):
            raise ArtifactError(f"{path} is damaged ({field.name!r} has another type); {restore}")
    _check_digests(folder, fields)
    if set(fields.get("updates") or ()) != set(fields.get("parameters") or ()):
        raise ArtifactError(f"{path} is damaged (parameters and updates differ); {restore}")
    if set(fields.get("parameters") or ()) - set(fields.get("gradients") or ()):
        raise ArtifactError(f"{path} is damaged (a parameter has no gradient); {restore}")
    try:
        return Manifest(**{name: value for name, value in fields.items() if name in known})
    except TypeError as error:
        raise ArtifactError(f"{path} is damaged ({error}); {restore}") from error


def copied(name: str) -> str:
    """The remedy for a file of the folder that is damaged, its training kept."""
    return (
        f"make it again with fourbit convert MODEL -o NEW and the options of before, and copy NEW/{name} "
        f"here (the training in {CHECKPOINT}/ is kept)"
    )


def _fits(value: object, kind: object) -> bool:
    """Whether a value read from JSON has the type of its field."""
    if kind in (int, str):
        return type(value) is kind
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [None]
    container = dict if kind == dict[str, str] else list
    return isinstance(value, container) and all(isinstance(item, str) for item in items)


def _own_digest(fields: dict[str, Any]) -> str:
    return digests.of_fields({name: value for name, value in fields.items() if name != "sha256"})


def _check_digests(folder: Path, fields: dict[str, Any]) -> None:
    for name, digest in fields.get("sha256", {}).items():
        path = folder / name
        if name not in (*GRAPHS, MANIFEST):
            raise ArtifactError(f"{folder / MANIFEST} is damaged (no file {name!r}); {copied(MANIFEST)}")
        try:
            found = _own_digest(fields) if name == MANIFEST else digests.of_file(path)
        except OSError as error:
            raise ArtifactError(
                f"{path} cannot be read ({error.strerror or error}); {copied(name)}"
            ) from error
        if digest and found != digest:
            raise ArtifactError(
                f"{path} is not what was converted: its SHA-256 is not the one in {MANIFEST}; {copied(name)}"
                '; if you changed it yourself, put "" for that SHA-256'
            )
