"""The compiler on one page: from an exported model to the four graphs."""

import copy
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.shape_inference
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.artifacts.origin import is_exported, refuse_a_graph_of_a_folder
from fourbit_onnx.errors import RecipeError, as_wrong_use
from fourbit_onnx.passes.added_sums import added_sums
from fourbit_onnx.passes.attach_loss import attach_loss
from fourbit_onnx.passes.average_pool import average_pool
from fourbit_onnx.passes.biased_products import biased_products
from fourbit_onnx.passes.calibration import calibration
from fourbit_onnx.passes.clip_masks import clip_masks
from fourbit_onnx.passes.counted_dropout import counted_dropout
from fourbit_onnx.passes.differentiate import check_trainable, differentiate
from fourbit_onnx.passes.evaluation_form import evaluation_form
from fourbit_onnx.passes.exact_batch_norm import exact_batch_norm
from fourbit_onnx.passes.expand import expand
from fourbit_onnx.passes.expanded_where import expanded_where
from fourbit_onnx.passes.explicit_casts import explicit_casts
from fourbit_onnx.passes.explicit_pads import explicit_pads
from fourbit_onnx.passes.find_parameters import find_parameters
from fourbit_onnx.passes.finish import finish
from fourbit_onnx.passes.flat_convolutions import flat_convolutions
from fourbit_onnx.passes.fold_relu import fold_relu
from fourbit_onnx.passes.folded_integers import folded_integers
from fourbit_onnx.passes.gathered_flips import gathered_flips
from fourbit_onnx.passes.gathered_pads import gathered_pads
from fourbit_onnx.passes.gathered_resizes import gathered_resizes
from fourbit_onnx.passes.join_weight_grads import join_weight_grads
from fourbit_onnx.passes.loss_scaling import scale_loss, unscale_gradients
from fourbit_onnx.passes.lower_gru import lower_gru
from fourbit_onnx.passes.lower_lstm import lower_lstm
from fourbit_onnx.passes.lstm_cell_grads import lstm_cell_grads
from fourbit_onnx.passes.lstm_cells import lstm_cells
from fourbit_onnx.passes.malformed_biases import malformed_biases
from fourbit_onnx.passes.optimizer import Optimizer, optimizer_model
from fourbit_onnx.passes.ordered_gather_grad import ordered_gather_grad
from fourbit_onnx.passes.ordered_layer_norm import ordered_layer_norm
from fourbit_onnx.passes.ordered_softmax_grad import ordered_softmax_grad
from fourbit_onnx.passes.ordered_sum_rows import ordered_sum_rows
from fourbit_onnx.passes.pads_of_all_axes import pads_of_all_axes
from fourbit_onnx.passes.plain_einsum import plain_einsum
from fourbit_onnx.passes.plain_extremes import plain_extremes
from fourbit_onnx.passes.plain_gelu import plain_gelu
from fourbit_onnx.passes.plain_instance_norm import plain_instance_norm
from fourbit_onnx.passes.plain_prelu import plain_prelu
from fourbit_onnx.passes.plain_scatters import plain_scatters
from fourbit_onnx.passes.quantize import quantize
from fourbit_onnx.passes.rational_gelu import rational_gelu
from fourbit_onnx.passes.recompute import FORMS, recompute
from fourbit_onnx.passes.regular_matmul import regular_matmul
from fourbit_onnx.passes.relu_masks import relu_masks
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.select_sites import select_sites
from fourbit_onnx.passes.share_quantizers import share_quantizers
from fourbit_onnx.passes.shuffled_pixels import shuffled_pixels
from fourbit_onnx.passes.sliced_splits import sliced_splits
from fourbit_onnx.passes.standardize import standardize
from fourbit_onnx.passes.subpixel_convolutions import subpixel_convolutions
from fourbit_onnx.passes.training_form import training_form
from fourbit_onnx.passes.turn_codes import turn_codes
from fourbit_onnx.passes.unfold_convolutions import unfold_convolutions
from fourbit_onnx.passes.unread_masks import unread_masks
from fourbit_onnx.passes.unsplit_lstm_cells import unsplit_lstm_cells
from fourbit_onnx.passes.without_garbage_collection import without_garbage_collection
from fourbit_onnx.recipes.plan import Plan
from fourbit_onnx.recipes.recipe import Recipe

# Operators that ONNX Runtime cannot differentiate, or not well, by others; shapes are inferred afterwards.
WRITTEN_OUT = (
    average_pool,
    plain_prelu,
    plain_gelu,
    subpixel_convolutions,
    plain_instance_norm,
    shuffled_pixels,
    plain_einsum,
    plain_extremes,
    gathered_resizes,
    gathered_pads,
    gathered_flips,
    pads_of_all_axes,
    plain_scatters,
    expanded_where,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a conversion may be told.

    Attributes:
        recipe: The recipe for every site that ``settings`` does not name.
        loss: A key of ``attach_loss.LOSSES``.
        loss_output: The output that the loss reads; "" for the first.
        optimizer: The update rule.
        keep: Patterns of node or weight names whose sites stay in float32.
        settings: (pattern, recipe name) for single sites.
        freeze: Patterns of weight names that are not trained.
        initial_clip: First value of all PACT clips; 0: the trainer calibrates them on its first batches.
        recompute: Which inputs of batch normalisation the backward pass computes again, instead of keeping
            them, a key of ``recompute.FORMS``; the fp32 and fp16 graphs keep them anyway.
    """

    recipe: Recipe
    loss: str = "cross_entropy"
    loss_output: str = ""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    keep: Sequence[str] = ()
    settings: Sequence[tuple[str, str]] = ()
    freeze: Sequence[str] = ()
    initial_clip: float = 0.0
    recompute: str = "none"

    @as_wrong_use()
    def __post_init__(self) -> None:
        if not 0 <= self.initial_clip < math.inf:
            raise RecipeError(f"initial_clip is a number of at least 0, not {self.initial_clip}")
        if self.recompute not in FORMS:
            raise RecipeError(f"recompute is one of {', '.join(FORMS)}, not {self.recompute!r}")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The result: models by role, what is in them, and the first state."""

    training: onnx.ModelProto
    evaluation: onnx.ModelProto
    optimizer: onnx.ModelProto
    calibration: onnx.ModelProto | None
    manifest: Manifest
    plan: Plan
    state: dict[str, NDArray[np.generic]]


def prepare(model: onnx.ModelProto, freeze: Sequence[str] = ()) -> tuple[gs.Graph, Roles]:
    """The training-ready float graph without a loss, and what its tensors are for."""
    refuse_a_graph_of_a_folder(model)
    graph = standardize(model)
    malformed_biases(graph)
    training_form(graph)
    roles = find_parameters(graph, freeze)
    folded_integers(graph)
    lower_gru(graph, roles)
    lower_lstm(graph, roles)  # after find_parameters, which leaves its weights their names
    # After find_parameters, which knows weights by the operators that read them, and would train constants.
    while sum([rewrite(graph) for rewrite in WRITTEN_OUT]):  # the shapes of one may tell those of the next
        graph = inferred(graph)
    explicit_pads(graph)
    regular_matmul(graph)
    return graph, roles


@without_garbage_collection()
def build(model: onnx.ModelProto, options: Options) -> Compiled:
    """Run every pass once, in order.

    Raises:
        GraphError: The model cannot be trained; the message says what and why.
        RecipeError: A pattern or recipe fits nothing.
    """
    graph, roles = prepare(model, options.freeze)
    attach_loss(graph, roles, options.loss, options.loss_output)
    # Before the products are hidden in our own operators.
    check_trainable(graph, roles, exported=is_exported(model))
    plan = select_sites(graph, roles, options.recipe, options.keep, options.settings)

    unfold_convolutions(graph, plan)
    plain = _copy(graph)
    quantize(graph, roles, plan)
    flat_convolutions(graph)  # what is still a float Conv
    for clip in roles.clips:
        roles.values[clip] = np.array(options.initial_clip, np.float32)

    forward = _copy(graph)
    evaluation_form(forward)
    expand(forward, roles, plan)
    explicit_casts(forward)
    share_quantizers(forward)
    fold_relu(forward)
    unread_masks(forward)
    evaluation = finish(forward, "evaluation", [roles.loss, *roles.metrics.values(), *_own(forward, roles)])

    counted_dropout(graph, roles)  # the evaluation graph has none
    if any(site.precision == "fp16" for site in plan.sites):
        scale_loss(graph, roles)
    four_bit = any(site.precision == "4-bit" for site in plan.sites)
    if four_bit:  # the float models are the baselines
        lstm_cells(graph)
    sliced_splits(graph, roles)
    training_graph, gradients = differentiate(graph, roles)
    if roles.root != roles.loss:
        unscale_gradients(training_graph, roles, gradients)
    lstm_cell_grads(training_graph)
    unsplit_lstm_cells(training_graph)
    join_weight_grads(training_graph, roles, plan)
    expand(training_graph, roles, plan)
    explicit_casts(training_graph)
    share_quantizers(training_graph)
    fold_relu(training_graph)
    unread_masks(training_graph)
    recomputed = 0
    if four_bit:
        relu_masks(training_graph)
        clip_masks(training_graph)
        exact_batch_norm(training_graph)
        rational_gelu(training_graph)
        ordered_gather_grad(training_graph)
        ordered_layer_norm(training_graph)
        ordered_sum_rows(training_graph)
        ordered_softmax_grad(training_graph)
    added_sums(training_graph)  # after what looks for a Sum
    if four_bit:
        turn_codes(training_graph)
        recomputed = recompute(training_graph, FORMS[options.recompute])
        biased_products(training_graph)
    renamed = {output: f"{parameter}.grad" for parameter, output in gradients.items()}
    gradients = {parameter: f"{parameter}.grad" for parameter in gradients}
    state_outputs = [*roles.buffers.values(), *roles.quantizer_state.values()]
    outputs = [
        roles.loss,
        *roles.metrics.values(),
        *gradients.values(),
        *state_outputs,
        *filter(None, [roles.skip]),
    ]
    training = finish(training_graph, "training", outputs, renamed)

    optimizer, updates, moments = optimizer_model(roles, gradients, options.optimizer)
    clips: dict[str, str] = {}
    calibration_model = None
    if roles.clips:
        plain, clips = calibration(plain, roles)
        calibration_model = finish(plain, "calibration", list(clips.values()))
    manifest = Manifest(
        recipe=options.recipe.name,
        loss=options.loss,
        optimizer=options.optimizer.kind,
        inputs=roles.inputs,
        targets=roles.targets,
        outputs=roles.outputs,
        metrics=roles.metrics,
        parameters=roles.parameters,
        gradients=gradients,
        updates=updates,
        moments=moments,
        clips=clips,
        frozen=roles.frozen,
        buffers=roles.buffers,
        quantizer_state=roles.quantizer_state,
        loss_output=roles.loss,
        recomputed=recomputed,
        skip=roles.skip,
    )
    return Compiled(training, evaluation, optimizer, calibration_model, manifest, plan, roles.values)


def inferred(graph: gs.Graph) -> gs.Graph:
    """``graph`` with the shapes of all tensors."""
    proto = onnx.shape_inference.infer_shapes(gs.export_onnx(graph, do_type_check=False))
    return gs.import_onnx(proto)


def _own(graph: gs.Graph, roles: Roles) -> list[str]:
    """The model's own outputs that are still there (the loss may be one of them)."""
    present = {tensor.name for tensor in graph.outputs}
    return [name for name in roles.outputs if name in present and name != roles.loss]


def _copy(graph: gs.Graph) -> gs.Graph:
    return gs.import_onnx(copy.deepcopy(gs.export_onnx(graph, do_type_check=False)))
