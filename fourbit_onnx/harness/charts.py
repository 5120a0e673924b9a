"""Charts as SVG: 360 units wide, so that letters stay readable on a telephone; colours are CSS classes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

from fourbit_onnx.harness.wording import shortened

WIDTH = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 112, 22, 34
_LINE = 12.0  # units between two labels
_LONGEST = 16  # letters of a label beside a line

Point = tuple[float, float]
Text = Callable[[float], str]


class Picture(str):
    """SVG, all foreign text in it escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        """What a template puts in as it is."""
        return str(self)


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        points: (x, y), in order of x.
        kind: CSS class that gives its colour.
        label: Written at its end; "" for none.
        thin: Whether it is a line behind the others.
        title: What the browser shows under the pointer.
    """

    points: Sequence[Point]
    kind: str = "c0"
    label: str = ""
    thin: bool = False
    title: str = ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and 2 and 5 times these where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**p for p in powers for f in factors if low * 0.999 <= f * 10.0**p <= high * 1.001]
        if len(found) >= 3:
            break
    return found


def lines(
    series: Sequence[Line],
    *,
    title: str,
    x_title: str,
    y_title: str,
    y_text: Text,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    mark: tuple[float, str] | None = None,
    height: int = 210,
) -> Picture:
    """Lines over a whole-numbered x, labelled at their ends.

    Args:
        series: Lines; later ones are drawn above earlier ones.
        title: Above the chart.
        x_title: Of the x axis.
        y_title: Unit of the y axis, above it.
        y_text: How the y axis writes a number.
        low: Lower end of y; None: the smallest value.
        high: Upper end; None: the largest value.
        log: A logarithmic y axis; only for positive values.
        mark: A horizontal line at this y, and its label.
        height: Units.
    """
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points] + ([mark[0]] if mark else [])
    if not xs:
        return Picture("")
    low = min(ys) if low is None else low
    high = max(ys) if high is None else high
    if log:
        low, high = low / 1.1, high * 1.1
    else:
        pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    right, bottom = WIDTH - _RIGHT, height - _BOTTOM
    left_x, right_x = min(xs), max(xs)

    def px(x: float) -> float:
        return _LEFT + (right - _LEFT) * ((x - left_x) / (right_x - left_x) if right_x > left_x else 0.5)

    def py(y: float) -> float:
        a, b, c = (math.log(v) for v in (low, high, y)) if log else (low, high, y)
        return bottom - (bottom - _TOP) * (c - a) / (b - a)

    parts = []
    for y in log_ticks(low, high) if log else ticks(low, high):
        parts += [
            f'<line class="rule" x1="{_LEFT}" x2="{right}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>',
            _text(_LEFT - 5, py(y) + 3.5, y_text(y), anchor="end"),
        ]
    for x in _whole(left_x, right_x):
        parts.append(_text(px(x), bottom + 14, f"{x:g}", anchor="middle"))
    parts.append(_text((_LEFT + right) / 2, bottom + 29, x_title, anchor="middle"))
    parts.append(_text(2, 11, y_title))
    if mark:
        y = py(mark[0])
        parts += [
            f'<line class="mark" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
            _text(right - 2, y - 4, mark[1], anchor="end"),
        ]
    drawn, labels = [], []
    for line in series:
        points = " ".join(f"{px(x):.1f},{min(max(py(y), -999), 999):.1f}" for x, y in line.points)
        style = f"line {line.kind}{' thin' if line.thin else ''}"
        about = f"<title>{escape(line.title)}</title>" if line.title else ""
        if len(line.points) == 1:
            x, y = line.points[0]
            drawn.append(
                f'<circle class="dot {line.kind}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3">{about}</circle>'
            )
        else:
            drawn.append(f'<polyline class="{style}" points="{points}">{about}</polyline>')
        if line.label:
            labels.append((min(max(py(line.points[-1][1]), _TOP), bottom), line))
    # Nothing is drawn outside: an inner picture clips, and needs no name that must be unique on the page.
    clipped = (
        f'<svg x="{_LEFT}" y="{_TOP - 4}" width="{right - _LEFT + 4}" height="{bottom - _TOP + 8}" '
        f'viewBox="{_LEFT} {_TOP - 4} {right - _LEFT + 4} {bottom - _TOP + 8}">{"".join(drawn)}</svg>'
    )
    parts.append(clipped)
    for y, line in _apart(labels, bottom + 4):
        parts.append(
            _text(
                right + 6,
                y + 3.5,
                shortened(line.label, _LONGEST),
                kind=f"label {line.kind}",
                title=line.label,
            )
        )
    return _picture(parts, height, title)


def forest(
    rows: Sequence[tuple[str, str, float, float | None, float | None, str]],
    *,
    bound: float,
    bound_text: str,
    unit: str,
    title: str,
    text: Text,
    lower_is_worse: bool,
) -> Picture:
    """Differences to the baseline with their intervals, against 0 and the margin.

    Args:
        rows: (name, figures in words, mean, low, high, CSS class); low and high None for no interval.
        bound: The margin as a difference.
        bound_text: What is written at it.
        unit: Of the x axis.
        title: For who cannot see it.
        text: How the x axis writes a number.
        lower_is_worse: On which side of the margin the loss is.
    """
    numbers = [0.0, bound, *(n for row in rows for n in row[2:5] if isinstance(n, (int, float)))]
    low, high = min(numbers), max(numbers)
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad
    left, right, step, top = 10, WIDTH - 10, 40, 36
    bottom = top + step * len(rows)

    def px(x: float) -> float:
        return left + (right - left) * (x - low) / (high - low)

    edge = (left, px(bound)) if lower_is_worse else (px(bound), right)
    parts = _pair_of_labels((px(bound), bound_text), (px(0), "no difference"), top - 8)
    for number, (name, figures, mean, a, b, kind) in enumerate(rows):
        y = top + step * number + 30
        parts.append(_text(left, y - 14, shortened(name, 28), kind="label", title=name))
        parts.append(_text(right, y - 14, figures, anchor="end"))
        above, below = y - 9, y + 10  # upright lines stop at the letters
        parts.append(
            f'<rect class="beyond" x="{edge[0]:.1f}" y="{above}" width="{edge[1] - edge[0]:.1f}" '
            f'height="{below - above}"/>'
        )
        parts += [
            f'<line class="{line}" x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{above}" y2="{below}"/>'
            for line, x in (("mark", bound), ("zero", 0.0))
        ]
        if a is not None and b is not None:
            parts.append(
                f'<line class="whisker {kind}" x1="{px(a):.1f}" x2="{px(b):.1f}" y1="{y}" y2="{y}"/>'
            )
            parts += [
                f'<line class="whisker {kind}" x1="{px(e):.1f}" x2="{px(e):.1f}" y1="{y - 4}" y2="{y + 4}"/>'
                for e in (a, b)
            ]
        parts.append(f'<circle class="dot {kind}" cx="{px(mean):.1f}" cy="{y}" r="4.5"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for x in ticks(low, high, 5):
        parts.append(
            f'<line class="axis" x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        parts.append(_text(px(x), bottom + 16, text(x), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 31, unit, anchor="middle"))
    return _picture(parts, bottom + 36, title)


def bars(
    shares: Sequence[float],
    labels: Sequence[str],
    before: Sequence[float] | None,
    *,
    title: str,
    y_title: str,
) -> Picture:
    """Upright bars; a hollow mark where they were ``before``."""
    left, right, top, height = 34, WIDTH - 4, 22, 190
    bottom = height - 30
    most = max([*shares, *(before or []), 1e-9])
    width = (right - left) / max(len(shares), 1)

    def py(y: float) -> float:
        return bottom - (bottom - top) * y / most

    parts = [_text(2, 11, y_title)]
    for y in ticks(0, most, 3):
        parts.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        parts.append(_text(left - 5, py(y) + 3.5, f"{100 * y:g}", anchor="end"))
    for number, (share, label) in enumerate(zip(shares, labels, strict=True)):
        x = left + width * number
        tip = f"<title>{escape(label)}: {100 * share:.2f} %</title>"
        parts.append(
            f'<rect class="bar" x="{x + 1.5:.1f}" y="{py(share):.1f}" width="{width - 3:.1f}" '
            f'height="{max(bottom - py(share), 0):.1f}">{tip}</rect>'
        )
        if before:
            y = py(before[number])
            parts.append(
                f'<line class="was" x1="{x + 0.5:.1f}" x2="{x + width - 0.5:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        parts.append(_text(x + width / 2, bottom + 14, label, anchor="middle", kind="tight"))
    return _picture(parts, height, title)


def spark(points: Sequence[Point | None], low: float, high: float) -> Picture:
    """A small line without axes, for a cell of a table; all of a column share ``low`` and ``high``."""
    known = [point for point in points if point is not None]
    if len(known) < 2:
        return Picture("")
    first, last = known[0][0], known[-1][0]
    text = " ".join(
        f"{1 + 58 * (x - first) / ((last - first) or 1):.1f},{15 - 14 * (y - low) / ((high - low) or 1):.1f}"
        for x, y in known
    )
    return Picture(
        f'<svg class="spark" viewBox="0 0 60 16" aria-hidden="true"><polyline points="{text}"/></svg>'
    )


def spark_bars(shares: Sequence[float]) -> Picture:
    """Small bars without axes, the largest one of full height."""
    most = max(shares, default=0) or 1
    path = "".join(f"M{4 * i + 2} 16v{-15 * s / most:.1f}" for i, s in enumerate(shares) if s)
    return Picture(
        f'<svg class="spark" viewBox="0 0 {4 * len(shares)} 16" aria-hidden="true"><path d="{path}"/></svg>'
    )


def _whole(low: float, high: float) -> list[float]:
    step = max(1, math.ceil((high - low) / 6))
    step = next(s for f in (1, 10, 100, 1000, 10**4, 10**5) for s in (f, 2 * f, 5 * f) if s >= step)
    found = [float(x) for x in range(math.ceil(low), math.floor(high) + 1) if x % step == 0 or x == low]
    return found if len(found) < 2 or found[1] - found[0] > step / 2 else found[1:]


def _apart(labels: list[tuple[float, Line]], bottom: float) -> list[tuple[float, Line]]:
    """Labels moved down, then up, until none touches another."""
    labels = sorted(labels, key=lambda item: item[0])
    placed: list[tuple[float, Line]] = []
    for y, line in labels:
        placed.append((max(y, placed[-1][0] + _LINE) if placed else y, line))
    for i in range(len(placed) - 1, -1, -1):
        limit = bottom if i == len(placed) - 1 else placed[i + 1][0] - _LINE
        placed[i] = (min(placed[i][0], limit), placed[i][1])
    return placed


def _pair_of_labels(one: tuple[float, str], two: tuple[float, str], y: float) -> list[str]:
    """Two labels of upright lines, turned inwards at the edges; one above the other where they are close."""
    left, right = sorted((one, two))
    raised = 12 if right[0] - left[0] < 160 else 0
    return [
        _text(x, y - up, text, anchor="end" if x > WIDTH / 2 else "start")
        for (x, text), up in ((left, raised), (right, 0))
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", title: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    tip = f"<title>{escape(title)}</title>" if title and title != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{place}{style}>{escape(text)}{tip}</text>'


def _picture(parts: Sequence[str], height: float, title: str) -> Picture:
    return Picture(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
