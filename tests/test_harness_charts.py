"""What the page's charts and sentences are made of: numbers in words, levels, ticks, labels."""

import html
import re

import numpy as np
import pytest

from fourbit_onnx.harness import charts, inside, wording
from fourbit_onnx.harness.wording import Units


def test_numbers():
    assert [wording.signed(x) for x in (0.126, -0.126, -0.001)] == ["+0.13", "−0.13", "0.00"]
    assert [wording.percent(x) for x in (0, 0.0001, 0.5, None)] == ["0.0 %", "< 0.1 %", "50.0 %", "–"]
    assert [wording.duration(x) for x in (1.26, 59, 61, 3700)] == ["1.3 s", "59 s", "1 min 1 s", "1 h 1 min"]
    assert [wording.p_value(x) for x in (None, 0.0009, 0.05)] == ["–", "< 0.001", "0.050"]
    assert Units("accuracy", False, 0.005).bound == -0.005
    assert Units("loss", True, 0.02).bound == 0.02
    assert wording.count(1, "seed") == "1 seed"


def test_levels_in_order_of_their_value():
    """Code 8 of log4, minus zero, is no level of its own; the sums are of all layers."""
    one = {"format": "log4", "codes": list(range(16))}
    found = inside.levels([one, one])
    assert [value for value, _ in found] == [
        -4096,
        -1024,
        -256,
        -64,
        -16,
        -4,
        -1,
        0,
        1,
        4,
        16,
        64,
        256,
        1024,
        4096,
    ]
    shares = [code / 120 for code in (15, 14, 13, 12, 11, 10, 9, 8, 1, 2, 3, 4, 5, 6, 7)]
    assert [share for _, share in found] == shares
    assert [inside.level_name(v, "log4") for v in (-4096, 0, 1, 16)] == ["−4⁶", "0", "4⁰", "4²"]
    assert [inside.level_name(v, "log2") for v in (-64, 2)] == ["−2⁶", "2¹"]
    assert [inside.level_name(v, "int4") for v in (-7, 3)] == ["−7", "3"]
    assert [inside.level_name(v, "e2m1") for v in (-12, 3, 0)] == ["−6", "1.5", "0"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (97.3, 97.4), (1e-9, 3e-9), (5, 5)])
def test_ticks_lie_inside(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= x <= high + 1e-9 for x in found)
    powers = charts.log_ticks(1e-3, 20)
    assert len(powers) >= 3
    assert all(1e-3 * 0.99 <= x <= 20.1 for x in powers)


def test_labels_do_not_touch():
    lines = [charts.Line([(0, 1), (1, 1 + n / 1000)], label=f"recipe{n}") for n in range(6)]
    text = str(charts.lines(lines, title="t", x_title="x", y_title="y", y_text=str))
    places = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="label', text))
    assert len(places) == 6
    assert min(np.diff(places)) >= 11.9
    assert html.unescape(text).count("recipe0") == 1


def test_no_line_of_the_differences_goes_through_letters():
    """Upright lines stop where a row has its name and its figures, which may lie anywhere."""
    rows = [
        (f"recipe{n}", "−0.12  [−0.30 to +0.06]", -0.001 * n, -0.006, 0.002 * n, "open") for n in range(4)
    ]
    text = str(
        charts.forest(
            rows, bound=-0.005, bound_text="margin", unit="points", title="t", text=str, lower_is_worse=True
        )
    )
    letters = [float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)"', text)]
    assert len(letters) >= 2 * len(rows)  # a name and figures each
    upright = re.findall(r'<line class="(\w+)[^"]*" x1="([\d.]+)" x2="\2" y1="([\d.]+)" y2="([\d.]+)"', text)
    kinds = [kind for kind, *_ in upright]
    assert (kinds.count("mark"), kinds.count("zero"), kinds.count("whisker")) == (4, 4, 8)
    assert all(float(end) > float(begin) for _, _, begin, end in upright)
    marks, zeros = ({float(x) for kind, x, *_ in upright if kind == one} for one in ("mark", "zero"))
    assert max(marks) < min(zeros)  # the margin is a loss
    for _, _, begin, end in upright:
        for y in letters:  # 11 units high; digits and letters reach 8.5 above their line and 2.5 below it
            assert float(end) <= y - 8.5 or float(begin) >= y + 2.5
    shaded = re.findall(
        r'<rect class="beyond" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', text
    )
    assert len(shaded) == 4
    assert all(float(y) + float(h) <= z - 8.5 or float(y) >= z + 2.5 for y, h in shaded for z in letters)


def test_long_names_are_shortened_and_whole_in_the_title():
    name = "recipe~" + "technique~" * 5
    line = str(charts.lines([charts.Line([(0, 1), (1, 2)], label=name)], title="t", x_title="x", y_title="y",
                            y_text=str))  # fmt: skip
    rows = [(name, "−0.12", -0.001, -0.006, 0.002, "open")]
    forest = str(charts.forest(rows, bound=-0.005, bound_text="margin", unit="points", title="t", text=str,
                               lower_is_worse=True))  # fmt: skip
    for text, length in ((line, 16), (forest, 28)):
        title = f"<title>{name}</title>"
        assert title in text
        assert wording.shortened(name, length) in text.replace(title, "")
        assert name not in text.replace(title, "")
