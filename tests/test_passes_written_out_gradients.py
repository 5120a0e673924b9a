"""Operators that are written out have PyTorch's gradients."""

import numpy as np
import pytest
from graphs import model
from test_passes_written_out import VALUES
from training_graph import batch_of, compiled, gradients, step

P = np.random.default_rng(1).integers(-4, 5, (2, 4, 5, 6)).astype(np.float32)


def torch_gradients(function, arrays):
    """Of the sum of the cubes of what ``function`` gives, by PyTorch in float64."""
    torch = pytest.importorskip("torch")
    tensors = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()
    }
    (function(torch, torch.nn.functional, **tensors) ** 3).sum().backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


# The operator on h = x p, PyTorch's, and what all numbers on the way are multiples of; None: of nothing.
GRADIENTS = {
    "transposed": (
        "y = ConvTranspose <strides = [2, 3], pads = [1, 0, 1, 0], output_padding = [1, 1]> (h, w, b)",
        lambda t, F, p, w, b: F.conv_transpose2d(p, w, b, (2, 3), (1, 0), (1, 1)),
        1,
    ),
    "transposed in groups": (
        "y = ConvTranspose <group = 2, strides = [2, 2], pads = [1, 1, 1, 1]> (h, halves, four)",
        lambda t, F, p, halves, four: F.conv_transpose2d(p, halves, four, 2, 1, 0, 2),
        1,
    ),
    "instances": (
        "y = InstanceNormalization <epsilon = 0.01> (h, scale, bias)",
        lambda t, F, p, scale, bias: F.instance_norm(p, weight=scale, bias=bias, eps=0.01),
        None,
    ),
    "groups": (
        "y = GroupNormalization <num_groups = 2> (h, scale, bias)",
        lambda t, F, p, scale, bias: F.group_norm(p, 2, scale, bias),
        None,
    ),
    "GELU by Tanh": (
        'y = Gelu <approximate = "tanh"> (h)',
        lambda t, F, p: F.gelu(p, approximate="tanh"),
        None,
    ),
    "shuffle": (
        'y = DepthToSpace <blocksize = 2, mode = "CRD"> (h)',
        lambda t, F, p: F.pixel_shuffle(p, 2),
        1,
    ),
    "largest, some of them equal": ("y = ReduceMax (h, area)", lambda t, F, p: p.amax((2, 3)), None),
    "nearest": (
        'y = Resize <mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode ='
        ' "asymmetric"> (h, "", doubled)',
        lambda t, F, p: F.interpolate(p, scale_factor=2, mode="nearest"),
        1,
    ),
    "linear": (
        'y = Resize <mode = "linear"> (h, "", doubled)',
        lambda t, F, p: F.interpolate(p, scale_factor=2, mode="bilinear"),
        1 / 16**3,  # quarters of quarters, and cubes of those
    ),
    "cubic": (
        'y = Resize <mode = "cubic", coordinate_transformation_mode = "align_corners"> (h, "", "", sizes)',
        lambda t, F, p: F.interpolate(p, size=(8, 3), mode="bicubic", align_corners=True),
        None,
    ),
}


@pytest.mark.parametrize(("body", "function", "unit"), GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_are_those_of_pytorch(body, function, unit):
    """To the bit where no sum, even of magnitudes, is beyond 2**24 units.

    Else to 64 * 2**-24 of the largest: norms have three sums of up to 60 terms in a row, so of roundings at
    random some 3 * sqrt(60); the weights of four neighbours are polynomials in float32; elements that are
    equal share by a division.
    """
    values = VALUES | {"p": P}
    whole = f"h = Mul (x, p) {body} s = Mul (y, y) q = Mul (s, y) loss = ReduceSum <keepdims = 0> (q)"
    found = compiled(model("(float[2,4,5,6] x) => (float loss)", whole, values), loss="output")
    outputs = step(found, found.state, batch_of(found, np.ones((2, 4, 5, 6), np.float32)))
    got = gradients(found, outputs)
    expected = torch_gradients(function, {name: values[name] for name in got})
    assert set(got) == {"p"} | (set(VALUES) & set(function.__code__.co_varnames))
    if unit is not None:
        limits = torch_gradients(function, {name: np.abs(values[name]) for name in got})
        assert max(limit.max() for limit in limits.values()) < 2**24 * unit
    for name, gradient in got.items():
        tolerance = 0 if unit is not None else 64 * 2.0**-24 * np.abs(expected[name]).max()
        assert np.abs(gradient - expected[name]).max() <= tolerance, name
