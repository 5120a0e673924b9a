"""The process of a PyTorch contestant, as fourbit_onnx/harness/bench/child.py.

python benchmarks/torch_child.py fp32|bf16|fake MODEL.onnx OPTIONS BATCH.npz THREADS
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from fourbit_onnx.harness.bench.child import RATE, serve

MOMENTUM, DECAY = 0.9, 1e-4


def prepare(
    mode: str, model: Path, options: dict[str, object], batch: Path, threads: int
) -> Callable[[], tuple[float, bool]]:
    """The function that runs one step: forward, backward, update."""
    import torch
    from torch.nn import functional
    from torch_fake import fake
    from torch_twins import build

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    name = str(options.pop("model"))
    network = build(name, options, onnx.load(model))
    if mode == "fake":
        network = fake(network)
    with np.load(batch) as arrays:
        x, labels = (torch.from_numpy(array) for array in arrays.values())
    if x.ndim == 4:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others}],
        lr=RATE,
        momentum=MOMENTUM,
        fused=True,
    )

    def step() -> tuple[float, bool]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            scores = network(x)
        scores = scores.float().flatten(0, -2)
        loss = functional.cross_entropy(scores, labels.flatten())
        loss.backward()
        optimizer.step()
        return float(loss.detach()), False

    return step


if __name__ == "__main__":
    kind, path, settings, data, count = sys.argv[1:]
    serve(lambda: prepare(kind, Path(path), json.loads(settings), Path(data), int(count)))
