"""A plan's cost on 4-bit hardware, projected from published figures: never measured, and it says so.

Each of the three products of a site (forward, dgrad, wgrad) has m multiply-accumulates. With c(f) the cost of
one in format f, in time or in energy (`hardware.FIGURES`, FP16 = 1):

    cost of a product = m * samples * max(c(left operand), c(right operand))
    projected cost of the step = sum over products of cost / sum over products of m

so the same products in FP16 cost 1. Two phases of a gradient are not two products where dgrad has the one,
wgrad the other. ``samples`` is 2 where the products of two stochastic draws, or of both phases, are averaged,
else 1. A product that nothing needs (dgrad of what depends on no weight, wgrad of what is not trained) is in
neither sum. A trained clip (PACT) needs dgrad even of the data, which FP16 does not have: it is in the first
sum only.

The sites in high precision cost k of it, whatever 4 bits cost: no 4-bit hardware makes the products more than
1 / k times faster (Amdahl's law).
"""

import dataclasses
from collections.abc import Mapping

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes.hardware import FIGURES, ROWS, Figure
from fourbit_onnx.recipes.plan import Plan, Site
from fourbit_onnx.recipes.recipe import TRAINED_CLIPS, Quantizer

# Product to its operands' quantisation points, and the operand whose gradient it gives.
PRODUCTS: Mapping[str, tuple[str, str, str]] = {
    "forward": ("fwd.x", "fwd.w", ""),
    "dgrad": ("dgrad.dy", "dgrad.w", "x"),
    "wgrad": ("wgrad.x", "wgrad.dy", "w"),
}
KEPT = "high precision"

OMITTED = (
    "what is no product: quantisers, scales, Hadamard transforms, normalisation, activation functions, loss, "
    "optimiser",
    "memory: DRAM and its energy, transfers that no product hides",
    "utilisation: peak figures stand for both sides, as if small products filled the chip as well as large",
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """What one kind of product costs.

    Attributes:
        name: ``forward``, ``dgrad`` or ``wgrad`` for products in 4 bits; `KEPT` for all others.
        macs: Multiply-accumulates for one sample, those that FP16 would have.
        share: Of the multiply-accumulates of the step: what they cost in FP16.
        time: Projected, all products in FP16 = 1.
        energy: Projected, all products in FP16 = 1.
    """

    name: str
    macs: int
    share: float
    time: float
    energy: float


@dataclasses.dataclass(frozen=True)
class Projection:
    """The projected cost of a step's products; all of them in FP16 = 1.

    Attributes:
        phases: Forward, dgrad and wgrad in 4 bits, then what is in high precision.
        unknown: Sites that are left out because the sizes of their operands are not known.
        figures: The rows of the table of figures that were used.
        twice: Names of the phases some of whose products are two, of which the mean is taken.
    """

    phases: tuple[Phase, ...]
    unknown: int
    figures: Mapping[str, Figure]
    twice: tuple[str, ...]

    @property
    def time(self) -> float:
        """Projected time of the step's products."""
        return sum(phase.time for phase in self.phases)

    @property
    def energy(self) -> float:
        """Projected energy of the step's products."""
        return sum(phase.energy for phase in self.phases)

    @property
    def kept(self) -> Phase:
        """What is in high precision; 1 / ``kept.time`` bounds the speed-up of any 4-bit hardware."""
        return self.phases[-1]


def project(plan: Plan, figures: Mapping[str, Figure] = FIGURES) -> Projection:
    """The projected cost of one training step of ``plan``.

    Args:
        plan: With the multiply-accumulates of its sites.
        figures: Cost of a multiply-accumulate by format, FP16 = 1: `hardware.FIGURES`, or `hardware.read`.

    Raises:
        RecipeError: No site has a known number of multiply-accumulates.
    """
    macs = dict.fromkeys((*PRODUCTS, KEPT), 0)
    time, energy = dict.fromkeys(macs, 0.0), dict.fromkeys(macs, 0.0)
    used: dict[str, None] = {}
    twice: dict[str, None] = {}
    for site in plan.sites:
        for product, (_, _, operand) in PRODUCTS.items():
            in_fp16 = not operand or operand in site.gradients
            if not site.macs or not (in_fp16 or _trains_clip(site, operand)):
                continue
            phase = product if site.points else KEPT
            rows, samples = _operands(site, product)
            macs[phase] += site.macs * in_fp16
            time[phase] += site.macs * samples * max(figures[row].time for row in rows)
            energy[phase] += site.macs * samples * max(figures[row].energy for row in rows)
            used.update(dict.fromkeys(rows))
            if samples > 1:
                twice[phase] = None
    total = sum(macs.values())
    if not total:
        raise RecipeError(
            "there is nothing to project: no site (Conv, Gemm, MatMul with float32 operands) has a known "
            "number of multiply-accumulates; export the model with the sizes of its inputs"
        )
    return Projection(
        tuple(
            Phase(name, macs[name], macs[name] / total, time[name] / total, energy[name] / total)
            for name in macs
        ),
        sum(not site.macs for site in plan.sites),
        {row: figures[row] for row in figures if row in used},
        tuple(twice),
    )


def _trains_clip(site: Site, operand: str) -> bool:
    """Whether the gradient of an operand that depends on no weight is needed all the same."""
    text = site.points.get(f"fwd.{operand}")
    return text is not None and Quantizer.parse(text).scale in TRAINED_CLIPS


def _operands(site: Site, product: str) -> tuple[list[str], int]:
    """The rows of the two operands of a product, and how often it is done."""
    if not site.points:
        return [ROWS[site.precision]], 1
    left, right = (Quantizer.parse(site.points[point]) for point in PRODUCTS[product][:2])
    return [ROWS[left.format], ROWS[right.format]], max(_products(left), _products(right))


def _products(quantizer: Quantizer) -> int:
    return 2 if quantizer.both_phases else quantizer.samples
