"""Which of our own models a file is, by what stands in it."""

import onnx

from fourbit_onnx.errors import GraphError

PRODUCER = "fourbit_onnx"
INFERENCE = "inference"  # the graph of an exported model
_OF_A_FOLDER = ("training", "evaluation", "optimizer", "calibration")

EXPORTED = (
    "it was written by `fourbit export`, in whose models rounding has no gradient; convert the model that it "
    "was made from, or train its folder on (fourbit train FOLDER --resume)"
)


def is_exported(model: onnx.ModelProto) -> bool:
    """Whether ``fourbit export`` wrote ``model``."""
    return bool((model.producer_name, model.graph.name) == (PRODUCER, INFERENCE))


def refuse_a_graph_of_a_folder(model: onnx.ModelProto) -> None:
    """Refuse a graph that ``fourbit convert`` wrote: it has what training adds.

    Raises:
        GraphError: ``model`` is one.
    """
    if model.producer_name == PRODUCER and model.graph.name in _OF_A_FOLDER:
        raise GraphError(
            f"the model is the {model.graph.name} graph of a folder that `fourbit convert` wrote; name the "
            "folder (fourbit inspect FOLDER, fourbit train FOLDER), or the model that it was made from"
        )
