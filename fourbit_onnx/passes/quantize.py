"""Sites of the plan become ``ai.fourbit`` operators with float edges, or FP16 products between roundings."""

import numpy as np
import onnx_graphsurgeon as gs

from fourbit_onnx.ops.sites import ROUND_FLOAT16
from fourbit_onnx.ops.text import DOMAIN
from fourbit_onnx.passes.roles import Roles, is_standard
from fourbit_onnx.passes.tidy import tidy
from fourbit_onnx.recipes.plan import Plan, Site
from fourbit_onnx.recipes.recipe import CLIPS, TRAINED_CLIPS, Quantizer


def quantize(graph: gs.Graph, roles: Roles, plan: Plan) -> int:
    """Put the plan into the graph.

    ============  ================================================================================
    before        ``y = Conv(x, w, bias)``, ``Gemm(x, w, bias)``, ``MatMul(x, w)`` at a site
    after         4-bit: ``p, link = ai.fourbit.Conv(x, x_clip, w, w_clip);  y = Add(p, bias)``;
                  fp16: every operand and the result through ``ai.fourbit.RoundFloat16``
    leaves alone  sites in float32
    ============  ================================================================================

    PACT clips become parameters, one for each tensor that is clipped, with the value 0: not yet calibrated;
    frozen ones where the scale rule of every site that reads the tensor is ``clip``.
    """
    nodes = {node.name: node for node in graph.nodes}
    builder = _Builder(graph, roles)
    count = 0
    for site in plan.sites:
        if site.precision == "4-bit":
            builder.four_bit(nodes[site.name], site)
        elif site.precision == "fp16":
            builder.half(nodes[site.name])
        else:
            continue
        count += 1
    if count:
        tidy(graph)
    return count


class _Builder:
    def __init__(self, graph: gs.Graph, roles: Roles) -> None:
        self.graph, self.roles = graph, roles
        self.clips: dict[str, gs.Variable] = {}
        self.no_clip = gs.Constant("no_clip", np.array(1, np.float32))

    def new(
        self,
        op: str,
        name: str,
        inputs: list[gs.Tensor],
        shape: object,
        dtype: object = np.float32,
        **attributes: object,
    ) -> gs.Variable:
        result = gs.Variable(name, dtype, shape)
        self.graph.nodes.append(gs.Node(op, name, dict(attributes), inputs, [result]))
        return result

    def clip(self, tensor: gs.Tensor, point: str, group: str = "") -> gs.Tensor:
        """The trained clip of ``tensor``, shared by all sites that read it, or by the sites of a group."""
        rule = Quantizer.parse(point).scale
        if rule not in CLIPS:
            return self.no_clip
        name = group or tensor.name
        if name not in self.clips:
            clip = gs.Variable(f"{name}.clip", np.float32, [])
            self.clips[name] = clip
            self.graph.inputs.append(clip)
            self.roles.frozen.append(clip.name)
            self.roles.clips[clip.name] = []
            self.roles.values[clip.name] = np.array(0, np.float32)
        found = self.clips[name].name
        if rule in TRAINED_CLIPS and found in self.roles.frozen:  # by this site, whatever those before said
            self.roles.frozen.remove(found)
            self.roles.parameters.append(found)
        clipped = self.roles.clips[found]
        if tensor.name not in clipped:
            clipped.append(tensor.name)
        return self.clips[name]

    def four_bit(self, node: gs.Node, site: Site) -> None:
        x, w, *rest = node.inputs
        output = node.outputs[0]
        node.outputs.clear()
        attributes: dict[str, object] = {"site": site.name}
        if is_standard(node, "Conv"):
            attributes |= {key: node.attrs[key] for key in ("strides", "pads", "dilations", "group")}
        elif is_standard(node, "Gemm"):
            attributes |= {"trans_a": node.attrs.get("transA", 0), "trans_b": node.attrs.get("transB", 0)}
        y = gs.Variable(f"{site.name}.product", np.float32, output.shape)
        link = gs.Variable(f"{site.name}.link", np.float32, [])
        operands = [x, self.clip(x, site.points["fwd.x"], site.group), w, self.clip(w, site.points["fwd.w"])]
        self.graph.nodes.append(gs.Node(node.op, site.name, attributes, operands, [y, link], domain=DOMAIN))
        node.name = f"{site.name}.replaced"
        if (alpha := node.attrs.get("alpha", 1.0)) != 1.0:
            factor = gs.Constant(f"{site.name}.alpha", np.array(alpha, np.float32))
            y = self.new("Mul", f"{site.name}.scaled", [y, factor], output.shape)
        if rest and not rest[0].is_empty():
            y = self.new("Add", f"{site.name}.biased", [y, self._bias(node, site, rest[0])], output.shape)
        y.inputs[0].outputs[0] = output

    def _bias(self, node: gs.Node, site: Site, bias: gs.Tensor) -> gs.Tensor:
        if is_standard(node, "Conv"):
            shape = [1, -1] + [1] * (len(node.attrs["kernel_shape"]))
            column = gs.Constant(f"{site.name}.bias_shape", np.array(shape, np.int64))
            channels = bias.shape[0] if bias.shape else None
            return self.new("Reshape", f"{site.name}.bias", [bias, column], [1, channels, *shape[2:]])
        if (beta := node.attrs.get("beta", 1.0)) != 1.0:
            factor = gs.Constant(f"{site.name}.beta", np.array(beta, np.float32))
            return self.new("Mul", f"{site.name}.bias", [bias, factor], bias.shape)
        return bias

    def half(self, node: gs.Node) -> None:
        node.inputs = [self._rounded(tensor, f"{node.name}.in{i}") for i, tensor in enumerate(node.inputs)]
        output = node.outputs[0]
        node.outputs[0] = gs.Variable(f"{node.name}.float32", np.float32, output.shape)
        rounded = self._rounded(node.outputs[0], f"{node.name}.out")
        rounded.inputs[0].outputs[0] = output

    def _rounded(self, tensor: gs.Tensor, name: str) -> gs.Tensor:
        if tensor.is_empty():
            return tensor
        rounded = gs.Variable(f"{name}.rounded", np.float32, tensor.shape)
        self.graph.nodes.append(
            gs.Node(ROUND_FLOAT16.name, f"{name}/round", {}, [tensor], [rounded], domain=DOMAIN)
        )
        return rounded
