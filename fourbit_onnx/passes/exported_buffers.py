"""What PyTorch's newer exporter says of a model's tables, in the metadata: which are no parameters."""

import re
from collections.abc import Iterable

import onnx

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_KINDS = ("BUFFER", "CONSTANT_TENSOR")  # of the module, or written in its code: torch.tensor([0.5, 0.4, 0.3])
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_PARAMETER = re.compile(r"PARAMETER target='([^']*)'")
_FOLDED = "pkg.onnxscript.optimizer.folded_from"  # the names of all that went into it, as Python's list
_NAME = re.compile(r"'([^']*)'")


def exported_buffers(model: onnx.ModelProto) -> set[str]:
    """The names of initialisers that are buffers, or constants of the code, or computed from such alone.

    Empty for a model of another exporter.
    """
    signature = _entries(model.graph.metadata_props).get(_SIGNATURE, "")
    parameters = set(_PARAMETER.findall(signature))
    found = set()
    for info in [*model.graph.value_info, *model.graph.input]:
        entries = _entries(info.metadata_props)
        sources = _NAME.findall(entries.get(_FOLDED, ""))
        # Of ``conv.weight`` its optimiser also makes ``conv.weight_bias``, of which it says nothing.
        folded = sources and signature and not any(_made_of(name, parameters) for name in sources)
        if entries.get(_KIND) in _KINDS or folded:
            found.add(info.name)
    return found


def _made_of(name: str, parameters: set[str]) -> bool:
    begins = (name[: match.start()] for match in re.finditer("_", name))
    return name in parameters or any(begin in parameters for begin in begins)


def _entries(props: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    return {entry.key: entry.value for entry in props}
