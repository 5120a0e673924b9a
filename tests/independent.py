"""A small network with 4-bit training in NumPy, written from the specification (NUMERICS) alone.

Like ``independent_numbers.py`` it knows nothing of ``fourbit_onnx``: no formats, no reference operators, no
graph. What is float32 in the specification is float32 here; what follows the last float product (logits,
softmax) is float64, and all that can differ from that by rounding carries a bound on the difference.

The network, ``image`` (B, 2, 6, 6) to ``logits`` (B, 10); sites in 4 bits have a name:

    r1 = relu(conv(image, w1, b1))                first site: float
    c2 = conv(r1, w2, b2), stride 2               "conv2": non-negative input
    g3 = flatten(c2) @ w3.T + b3                  "gemm3": signed input
    g4 = relu(g3) @ w4 + b4                       "gemm4": non-negative input, not transposed
    m = reshape(g3, B, 4, 4) @ reshape(g4, B, 4, 4)    "matmul": two activations, signed
    logits = relu(m + g4) @ w5.T + b5             last site: float; a residual addition before it

With ``image``, w1 and b1 small multiples of 1/64 the first convolution is exact in float32 in every order of
summation, so that the codes of all later sites are determined to the bit, forward and backward.
"""

import dataclasses

import numpy as np
from independent_numbers import (
    UNBIASED,
    U,
    absmax,
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
    dither,
    f32,
    first_random,
    levels15,
    log4,
    mean,
    minmax,
    next_top,
    pact,
    sawb,
    scaled,
    top_level,
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of section 6."""

    activation: str = "pact"  # or "pact+", "minmax"
    weight: str = "sawb"  # or "minmax"
    dgrad: str = "even"  # or "odd", "mean" (of even and odd), "int4"
    wgrad: str = "odd"
    learned: bool = False
    threshold: float = UNBIASED
    dither: bool = True


RECIPES = {
    "ibm2020-onephase": Recipe(),
    "ibm2020-static": Recipe(threshold=2.5, dither=False),
    "ibm2020": Recipe(dgrad="mean", wgrad="mean"),
    "ibm2020-plus": Recipe(activation="pact+", dgrad="mean", wgrad="mean"),
    "ibm2020-notpr": Recipe(wgrad="even"),
    "ibm2020-learned-scale": Recipe(learned=True),
    "int4-linear": Recipe(dgrad="int4", wgrad="int4", dither=False),
    "minmax": Recipe(activation="minmax", weight="minmax"),
}


@dataclasses.dataclass
class Result:
    """What a step gives; gradients by parameter, operands by (site, point), and bounds on float rounding.

    Attributes:
        bounds: Gradient (or "loss") to the largest difference that another order of summation, or another
            float32 softmax, can make; 0 where only codes and exact operations are behind it.
        margins: (site, phase) to the distance of the output gradient from the nearest rounding threshold, in
            units of what float rounding may have moved it; below 1 a code is not determined.
        levels: Site to the top level T of this step, before it is dithered.
        tops: Site to T of the next step, if it is learned.
    """

    loss: float = 0.0
    gradients: dict = dataclasses.field(default_factory=dict)
    bounds: dict = dataclasses.field(default_factory=dict)
    operands: dict = dataclasses.field(default_factory=dict)
    margins: dict = dataclasses.field(default_factory=dict)
    levels: dict = dataclasses.field(default_factory=dict)
    tops: dict = dataclasses.field(default_factory=dict)


class Network:
    """One training step of one recipe.

    Args:
        recipe: The row.
        parameters: w1 .. w5, b1 .. b5, and the clips by the (site, operand) they belong to, as
            ``("conv2", "x")``.
        tops: Site to T, the state of the learned gradient scale.
        weight_scales: Site to a scale that is used for its weight in place of the statistics.
        counter: The state of the random numbers.
        streams: Site to the stream that its dither is drawn from; for a recipe that dithers.
    """

    def __init__(self, recipe, parameters, tops=None, weight_scales=None, counter=0, streams=None):
        self.counter, self.streams = counter, streams
        self.recipe, self.p = recipe, parameters
        self.tops, self.weight_scales = tops or {}, weight_scales or {}
        self.result = Result(tops=dict(self.tops))

    # -- quantisation points

    def activation(self, site, point, x, *, signed):
        if self.recipe.activation == "minmax":
            operand = minmax(x)
        else:
            operand = pact(x, self.p[site, point], signed=signed)
        self.result.operands[site, point] = operand
        return operand

    def weight(self, site, w):
        if site in self.weight_scales:
            operand = levels15(w, self.weight_scales[site])
        else:
            operand = minmax(w) if self.recipe.weight == "minmax" else sawb(w)
        self.result.operands[site, "w"] = operand
        return operand

    def output_gradient(self, site, dy, error):
        """The two quantised copies of dy, for dgrad and for wgrad, and the relative error of their scales.

        ``error`` is what float rounding may have moved each dy; the scale of ``log4``, a power of two times
        its dither, does not move.
        """
        kinds = (self.recipe.dgrad, self.recipe.wgrad)
        largest = float(np.abs(dy).max())
        if "int4" in kinds:
            operand = absmax(dy)
            relative = np.max(error) / largest + 2 * U * np.any(error)
            thresholds = operand.scale * (np.arange(7) + 0.5)
            self._margin(site, "int4", dy, error + relative * np.abs(dy), thresholds)
            self.result.operands[site, "int4"] = operand
            return operand, operand, relative
        t = self.recipe.threshold
        T = top_level(largest, t)
        if self.recipe.learned:
            T = self.tops[site]
            self.result.tops[site] = next_top(T, largest, t)
        self.result.levels[site] = T
        factor = dither(first_random(self.counter, self.streams[site])) if self.recipe.dither else 1
        found = {}
        for kind in dict.fromkeys(["even", "odd"] if "mean" in kinds else kinds):
            operand = log4(dy, T / 4096 * factor, t, odd=kind == "odd")
            self.result.operands[site, kind] = operand
            # The quotient is rounded, too: what is moved may come to the other side of a threshold by that.
            moved = error + 2 * U * np.abs(dy) * np.any(error)
            self._margin(site, kind, dy, moved, operand.scale * t / 4 * 4.0 ** np.arange(7))
            found[kind] = operand
        self._margin(site, "top", largest, np.max(error), t / 2 * T * np.array([1, 2]))
        if "mean" in kinds:
            found["mean"] = mean(found["even"], found["odd"])
        return *(found[kind] for kind in kinds), 0.0

    def _margin(self, site, kind, dy, error, thresholds):
        distance = np.abs(np.abs(np.asarray(dy, np.float64))[..., None] - thresholds).min(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.result.margins[site, kind] = (distance / error).min() if np.any(error) else np.inf

    def through_clip(self, site, point, dx, relative):
        """The gradient of the unclipped activation and its error; the gradient of the clip is noted."""
        error = relative * np.abs(dx)
        operand = self.result.operands[site, point]
        if operand.gate is None:
            return dx, error
        wide = dx.astype(np.float64)
        slope = operand.upper * 1.0 - operand.lower
        if self.recipe.activation == "pact+":
            slope = slope + operand.slope
        total = (wide * slope).sum()
        # Each term may be rounded, to float32 or to steps of 2**-30 of the largest |dx|; their sum, exact in
        # fixed point, only once more.
        share = np.abs(slope)
        steps = share.sum() * 2.0**-31 * np.abs(wide).max()
        rounding = U * (share * np.abs(wide)).sum() + 2 * U * abs(total)
        self.note((site, point), total, steps + rounding + (share * error).sum())
        return np.where(operand.gate, dx, f32(0)), error

    def weight_gradient(self, name, integers, a, b, relative):
        gradient = scaled(integers, a, b)
        self.note(name, gradient, relative * np.abs(gradient))

    def note(self, name, gradient, bound):
        self.result.gradients[name], self.result.bounds[name] = gradient, bound

    def bias(self, name, dy, axes, error):
        """A sum of float32 numbers in any order: n u times the sum of their magnitudes."""
        wide = dy.astype(np.float64)
        n = dy.size // self.p[name].size
        self.note(name, wide.sum(axes), n * U * np.abs(wide).sum(axes) + np.sum(error + 0 * wide, axes))

    # -- one step

    def step(self, image, labels):
        p, note = self.p, self.note
        B = len(image)

        c1 = convolution(image.astype(np.float64), p["w1"], 1).astype(f32) + p["b1"].reshape(1, -1, 1, 1)
        r1 = np.maximum(c1, f32(0))
        x2, w2 = self.activation("conv2", "x", r1, signed=False), self.weight("conv2", p["w2"])
        c2 = scaled(convolution(x2.integers, w2.integers, 2), x2, w2) + p["b2"].reshape(1, -1, 1, 1)
        flat = c2.reshape(B, -1)
        x3, w3 = self.activation("gemm3", "x", flat, signed=True), self.weight("gemm3", p["w3"])
        g3 = scaled(x3.integers @ w3.integers.T, x3, w3) + p["b3"]
        r3 = np.maximum(g3, f32(0))
        x4, w4 = self.activation("gemm4", "x", r3, signed=False), self.weight("gemm4", p["w4"])
        g4 = scaled(x4.integers @ w4.integers, x4, w4) + p["b4"]
        q = self.activation("matmul", "x", g3.reshape(B, 4, 4), signed=True)
        k = self.activation("matmul", "w", g4.reshape(B, 4, 4), signed=True)
        h = scaled(q.integers @ k.integers, q, k).reshape(B, 16) + g4
        r = np.maximum(h, f32(0)).astype(np.float64)

        # float64 from here; the graph is in float32, in an order that is not known
        w5 = p["w5"].astype(np.float64)
        logits = r @ w5.T + p["b5"]
        shifted = logits - logits.max(1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        loss = -log_probability[np.arange(B), labels].mean()
        dlogits = np.exp(log_probability)
        dlogits[np.arange(B), labels] -= 1
        dlogits /= B
        # A logit is a dot product of 16 and a bias. A log-probability is the difference of two such, less a
        # logarithm: three roundings of numbers no larger than about itself + log 10. Its exponential turns
        # that into a relative error, and has 2 units of its own.
        logit_error = 17 * U * (r @ np.abs(w5).T + np.abs(p["b5"]))
        log_error = 2 * logit_error.max(1, keepdims=True) + 3 * U * (np.abs(log_probability) + 2.3)
        self.result.loss = loss
        self.result.bounds["loss"] = log_error[np.arange(B), labels].mean() + (B + 1) * U * loss
        dlogit_error = np.exp(log_probability) * (log_error + 4 * U) / B + 2 * U * np.abs(dlogits)
        note("w5", dlogits.T @ r, (B + 1) * U * (np.abs(dlogits).T @ r) + dlogit_error.T @ r)
        self.bias("b5", dlogits, 0, dlogit_error)
        dr = dlogits @ w5
        error = 11 * U * (np.abs(dlogits) @ np.abs(w5)) + dlogit_error @ np.abs(w5)
        dh = np.where(h > 0, dr, 0).astype(f32)

        # from here on, exact but for int4: codes of dh, whatever its last bits
        even, odd, off = self.output_gradient("matmul", dh.reshape(B, 4, 4), error.reshape(B, 4, 4))
        dq = scaled(even.integers @ k.integers.swapaxes(1, 2), even, k)
        dk = scaled(q.integers.swapaxes(1, 2) @ odd.integers, q, odd)
        dq, dq_error = (part.reshape(B, 16) for part in self.through_clip("matmul", "x", dq, off))
        dk, dk_error = (part.reshape(B, 16) for part in self.through_clip("matmul", "w", dk, off))
        dg4 = dh + dk
        error = error + dk_error + U * np.abs(dg4)
        self.bias("b4", dg4, 0, error)
        even, odd, off = self.output_gradient("gemm4", dg4, error)
        self.weight_gradient("w4", x4.integers.T @ odd.integers, x4, odd, off)
        dr3, error = self.through_clip("gemm4", "x", scaled(even.integers @ w4.integers.T, even, w4), off)
        dg3 = np.where(g3 > 0, dr3, f32(0)) + dq
        error = error + dq_error
        error += U * np.abs(dg3) * np.any(error)
        self.bias("b3", dg3, 0, error)
        even, odd, off = self.output_gradient("gemm3", dg3, error)
        self.weight_gradient("w3", odd.integers.T @ x3.integers, odd, x3, off)
        dflat, error = self.through_clip("gemm3", "x", scaled(even.integers @ w3.integers, even, w3), off)
        dc2, error = dflat.reshape(c2.shape), error.reshape(c2.shape)
        self.bias("b2", dc2, (0, 2, 3), error)
        even, odd, off = self.output_gradient("conv2", dc2, error)
        dw2 = convolution_weight_gradient(x2.integers, odd.integers, 3, 2)
        self.weight_gradient("w2", dw2, x2, odd, off)
        dr1 = convolution_input_gradient(even.integers, w2.integers, r1.shape, 2)
        dr1, error = self.through_clip("conv2", "x", scaled(dr1, even, w2), off)
        dc1 = np.where(c1 > 0, dr1, f32(0))
        self.bias("b1", dc1, (0, 2, 3), error)
        wide, seen = dc1.astype(np.float64), image.astype(np.float64)
        terms = dc1.size // dc1.shape[1]
        bound = (terms + 1) * U * np.abs(wide) + error
        note("w1", convolution_weight_gradient(seen, wide, 3, 1),
             convolution_weight_gradient(np.abs(seen), bound, 3, 1))  # fmt: skip
        return self.result
