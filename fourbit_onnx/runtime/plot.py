"""Learning curves as a picture. matplotlib is the optional extra ``plot``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.errors import FourbitError, not_installed

Records = Sequence[Mapping[str, float]]

# Okabe and Ito's colours: told apart by everyone.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#555555"


def learning_curves(runs: Mapping[str, Records], path: Path, *, title: str = "") -> None:
    """Two panels over the epochs: training loss, and accuracy on the test data.

    Args:
        runs: What each run is called, and its `History.epochs`, evaluated after every epoch.
        path: The picture; the suffix decides the kind (``.png``, ``.svg``, ``.pdf``).
        title: Above both panels.

    Raises:
        FourbitError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise FourbitError(not_installed("matplotlib", "plot")) from error
    whole_file.check(path)  # a failed picture is removed

    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for number, (name, records) in enumerate(runs.items()):
        epochs = [record["epoch"] + 1 for record in records]
        style = {"color": _COLORS[number % len(_COLORS)], "marker": "os^Dv*X"[number % 7], "markersize": 4}
        loss.plot(epochs, [record["loss"] for record in records], label=name, **style)
        accuracy.plot(epochs, [record["eval_accuracy"] for record in records], label=name, **style)
    loss.set_yscale("log")
    loss.set_title("training loss", loc="left", fontsize=10)
    accuracy.set_title("test accuracy", loc="left", fontsize=10)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch", color=_GREY)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_GREY)
    if runs:
        accuracy.legend(frameon=False, loc="lower right")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise FourbitError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
