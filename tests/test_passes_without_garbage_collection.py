"""The collector rests while graphs are built, and only then."""

import gc

import pytest

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models import registry
from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.without_garbage_collection import without_garbage_collection
from fourbit_onnx.recipes import table


@pytest.mark.parametrize("before", [True, False])
def test_afterwards_it_is_as_before(before):
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(GraphError, match=r"^enabled: False$"), without_garbage_collection():
            raise GraphError(f"enabled: {gc.isenabled()}")
        assert gc.isenabled() == before
    finally:
        (gc.enable if was else gc.disable)()


def test_it_does_not_run_while_a_graph_is_built(monkeypatch):
    enabled = []

    def look(*given):
        enabled.append(gc.isenabled())
        return finish(*given)

    finish = pipeline.finish
    monkeypatch.setattr(pipeline, "finish", look)
    assert gc.isenabled()
    pipeline.build(registry.build("mlp"), pipeline.Options(table.find("ibm2020")))
    assert enabled == [False] * 3  # evaluation, training, calibration
    assert gc.isenabled()
