"""Equal quantisers of one tensor become one."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import replace_for_readers
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink

_SHARED = tuple(
    name for name in FUNCTIONS if name.startswith("Quantize") or name.endswith(("Scale", "Hadamard"))
)


def share_quantizers(graph: gs.Graph) -> int:
    """Merge nodes that quantise the same tensor in the same way.

    ============  ===============================================================
    before        ``a = QuantizePact(x, clip);  b = QuantizePact(x, clip)``
    after         ``a = QuantizePact(x, clip)``, and readers of ``b`` read ``a``; it has the outputs of both
    leaves alone  another scale, clip, phase or tensor; a node with a graph output
    ============  ===============================================================
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    first: dict[tuple[object, ...], gs.Node] = {}
    count = 0
    for node in graph.nodes:  # in topological order, so that merged scales merge their readers too
        if node.domain != DOMAIN or node.op not in _SHARED:
            continue
        key = (node.op, tuple(id(tensor) for tensor in node.inputs), repr(sorted(node.attrs.items())))
        kept = first.setdefault(key, node)
        if kept is node or any(id(tensor) in outputs for tensor in node.outputs):
            continue
        for place, (old, new) in enumerate(zip(node.outputs, kept.outputs, strict=True)):
            if new.is_empty():  # what the first was not asked for
                node.outputs[place], kept.outputs[place] = new, old
            else:
                replace_for_readers(old, new)
        unlink(node)
        count += 1
    if count:
        tidy(graph)
    return count
