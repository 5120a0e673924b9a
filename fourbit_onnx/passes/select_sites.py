"""Find the multiply-accumulate operators and decide, by recipe and patterns, which run in 4 bits."""

import fnmatch
import math
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.passes.nonnegative import nonnegative
from fourbit_onnx.passes.reached import dependent
from fourbit_onnx.passes.recurrent_form import recurrent_inputs, recurrent_obstacle
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.sizes import per_sample
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.plan import POINTS, Plan, Site
from fourbit_onnx.recipes.recipe import Recipe

# The definition of QConvInputGrad sums 64 * 15 * K in float32 without rounding up to here.
_LONGEST_INPUT_GRAD = 2**24 // (64 * 15)


def select_sites(
    graph: gs.Graph,
    roles: Roles,
    recipe: Recipe,
    keep: Sequence[str] = (),
    settings: Sequence[tuple[str, str]] = (),
) -> Plan:
    """The plan for ``graph``: a site for every Conv, Gemm and MatMul of float32, but filters and tables.

    An LSTM whose steps could not be written out is listed behind them, with the reason.

    Args:
        graph: After ``standardize``, ``explicit_pads`` and ``regular_matmul``.
        roles: Tells weights from activations.
        recipe: For every site that no pattern names.
        keep: Patterns of node or weight names whose sites stay in float32.
        settings: (pattern, recipe name); the last that fits decides.

    Raises:
        RecipeError: A pattern fits nothing, or a recipe does not exist.
    """
    trained, data = dependent(graph, roles.parameters), _made_of_data(graph, roles)
    nodes = [
        node
        for node in graph.nodes
        if is_standard(node, "Conv", "Gemm", "MatMul") and _is_product(node) and not _is_table(node, trained)
    ]
    places: dict[str, list[gs.Tensor]] = {}  # the left operands; a group is one place
    for node in nodes:
        places.setdefault(roles.groups.get(node.name, node.name), []).append(node.inputs[0])
    order = {place: number for number, place in enumerate(places)}
    # An embedding is the first layer, though no product: what reads its rows is the second.
    embedded = {place for place in list(places)[:1] if all(_embedded(x, roles) for x in places[place])}
    signs: dict[str, tuple[bool, bool]] = {}
    recipes = [(pattern, table.find(name)) for pattern, name in settings]
    unused = {*keep, *(pattern for pattern, _ in recipes)}
    plan = Plan(recipe.name, [])
    for node in nodes:
        weights = _weights_behind(node.inputs[1], roles, data)
        site = _describe(node, is_weight=bool(weights))
        site.gradients = _gradients(node.inputs, trained)
        site.group = roles.groups.get(node.name, "")
        place = site.group or site.name
        names = {site.name, place, site.w, *weights}
        chosen, reason = recipe, ""
        named = False
        for pattern, other in recipes:
            if _fits(names, pattern):
                chosen, named = other, True
                unused.discard(pattern)
        for pattern in keep:
            if _fits(names, pattern):
                reason = f"kept by pattern {pattern!r}"
                unused.discard(pattern)
        if not reason and not named and chosen.arithmetic == "4-bit":
            reason = _kept(chosen, order[place], len(places), names, is_second=place in embedded)
        if place not in signs:
            signs[place] = _of_all(places[place], roles, data)
        _decide(site, node, chosen, reason, signs[place])
        plan.sites.append(site)
    for node in graph.nodes:
        if is_standard(node, "LSTM"):
            plan.sites.append(_whole(node))
            plan.sites[-1].gradients = _gradients(node.inputs, trained)
            unused -= {pattern for pattern in keep if _fits([node.name], pattern)}
    if unused:
        first = ", ".join(site.name for site in plan.sites[:8])
        raise RecipeError(f"pattern {sorted(unused)[0]!r} fits no site; the first sites are: {first}")
    return plan


def _gradients(operands: Sequence[gs.Tensor], trained: Collection[int]) -> list[str]:
    """Those of the first two operands, called x and w, that need a gradient."""
    return [name for name, tensor in zip("xw", operands[:2], strict=True) if id(tensor) in trained]


def _whole(node: gs.Node) -> Site:
    """An LSTM that was not written out: it stays in float32."""
    given = recurrent_inputs(node)
    site = Site(node.name, "LSTM", given["X"].name, given["W"].name, reason=recurrent_obstacle(node))
    site.shapes = {
        name: None if tensor.shape is None else list(tensor.shape)
        for name, tensor in (("x", given["X"]), ("w", given["W"]))
    }
    site.weights, site.activations = _count(given["W"].shape), _count(given["X"].shape)
    steps = per_sample(given["X"].shape[0]) if given["X"].shape else 1
    site.macs = steps * (site.weights + _count(given["R"].shape))
    return site


def _kept(recipe: Recipe, number: int, count: int, names: Iterable[str], *, is_second: bool) -> str:
    """Why the recipe itself keeps place ``number`` of ``count`` in float32; "" if it does not."""
    if recipe.keep_ends and number == 0 and not is_second:
        return "first site"
    if recipe.keep_ends and number == count - 1:
        return "last site"
    if number >= count - math.ceil(Fraction(str(recipe.keep_last)) * count):  # 0.07 of 100 is 7, in floats 8
        return f"among the last {recipe.keep_last:.0%} of the sites"
    pattern = next((pattern for pattern in recipe.keep if _fits(names, pattern)), "")
    return f"kept by pattern {pattern!r} of recipe {recipe.name!r}" if pattern else ""


def _is_product(node: gs.Node) -> bool:
    """Whether both operands are float32 and neither is a constant (an average, a filter bank)."""
    return all(
        tensor.dtype in (None, np.float32) and not isinstance(tensor, gs.Constant)
        for tensor in node.inputs[:2]
    )


def _is_table(node: gs.Node, trained: Collection[int]) -> bool:
    """Whether this multiplies each by each and sums nothing, and no operand is trained.

    So rotary positions get their angles, number by frequency, which are no angles any more in 4 bits.
    """
    if is_standard(node, "Conv") or _gradients(node.inputs, trained):
        return False
    turned = (node.attrs.get("transA", 0), not node.attrs.get("transB", 0))
    return any(
        tensor.shape is not None and len(tensor.shape) > 1 and tensor.shape[-2 if of_rows else -1] == 1
        for tensor, of_rows in zip(node.inputs[:2], turned, strict=True)
    )


def _embedded(tensor: gs.Tensor, roles: Roles) -> bool:
    """Whether all data in ``tensor`` are rows of a trained table: the model begins with an embedding."""
    found = False
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen or tensor.is_empty() or isinstance(tensor, gs.Constant):
            continue
        if tensor.name in roles.values:
            continue
        seen.add(id(tensor))
        if not tensor.inputs:
            return False  # data as it is
        if is_standard(tensor.inputs[0], "Gather") and tensor.inputs[0].inputs[0].name in roles.values:
            found = True
        else:
            waiting += _contents(tensor.inputs[0])
    return found


def _fits(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _made_of_data(graph: gs.Graph, roles: Roles) -> set[int]:
    """``id`` of every tensor that data is in; a shape is no data: a weight that is expanded remains one."""
    found: set[int] = set()
    for node in graph.nodes:
        for tensor in _contents(node):
            given = not (tensor.inputs or tensor.is_empty() or isinstance(tensor, gs.Constant))
            if (given and tensor.name not in roles.values) or id(tensor) in found:
                found.update(id(output) for output in node.outputs)
                if given:
                    found.add(id(tensor))
    return found


def _contents(node: gs.Node) -> Sequence[gs.Tensor]:
    """The inputs that the elements of the outputs come from."""
    inputs: Sequence[gs.Tensor] = node.inputs
    return inputs[:1] if is_standard(node, "Expand", "Reshape") else inputs


def _weights_behind(tensor: gs.Tensor, roles: Roles, data: Collection[int]) -> list[str]:
    """The weights that ``tensor`` is made of (itself, turned, normalised); none if data is in it too."""
    if id(tensor) in data:
        return []
    names: list[str] = []
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, gs.Constant):
            continue
        seen.add(id(found))
        if found.inputs:
            waiting += _contents(found.inputs[0])
        elif found.name in roles.values:
            names.append(found.name)
    return names


def _of_all(operands: Sequence[gs.Tensor], roles: Roles, data: Collection[int]) -> tuple[bool, bool]:
    """Whether all of them are weights, and whether all are certain to be >= 0."""
    return (
        all(_weights_behind(tensor, roles, data) for tensor in operands),
        all(nonnegative(tensor) for tensor in operands),
    )


def _decide(site: Site, node: gs.Node, recipe: Recipe, reason: str, left: tuple[bool, bool]) -> None:
    site.recipe = recipe.name
    if recipe.arithmetic != "4-bit":
        site.precision = "fp32" if reason else recipe.arithmetic
        site.reason = reason or f"recipe {recipe.name}"
        return
    site.reason = reason or _obstacle(node, recipe)
    if site.reason:
        return
    site.precision = "4-bit"
    is_weight, positive = left
    x = (recipe.weight if is_weight else recipe.activation).resolved(nonnegative=positive)
    right = recipe.weight if site.weights else recipe.activation
    w = right.resolved(nonnegative=nonnegative(node.inputs[1]))
    dgrad_w, wgrad_x = recipe.dgrad_weight or w, recipe.wgrad_activation or x
    quantizers = (x, w, recipe.dgrad, dgrad_w, wgrad_x, recipe.wgrad)
    site.points = {point: quantizer.text() for point, quantizer in zip(POINTS, quantizers, strict=True)}


def _obstacle(node: gs.Node, recipe: Recipe) -> str:
    """Why this node cannot be a 4-bit product; "" if it can."""
    x, w = node.inputs[:2]
    if x.shape is None or w.shape is None:
        return "the rank of an operand is unknown"
    if is_standard(node, "Conv"):
        if not _known(w.shape):
            return "the shape of its weight is unknown"
        if "pads" not in node.attrs or "auto_pad" in node.attrs:
            return "its padding depends on the size of the input"
        if any(quantizer.blocked for quantizer in (recipe.activation, recipe.dgrad, recipe.wgrad)):
            return _unfoldable(node)
        terms = w.shape[0] // node.attrs["group"] * math.prod(w.shape[2:])
        if terms >= _LONGEST_INPUT_GRAD:
            return f"its input gradient sums {terms} terms, {_LONGEST_INPUT_GRAD - 1} are exact"
    elif is_standard(node, "MatMul") and (len(x.shape) < 3 or len(x.shape) != len(w.shape)):
        return "its operands broadcast"
    return ""


def _unfoldable(node: gs.Node) -> str:
    """Why ``unfold_convolutions`` cannot give its operands scales a block; "" if it can."""
    y = node.outputs[0].shape
    if node.attrs["group"] != 1:
        return "a grouped convolution has no product with scales a block"
    if y is None or not _known(y[2:]) or not _known(node.inputs[0].shape[1:]):
        return "the size of its image is unknown, which its product with scales a block needs"
    return ""


def _describe(node: gs.Node, *, is_weight: bool) -> Site:
    x, w = node.inputs[:2]
    site = Site(node.name, node.op, x.name, w.name)
    site.weights = _count(w.shape) if is_weight else 0
    site.activations = _count(x.shape)
    y, out = node.outputs[0].shape, 0
    site.shapes = {
        name: None if shape is None else list(shape)
        for name, shape in (("x", x.shape), ("w", w.shape), ("y", y))
    }
    if is_standard(node, "Conv") and y is not None and _known(w.shape):
        out = _count(y)
        site.macs = out * math.prod(w.shape[1:])
    elif y is not None and x.shape is not None:
        depth = x.shape[-2 if node.attrs.get("transA") else -1]
        site.macs = _count(y) * depth if isinstance(depth, int) else 0
    return site


def _known(shape: Sequence[int | str] | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _count(shape: Sequence[int | str] | None) -> int:
    """Elements for one sample: sizes that are not known count as 1; 0 for an unknown rank."""
    return 0 if shape is None else math.prod(map(per_sample, shape))
