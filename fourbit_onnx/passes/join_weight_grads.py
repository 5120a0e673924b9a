"""The weight gradients of all steps of a sequence become one product, instead of a sum of one a step."""

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from fourbit_onnx.ops.sites import JOINED_WEIGHT_GRAD, ROUND_FLOAT16
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.passes.unlink import unlink
from fourbit_onnx.recipes.plan import Plan, Site
from fourbit_onnx.recipes.recipe import CLIPS, Quantizer

_DW = 2  # of the outputs of GemmGrad: dx, dx_clip, dw, dw_clip


def join_weight_grads(graph: gs.Graph, roles: Roles, plan: Plan) -> int:
    """Multiply the rows of all steps at once where one weight is read at every step.

    ============  ==========================================================================================
    before        ``d1 = Gemm(dy1, x1, transA=1);  d2 = Gemm(dy2, x2, transA=1);  dw = Sum(d1, d2)``
    after         ``dw = Gemm(Concat(dy1, dy2), Concat(x1, x2), transA=1)``;
                  fp16: of rounded rows, and rounded once; 4-bit: a ``GemmWeightGrad`` of the group, which
                  ``expand`` quantises as one tensor: one scale of dy for the layer, not one a step
    leaves alone  what is not of one group of ``roles.groups``; 4-bit sites whose weight gradient reads
                  codes that are made a step at a time: those of the input gradient, too (one phase for
                  both; of the mean of two phases, codes are made anew), or those of x with a scale of
                  that step's own (``minmax``); sites of other quantisers than most of their group
    ============  ==========================================================================================

    The rows of a step are few (the batch), and the result is as large as the weight. One product a step
    writes the weight's size as often as there are steps, and the sum reads it all again.
    """
    sites = {site.name: site for site in plan.sites}
    count = 0
    for total in list(graph.nodes):
        if not is_standard(total, "Sum"):
            continue
        found = [(tensor, _product(tensor, roles, sites)) for tensor in total.inputs]
        groups = {product[0]: None for _, product in found if product is not None}
        for number, group in enumerate(groups, 1):  # two where a sequence is read twice with one weight
            members = _alike(
                [(term, product[1]) for term, product in found if product and product[0] == group], sites
            )
            if len(members) > 1:
                name = f"{total.outputs[0].name}/joined" + (f"_{number}" if number > 1 else "")
                _join(graph, total, group, name, members)
                count += 1
    if count:
        tidy(graph)
    return count


def _product(tensor: gs.Tensor, roles: Roles, sites: dict[str, Site]) -> tuple[str, gs.Node] | None:
    """The group, and the product of rows that gives ``tensor``, a term of the gradient of a weight."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or len(tensor.outputs) != 1:
        return None
    if (node.domain, node.op) == (DOMAIN, ROUND_FLOAT16.name):
        node = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if node is not None and is_standard(node, "Gemm"):
        # The builder calls the gradients of a node after it.
        group = roles.groups.get(node.name.partition("_Grad/")[0])
        rows = node.attrs.get("transA", 0) == 1 and node.attrs.get("transB", 0) == 0
        return (group, node) if group and rows and len(node.inputs) == 2 else None
    if node is None or (node.domain, node.op) != (DOMAIN, "GemmGrad") or node.outputs[_DW] is not tensor:
        return None
    forward = _forward(node)
    site = sites[str(forward.attrs["site"])]
    return (site.group, node) if site.group and _joins(site, forward) else None


def _alike(
    members: Sequence[tuple[gs.Tensor, gs.Node]], sites: dict[str, Site]
) -> Sequence[tuple[gs.Tensor, gs.Node]]:
    """The most members whose weight gradients have equal quantisers: a step may have a recipe of its own."""
    kinds: dict[tuple[str, ...], list[tuple[gs.Tensor, gs.Node]]] = {}
    for term, node in members:
        quantizers: tuple[str, ...] = ()
        if node.domain == DOMAIN:
            points = sites[str(_forward(node).attrs["site"])].points
            quantizers = points["wgrad.x"], points["wgrad.dy"]
        kinds.setdefault(quantizers, []).append((term, node))
    return max(kinds.values(), key=len)


def _forward(gradient: gs.Node) -> gs.Node:
    return gradient.inputs[5].inputs[0]


def _joins(site: Site, forward: gs.Node) -> bool:
    """Whether codes of all steps at once are what the recipe asks for."""
    x, again = (Quantizer.parse(site.points[point]) for point in ("fwd.x", "wgrad.x"))
    dgrad, wgrad = (Quantizer.parse(site.points[point]) for point in ("dgrad.dy", "wgrad.dy"))
    own_dy = dgrad != wgrad or wgrad.stochastic or wgrad.both_phases
    same_x = x.scale in CLIPS or again != x or again.blocked  # a clip is that of all steps
    like_lstm = (forward.attrs.get("trans_a", 0), forward.attrs.get("trans_b", 0)) == (0, 1)
    return own_dy and same_x and like_lstm


def _join(
    graph: gs.Graph, total: gs.Node, group: str, name: str, members: Sequence[tuple[gs.Tensor, gs.Node]]
) -> None:
    terms, (term, first) = {id(term) for term, _ in members}, members[0]
    left, right = (
        _rows(graph, f"{name}.{side}", [node.inputs[place] for _, node in members])
        for place, side in enumerate(("left", "right"))
    )
    dw = gs.Variable(name, term.dtype, term.shape)
    rest = [tensor for tensor in total.inputs if id(tensor) not in terms]
    if rest:
        total.inputs = [dw, *rest]
    else:
        dw = total.outputs[0]
        unlink(total)
    if first.domain == DOMAIN:
        attributes = {**_forward(first).attrs, "group": group}
        operands = [right, *first.inputs[2:5], left]
        graph.nodes.append(gs.Node(JOINED_WEIGHT_GRAD, name, attributes, operands, [dw], domain=DOMAIN))
        for _, node in members:
            node.outputs[_DW] = gs.Variable.empty()
        return
    rounding = term.inputs[0]
    if rounding is not first:
        exact = gs.Variable(f"{name}.float32", dw.dtype, dw.shape)
        graph.nodes.append(gs.Node(rounding.op, f"{name}/round", {}, [exact], [dw], domain=DOMAIN))
        dw = exact
    graph.nodes.append(gs.Node("Gemm", name, dict(first.attrs), [left, right], [dw]))


def _rows(graph: gs.Graph, name: str, parts: Sequence[gs.Tensor]) -> gs.Tensor:
    """The rows of all parts, one under the other."""
    shape = parts[0].shape
    rows = gs.Variable(name, parts[0].dtype, None if shape is None else [f"{name}.rows", *shape[1:]])
    graph.nodes.append(gs.Node("Concat", f"{name}/rows", {"axis": 0}, list(parts), [rows]))
    return rows
