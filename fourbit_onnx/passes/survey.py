"""What a conversion would do with a model, without doing it."""

import dataclasses
from collections.abc import Collection

import onnx

from fourbit_onnx.artifacts.origin import EXPORTED, is_exported
from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.differentiate import untrainable
from fourbit_onnx.passes.pipeline import Options, prepare
from fourbit_onnx.passes.recurrent_form import RECURRENT, recurrent_obstacle
from fourbit_onnx.passes.remedies import OTHERWISE, REMEDIES
from fourbit_onnx.passes.select_sites import select_sites
from fourbit_onnx.recipes.plan import Plan
from fourbit_onnx.recipes.recipe import Quantizer


@dataclasses.dataclass(frozen=True)
class Untrainable:
    """An operator of the model that has no gradient on the CPU.

    Attributes:
        op: Its name, with the domain if that is not the standard one.
        nodes: Its nodes between a weight and the output.
        remedy: What to do.
    """

    op: str
    nodes: list[str]
    remedy: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        plan: The sites, and what the recipe would do with each.
        untrainable: Operators without a gradient; the model is convertible if there are none.
        parameters: Number of trained weights, in elements.
        warnings: What will probably disappoint, a sentence each.
    """

    plan: Plan
    untrainable: list[Untrainable]
    parameters: int
    warnings: list[str]


def survey(model: onnx.ModelProto, options: Options) -> Survey:
    """Look at ``model`` as ``build`` would.

    Raises:
        GraphError: It cannot be made a training graph, whatever the recipe.
        RecipeError: A pattern or recipe fits nothing.
    """
    graph, roles = prepare(model, options.freeze)
    roles.root = options.loss_output or roles.outputs[0]
    if roles.root not in roles.outputs:
        raise GraphError(f"the model has no output {roles.root!r}; there are: {', '.join(roles.outputs)}")
    found: dict[tuple[str, str], list[str]] = {}
    for node in untrainable(graph, roles):
        op = f"{node.domain}::{node.op}" if node.domain else node.op
        remedy = recurrent_obstacle(node) if op in RECURRENT else REMEDIES.get(op, OTHERWISE)
        if is_exported(model):
            remedy = "convert the model that this one was exported from"
        found.setdefault((op, remedy), []).append(node.name)
    plan = select_sites(graph, roles, options.recipe, options.keep, options.settings)
    parameters = sum(roles.values[name].size for name in roles.parameters)
    operators = [Untrainable(op, nodes, remedy) for (op, remedy), nodes in found.items()]
    said = warnings(plan, {node.op for node in graph.nodes})
    if operators and is_exported(model):
        said.insert(0, f"the model cannot be trained: {EXPORTED}")
    return Survey(plan, operators, parameters, said)


def warnings(plan: Plan, operators: Collection[str]) -> list[str]:
    """What will probably disappoint about training ``plan``, a sentence each.

    Args:
        plan: The plan.
        operators: Names of the operators in the graph, before or after it was converted.
    """
    found = []
    if not plan.sites:
        found.append("the model has no multiply-accumulate operator (Conv, Gemm, MatMul) of float32")
    elif plan.recipe not in ("fp32", "fp16") and all(site.precision != "4-bit" for site in plan.sites):
        found.append("no site runs in 4 bits")
    if any(Quantizer.parse(text).blocked for site in plan.sites for text in site.points.values()):
        found.append(
            "a scale for each block of elements: activations stay in float32 for the backward pass, which "
            "saves no memory, and the exported model is larger and slower than with ibm2020"
        )
    convolutions = [site for site in plan.sites if site.op == "Conv"]
    if len(convolutions) > 1 and not any("Norm" in operator for operator in operators):
        found.append(
            "the model has convolutions but no normalisation, and may not learn: if the exporter folded "
            "BatchNormalization away, export again with torch.onnx.export(..., dynamo=True, optimize=False)"
        )
    return found
