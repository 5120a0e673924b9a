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


def test_inputs_of_a_run_into_given_memory_are_given_back(tmp_path):
    """The outputs do not keep them."""
    session = doubling(tmp_path / "a.onnx")
    first = value(np.arange(SIZE, dtype=np.float32))
    x = session.run({"x": first}, ["y"])["y"]
    place = x.data_ptr()
    y = session.run({"x": x}, ["y"], places={"y": value(np.empty(SIZE, np.float32))})["y"]
    del x
    assert session.run({"x": first}, ["y"])["y"].data_ptr() == place
    assert np.array_equal(y.numpy(), 4 * first.numpy())


PLACES = """
import sys
import numpy as np
from onnx import TensorProto, helper, save
from fourbit_onnx.harness.bench.memory import resident
from fourbit_onnx.runtime.session import Session, value
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
def session(length):  # a chain of so many nodes
    names = "xabcdefg"[:length] + "y"
    nodes = [helper.make_node("Neg", [one], [other]) for one, other in zip(names, names[1:])]
    graph = helper.make_graph(nodes, "chain", [x], [y])
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), sys.argv[1])
    return Session(sys.argv[1], threads=1)
size = 4_000_000
numbers = np.ones(size, np.float32)
one = session(1)
def run(n):
    return one.run({"x": value(numbers[:n])}, ["y"])["y"]
place = run(size).data_ptr()
parts = [run(size * share // 16) for share in (10, 5)]
print(all(place <= part.data_ptr() < place + 4 * size for part in parts))
chain, taken = session(8), []
for _ in range(2):
    chain.run({"x": value(numbers)}, ["y"])
    taken.append(resident())
print(taken[1] - taken[0] < 1 << 20)
"""


def test_memory_that_was_given_back_is_enough(tmp_path):
    """Two tensors lie where one lay that was as long; and a second run takes no more than the first."""
    line = [sys.executable, "-c", PLACES, str(tmp_path / "chain.onnx")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True\nTrue\n", 0), done.stderr


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
