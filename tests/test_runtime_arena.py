"""All sessions have one arena: what one gives back, another takes."""

import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

from fourbit_onnx.runtime.session import Session, value

SIZE = 3_000_017  # elements: too many for a chunk that happens to be free


def doubling(path):
    shape = [SIZE]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return Session(path, threads=1)


def test_a_session_takes_what_another_gave_back(tmp_path):
    first, second = doubling(tmp_path / "a.onnx"), doubling(tmp_path / "b.onnx")
    x = value(np.arange(SIZE, dtype=np.float32))
    given = first.run({"x": x}, ["y"])
    place = given["y"].data_ptr()
    del given
    assert second.run({"x": x}, ["y"])["y"].data_ptr() == place  # and `first` is still there


OWN = """
import onnxruntime as ort
memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(memory, None)
from fourbit_onnx.runtime.session import session_options
options = [session_options(1) for _ in range(2)]
print([o.get_session_config_entry("session.use_env_allocators") for o in options])
"""


def test_a_program_may_have_registered_an_arena_of_its_own():
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("['1', '1']\n", 0), done.stderr
