"""The precision plan: every multiply-accumulate site, and what a recipe does with it."""

import dataclasses
import json
from pathlib import Path

from fourbit_onnx.errors import ArtifactError, RecipeError
from fourbit_onnx.recipes.recipe import ARITHMETICS, Quantizer

# The six quantisation points, in the order of the three products.
POINTS = ("fwd.x", "fwd.w", "dgrad.dy", "dgrad.w", "wgrad.x", "wgrad.dy")


@dataclasses.dataclass
class Site:
    """One multiply-accumulate operator.

    Attributes:
        name: Name of its node.
        op: ``Conv``, ``Gemm`` or ``MatMul``; ``LSTM`` for one that was not written out.
        x: Tensor on the left (activation).
        w: Tensor on the right (weight, or an activation in attention).
        precision: ``4-bit``, ``fp16`` or ``fp32``.
        recipe: Name of the recipe that decided.
        reason: Why the site is not in 4 bits; "" if it is.
        points: Quantisation point to format and scale rule, for 4-bit sites.
        macs: Multiply-accumulates of the forward product for one sample, or for the whole batch where the
            model fixes its size; 0 if shapes are unknown.
        weights: Elements of ``w`` if it is a weight.
        activations: Elements of ``x``, likewise; 0 if unknown.
        group: Name of the group of like sites that it is one of, a step of a sequence each; "" if none.
        gradients: Which of ``x`` and ``w`` depend on a trained weight: ``x`` has a dgrad product, ``w`` a
            wgrad product. A plan that an older version wrote lacks it, and has both.
        shapes: ``x``, ``w`` and ``y`` to their sizes, a name where any will do; None for an unknown rank.
    """

    name: str
    op: str
    x: str
    w: str
    precision: str = "fp32"
    recipe: str = ""
    reason: str = ""
    points: dict[str, str] = dataclasses.field(default_factory=dict)
    macs: int = 0
    weights: int = 0
    activations: int = 0
    group: str = ""
    gradients: list[str] = dataclasses.field(default_factory=lambda: ["x", "w"])
    shapes: dict[str, list[int | str] | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Plan:
    """All sites of a model under a recipe."""

    recipe: str
    sites: list[Site]

    @property
    def share(self) -> float:
        """Share of the multiply-accumulates that runs in 4 bits, 0 to 1."""
        total = sum(site.macs for site in self.sites)
        return sum(site.macs for site in self.sites if site.precision == "4-bit") / total if total else 0.0

    @property
    def product_input_bytes(self) -> float:
        """Bytes that the sites keep of their inputs from forward to backward (of a `unit`).

        4 bits a code and 1 bit of mask, 2 where a clip learns of rounding; 16 bits for a site in FP16, 32 for
        one in float32, and for one whose weight gradient has scales a block: it quantises the float
        activation anew, along another axis.
        """
        kept: dict[
            tuple[str, str], tuple[int, int]
        ] = {}  # tensor and form, which sites may share: bits, size
        for site in self.sites:
            for form, bits in _forms(site).items():
                most = max(bits, kept.get((site.x, form), (0, 0))[0])  # masks that one asks for all have
                kept[site.x, form] = most, site.activations
        return sum(bits * count for bits, count in kept.values()) / 8

    @property
    def float_bytes(self) -> float:
        """What `product_input_bytes` would be if every site were in float32."""
        return 4.0 * sum({site.x: site.activations for site in self.sites}.values())

    @property
    def unit(self) -> str:
        """What numbers and bytes are of: ``sample``, or ``batch`` where no size of a site is open."""
        shapes = [shape for site in self.sites for shape in site.shapes.values()]
        fixed = bool(shapes) and all(shape and not any(isinstance(n, str) for n in shape) for shape in shapes)
        return "batch" if fixed else "sample"

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(dataclasses.asdict(self) | {"four_bit_share": self.share}, indent=2) + "\n"


def _forms(site: Site) -> dict[str, int]:
    """In which forms ``site`` keeps its x for the backward pass, and the bits of an element in each."""
    x = site.points.get("fwd.x")
    if x is None:
        return {site.precision: 16 if site.precision == "fp16" else 32}
    quantizer = Quantizer.parse(x)
    masks = quantizer.mask_bits
    # Codes of a clip are the same whether it is trained, and by what.
    codes = {f"{quantizer.format} clip" if masks else x: 4 + masks}
    if not _again(x, site.points.get("wgrad.x", x)):
        return codes
    return {"fp32": 32} | (codes if masks else {})


def _again(forward: str, backward: str) -> bool:
    """Whether the backward pass quantises x once more, from float32, and so has no use for the codes."""
    return forward != backward or Quantizer.parse(backward).blocked


def read(path: Path) -> Plan:
    """The plan in a file that `Plan.to_json` made.

    Raises:
        ArtifactError: It cannot be read, or is no plan.
    """
    remedy = "make the folder again with fourbit convert"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Site)}
        sites = [
            Site(**{name: value for name, value in site.items() if name in known}) for site in fields["sites"]
        ]
        plan = Plan(fields["recipe"], sites)
        _ = plan.share, plan.product_input_bytes  # a field of a wrong type shows here
        for site in sites:
            _check(site)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}); {remedy}") from error
    except (RecipeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged: it is no precision plan; {remedy}") from error
    return plan


def _check(site: Site) -> None:
    """Refuse what no conversion writes.

    Raises:
        RecipeError: A point is no quantiser.
        ValueError: Anything else.
    """
    for quantizer in site.points.values():
        Quantizer.parse(quantizer)
    if (
        site.precision not in ARITHMETICS
        or set(site.points) != (set(POINTS) if site.precision == "4-bit" else set())
        or not set(site.gradients) <= {"x", "w"}
        or site.macs < 0
    ):
        raise ValueError(site)
