"""What a multiply-accumulate costs on 4-bit hardware, FP16 = 1: published figures, and what they imply.

Nothing here was measured by us. Every figure names its source, and how it follows from what is published
there. ``read`` replaces figures by those of a TOML file.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import toml

# IBM's chip, abstract of the article in JSSC: peak performance in TOPS, peak energy efficiency in TOPS/W.
HFP8_TFLOPS, HFP8_PER_WATT = 26.2, 3.58
INT4_TOPS, INT4_PER_WATT = 104.9, 16.9
# L. Gwennap of the same chip, Linley Newsletter, 6 April 2021.
HFP8_OVER_FP16 = 2
# Sun et al., NeurIPS 2020, abstract: 4-bit training is more than 7 times faster than FP16 systems.
TRAINING_SPEEDUP = 7
# NVIDIA B200, dense: about 4 by vuiseng9/fp4-training on GitHub; 10 / 2.25 PFLOPS, rounded, in the press.
E2M1_SPEEDUP = 4

_CHIP = (
    "A 7-nm Four-Core Mixed-Precision AI Chip With 26.2-TFLOPS Hybrid-FP8 Training, 104.9-TOPS INT4 "
    "Inference, and Workload-Aware Throttling, IEEE JSSC 57(1), 2022, doi 10.1109/JSSC.2021.3120113 (its "
    "abstract: 3.58 TFLOPS/W, 16.9 TOPS/W); hybrid FP8 twice as fast as FP16: L. Gwennap, Linley Newsletter, "
    "6 April 2021"
)
_SUN = (
    "Sun et al., Ultra-Low Precision 4-bit Training of Deep Neural Networks, NeurIPS 2020 (> 7 times FP16 "
    "systems); energy: IBM breakthroughs could help bring AI training from cloud to edge, research.ibm.com, "
    "7 December 2020 (more than 7 times)"
)
_GPU = (
    "NVIDIA B200: FP4 about 4 times FP16 (README of github.com/vuiseng9/fp4-training); 10 and 2.25 PFLOPS, "
    "dense, in Tom's Hardware on Blackwell Ultra at Hot Chips 2025"
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """What one multiply-accumulate costs if its dearer operand has this format.

    Attributes:
        time: At the same chip's peak, FP16 = 1.
        energy: Of the chip, without its DRAM, FP16 = 1.
        derivation: How the two follow from what is published.
        source: Where that is published.
    """

    time: float
    energy: float
    derivation: str
    source: str


# What a plan calls the precision or the format of an operand, to the row that tells its cost.
ROWS: Mapping[str, str] = {
    "fp32": "fp32",
    "fp16": "fp16",
    "int4": "int4",
    "int4_full": "int4",
    "uint4": "int4",
    "log4": "log4",
    "log2": "log2",
    "e2m1": "e2m1",
}

FIGURES: Mapping[str, Figure] = {
    "fp16": Figure(1.0, 1.0, "the unit", "by definition"),
    "fp32": Figure(
        1.0,
        1.0,
        "what a plan keeps in float32 is projected in FP16, which 4-bit hardware keeps for it",
        "assumed: the chip that the INT4 figures are of has FP16, hybrid FP8, INT4 and INT2 products",
    ),
    "int4": Figure(
        HFP8_TFLOPS / HFP8_OVER_FP16 / INT4_TOPS,
        HFP8_PER_WATT / HFP8_OVER_FP16 / INT4_PER_WATT,
        "time 26.2 / 2 / 104.9; energy 3.58 / 2 / 16.9, assumed that FP16 draws the power of hybrid FP8",
        _CHIP,
    ),
    "log4": Figure(
        1 / TRAINING_SPEEDUP,
        1 / TRAINING_SPEEDUP,
        "1 / 7: the lower bound for training as a whole, taken for INT4 x FP4, of which no figure of its own "
        "was found",
        _SUN,
    ),
    "log2": Figure(
        1 / TRAINING_SPEEDUP,
        1 / TRAINING_SPEEDUP,
        "as log4, assumed: both multiply by a power of two, which is a shift",
        _SUN,
    ),
    "e2m1": Figure(
        1 / E2M1_SPEEDUP,
        1 / E2M1_SPEEDUP,
        "time 1 / 4; energy the same, assumed that both run at the power limit",
        _GPU,
    ),
}

_UNIT = "fp16"
_KEYS = {"time": float, "energy": float, "source": str}


def read(path: Path) -> Mapping[str, Figure]:
    """``FIGURES``, but for the rows that a TOML file replaces: a table each, with what changes of it.

    Raises:
        RecipeError: It cannot be read, or a row, key or number is none; the message says which.
    """
    given = toml.load(path, "table of figures")
    if not given:
        raise RecipeError(f"{path} has no figures; give a table such as [log4] with time = 0.2, energy = 0.2")
    rows = [row for row in FIGURES if row != _UNIT]
    toml.known(str(path), given, rows)
    found = dict(FIGURES)
    for row, table in given.items():
        where = f"{path}: {row}"
        if not isinstance(table, dict):
            raise RecipeError(f"{where} is a table such as {{time = 0.125, energy = 0.106}}, not {table!r}")
        toml.known(where, table, [*_KEYS])
        if not {"time", "energy"} & set(table):
            raise RecipeError(f"{where} has neither time nor energy")
        values = {key: toml.checked(f"{where}.{key}", value, _KEYS[key]) for key, value in table.items()}
        for key in ("time", "energy"):
            if not 0 < values.get(key, 1) < math.inf:
                raise RecipeError(f"{where}.{key} is a number above 0, FP16 = 1, not {values[key]:g}")
        source = values.pop("source", str(path))
        old, derivation = FIGURES[row], f"{' and '.join(values)} as given"
        for key in {"time", "energy"} - set(values):
            derivation += f"; {key} as before: {old.derivation}"
            source += f"; {old.source}"
        found[row] = dataclasses.replace(old, **values, derivation=derivation, source=source)
    return found
