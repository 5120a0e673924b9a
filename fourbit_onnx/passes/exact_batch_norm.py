"""Batch normalisation of ONNX Runtime  →  ``ai.fourbit.BatchNorm``, whose sums no order can change."""

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.text import DOMAIN

_RUNTIME = "com.microsoft"


def exact_batch_norm(graph: gs.Graph) -> int:
    """Replace batch normalisation in training, and its gradient, by our own operators.

    ============  ==========================================================================================
    before        ``y, new_mean, new_var, mean, inv_std = BatchNormInternal(x, gamma, beta, ...)``
                  ``dx, dgamma, dbeta = BatchNormalizationGrad(dy, x, gamma, mean, inv_std)``
    after         ``ai.fourbit.BatchNorm`` and ``ai.fourbit.BatchNormGrad``, with the same inputs and outputs
    leaves alone  normalisation by running statistics; a gradient by statistics that are not of the batch
    ============  ==========================================================================================

    ONNX Runtime's sums depend on the number of threads, in the last bits. So results change there.
    """
    count = 0
    for node in graph.nodes:
        if (node.domain, node.op) != (_RUNTIME, "BatchNormInternal") or not node.attrs.get("training_mode"):
            continue
        for output in node.outputs[3:]:
            for reader in output.outputs:
                if (reader.domain, reader.op) == (_RUNTIME, "BatchNormalizationGrad"):
                    reader.domain, reader.op, reader.attrs = DOMAIN, "BatchNormGrad", {}
        node.domain, node.op = DOMAIN, "BatchNorm"
        node.attrs = {key: node.attrs[key] for key in ("epsilon", "momentum") if key in node.attrs}
        count += 1
    return count
