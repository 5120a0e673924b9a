"""Einsum of two operands is one product of matrices: the same numbers, PyTorch's gradients, a site."""

import numpy as np
import pytest
from graphs import check, exact, graph, model, run
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.pipeline import inferred
from fourbit_onnx.passes.plain_einsum import plain_einsum

SIZES = {"b": 2, "i": 3, "j": 4, "k": 5, "h": 2, "e": 3}
EQUATIONS = (
    "bij,bkj->bik", "bij,bjk", "bi,bj->bij", "bhik,bhjk->bhij", "bij,jk->bik", "ij,bjk->kbi", "bi,i->b",
    "bijk,bjk->bi", "ebi,ihe->hbe", "bihk, bjhk -> bhij", "i,j->ij", "bi,bi->bi",
    "ij,jkh->khi", "bij,bjk->kbi", "jie,jkh",  # turned by three; in the order of the alphabet
)  # fmt: skip
NO_SUMS = ("bi,bj->bij", "i,j->ij", "bi,bi->bi")


def operands(equation):
    rng = np.random.default_rng(0)
    inputs = equation.replace(" ", "").split("->")[0].split(",")
    return [rng.integers(-8, 9, [SIZES[c] for c in letters]).astype(np.float32) for letters in inputs]


def shape(array):
    return ",".join(map(str, array.shape))


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_same_numbers(equation, unknown):
    """Sums of at most 20 products of small integers: exact in any order."""
    x, w = operands(equation)
    first = shape(x).replace("2", "N", 1) if unknown and equation.startswith("b") else shape(x)
    body = f'[e] y = Einsum <equation = "{equation}"> (x, w)'
    g = graph(f"(float[{first}] x) => (y)", body, {"w": w}, infer=True)
    assert plain_einsum(g) == 1
    [product] = [node.op for node in g.nodes if node.name == "e"]
    assert product == ("Mul" if equation in NO_SUMS else "MatMul")
    g = inferred(g)
    check(g)
    np.testing.assert_array_equal(run(g, {"x": x})["y"], np.einsum(equation, x, w))
    assert plain_einsum(g) == 0


LEFT_ALONE = {
    "one operand": 'y = Einsum <equation = "ij->ji"> (x)',
    "no equation": "y = Einsum (x, x)",
    "three": 'y = Einsum <equation = "ij,ij,ij->ij"> (x, x, x)',
    "an ellipsis": 'y = Einsum <equation = "...j,ij->i"> (x, x)',
    "a diagonal": 'y = Einsum <equation = "ii,ij->ij"> (x, x)',
    "a letter that is summed alone": 'y = Einsum <equation = "ij,jk->i"> (x, x)',
    "another domain": 'y = other.Einsum <equation = "ij,jk->ik"> (x, x)',
    "a size of one, stretched": 'y = Einsum <equation = "ij,jk->ik"> (x, one)',
    "integers": 'h = Cast <to = 7> (x) y = Einsum <equation = "ij,jk->ik"> (h, h)',
    "another rank": 'y = Einsum <equation = "i,ij->j"> (x, x)',
    "an unknown rank": 'h = other.Op (x) y = Einsum <equation = "ij,jk->ik"> (h, h)',
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(body):
    g = graph("(float[3,3] x) => (y)", body, {"one": np.ones((1, 3), np.float32)}, infer=True)
    before = exact(g)
    assert plain_einsum(g) == 0
    assert exact(g) == before


def test_two_sizes_that_are_not_known_are_left_alone():
    """Reshape finds one."""
    g = graph("(float[N,M,3] x) => (y)", 'y = Einsum <equation = "bij,kj->bik"> (x, w)',
              {"w": np.ones((2, 3), np.float32)}, infer=True)  # fmt: skip
    before = exact(g)
    assert plain_einsum(g) == 0
    assert exact(g) == before


@pytest.mark.parametrize("equation", EQUATIONS)
def test_gradients_are_those_of_pytorch(equation):
    """To the bit: even the sums of magnitudes are integers below 2**24."""
    torch = pytest.importorskip("torch")
    p, w = operands(equation)
    body = f'h = Mul (x, p) y = Einsum <equation = "{equation}"> (h, w) s = Mul (y, y)'
    body += " q = Mul (s, y) loss = ReduceSum <keepdims = 0> (q)"
    proto = model(f"(float[{shape(p)}] x) => (float loss)", body, {"p": p, "w": w})
    found = compiled(proto, loss="output")
    got = gradients(found, step(found, found.state, batch_of(found, np.ones_like(p))))

    def of_cubes(*arrays):
        tensors = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
        (torch.einsum(equation, *tensors) ** 3).sum().backward()
        return [tensor.grad.numpy() for tensor in tensors]

    assert max(limit.max() for limit in of_cubes(np.abs(p), np.abs(w))) < 2**24
    for name, expected in zip("pw", of_cubes(p, w), strict=True):
        np.testing.assert_array_equal(got[name], expected, name)
