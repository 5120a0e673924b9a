"""Inputs and attributes of the convolution and its gradients, from one geometry."""

import numpy as np
from native import INT4, LOG4, UINT4, codes

SA, SB = np.float32(0.37), np.float32(0.0113)


TWO_PHASE = ("QConvInputGradTwoPhase", "QConvWeightGradTwoPhase")
OPS = ("QConv", "QConvInputGrad", "QConvWeightGrad", *TWO_PHASE)


def convolutions(geometry, zx=0, zw=0, *, ops=OPS, seed=0):
    batch, channels, filters, spatial, kernel, strides, pads, dilations, group = geometry
    rng = np.random.default_rng(seed)
    rank = len(spatial)
    out = [
        (spatial[d] + pads[d] + pads[d + rank] - dilations[d] * (kernel[d] - 1) - 1) // strides[d] + 1
        for d in range(rank)
    ]
    x_type, x_values = ("uint4", UINT4) if zx == 0 else ("int4", INT4)
    x, w = (
        codes(rng, (batch, channels, *spatial), x_type, -8),
        codes(rng, (filters, channels // group, *kernel), "int4", -8),
    )
    dy = codes(rng, (batch, filters, *out), "uint4")
    odd = codes(rng, dy.array.shape, "uint4")  # any pairs: more than a quantiser gives
    shared = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    cases = {
        "QConv": (
            {
                "x": x,
                "x_scale": SA,
                "x_zero_point": np.int32(zx),
                "w": w,
                "w_scale": SB,
                "w_zero_point": np.int32(zw),
            },
            {"x_values": x_values, "w_values": INT4},
        ),
        "QConvInputGrad": (
            {
                "dy": dy,
                "dy_scale": SA,
                "w": w,
                "w_scale": SB,
                "w_zero_point": np.int32(zw),
                "x_shape": np.array([batch, channels, *spatial]),
            },
            {"dy_values": LOG4, "w_values": INT4},
        ),
        "QConvWeightGrad": (
            {
                "x": x,
                "x_scale": SA,
                "x_zero_point": np.int32(zx),
                "dy": dy,
                "dy_scale": SB,
                "w_shape": np.array([filters, channels // group, *kernel]),
            },
            {"x_values": x_values, "dy_values": LOG4},
        ),
        "QConvInputGradTwoPhase": (
            {
                "dy_even": dy,
                "dy_odd": odd,
                "dy_scale": SA,
                "w": w,
                "w_scale": SB,
                "w_zero_point": np.int32(zw),
                "x_shape": np.array([batch, channels, *spatial]),
            },
            {"w_values": INT4},
        ),
        "QConvWeightGradTwoPhase": (
            {
                "x": x,
                "x_scale": SA,
                "x_zero_point": np.int32(zx),
                "dy_even": dy,
                "dy_odd": odd,
                "dy_scale": SB,
                "w_shape": np.array([filters, channels // group, *kernel]),
            },
            {"x_values": x_values},
        ),
    }
    for op in ops:
        inputs, attributes = cases[op]
        yield op, inputs, {**attributes, **shared}
