"""A one-expert checkpoint's network as ONNX graphs, for ONNX Runtime on a CPU; what they compute stands in model.py.

At a batch of some dozen rows plain torch spends longer on starting operations than on multiplying. Here a norm is one
operation, its scale goes into the product behind it, and what reads the same rows is one product: q, k and v; the
gates and ups of the dense MLP and of the only expert (whose routing weight is the softmax of one number, 1).

Of dynamic size: b canvases or texts, n rows of each, p keys of the prefix that all share, f keys of each one's own that
are older than its rows. Operations: onnx.ai/onnx/operators, and ONNX Runtime's docs/ContribOperators.md (MICROSOFT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from midspan.engine.backends.folding import Joined, condition_gate_up
from midspan.engine.model import Attention, DiffusionGemma, Layer, LayerShape
from midspan.kernels.int8 import MIDDLE, STEPS, int8_rows

MICROSOFT = "com.microsoft"
OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1))
IR_VERSION = 9


class Rows(NamedTuple):
    """What products read: a tensor's name, and in int8 that of the largest number of each row."""

    name: str
    top: str


class Graph:
    """Operations in the order that they run in; tensors are names."""

    def __init__(self, *, int8: bool, eps: float) -> None:
        self._int8, self._eps = int8, eps
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def model(self) -> bytes:
        """The graph as ONNX Runtime reads it."""
        graph = helper.make_graph(self._nodes, "midspan", self._inputs, self._outputs, [*self._constants.values()])
        whole: bytes = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION).SerializeToString()
        return whole

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """A float32 tensor that is given."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """A float32 tensor that is wanted."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, name: str, value: torch.Tensor | Sequence[int]) -> str:
        """Numbers as float32, or int64 that shapes are made of."""
        if isinstance(value, torch.Tensor):
            array = value.detach().float().contiguous().numpy()
        else:
            array = np.array(value, np.int64)
        return self._keep(name, array)

    def _keep(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """One operation; returns its first output."""
        self._nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def norm(self, x: str, scale: str, out: str) -> str:
        """Root-mean-square norm over the last axis, times a scale."""
        return self.op("SimplifiedLayerNormalization", [x, scale], out, axis=-1, epsilon=self._eps, stash_type=1)

    def norm_sum(self, x: str, other: str, scale: str, out: str, sum_: str = "") -> str:
        """The norm of a sum, and the sum itself where it has a name."""
        outputs = (out, "", "", sum_) if sum_ else (out,)
        kind = "SkipSimplifiedLayerNormalization"
        return self.op(kind, [x, other, scale], *outputs, domain=MICROSOFT, epsilon=self._eps)

    def rows(self, x: str, out: str) -> Rows:
        """Rows [.., d] for products: in int8 each over its largest number, so that no row knows another.

        A row of zeros becomes some row times zero.
        """
        if not self._int8:
            return Rows(x, "")
        self._keep("middle", np.array(MIDDLE, np.uint8))
        step = self.constant("step", torch.tensor(1 / STEPS))
        top = self.op("ReduceMax", [self.op("Abs", [x], f"{out}.abs")], f"{out}.top", axes=[-1], keepdims=1)
        return Rows(self.op("QuantizeLinear", [self.op("Div", [x, top], f"{out}.unit"), step, "middle"], out), top)

    def normed_rows(self, x: str, ones: str, out: str) -> Rows:
        """Rows, normed, for products that are normed themselves: in int8 no row is longer than another as it is."""
        return self.rows(x if self._int8 else self.norm(x, ones, f"{out}.normed"), out)

    def product(self, x: Rows, weight: torch.Tensor, out: str, *, normed: bool = False) -> str:
        """Rows times weight [n, d] transposed; in int8 its rows have a scale each.

        `normed` leaves the rows of the result as long as they happen to be, for a norm that is next.
        """
        name = f"{out}.weight"
        if not self._int8:
            return self.op("MatMul", [x.name, self.constant(name, weight.t())], out)
        rounded, scale = int8_rows(weight)
        self._keep(name, rounded.t().contiguous().numpy())
        self._keep(f"{out}.zero", np.zeros(len(scale), np.int8))
        inputs = [x.name, name, "step", self.constant(f"{out}.scale", scale), "middle", f"{out}.zero"]
        if normed:
            return self.op("MatMulIntegerToFloat", inputs, out, domain=MICROSOFT)
        raw = self.op("MatMulIntegerToFloat", inputs, f"{out}.raw", domain=MICROSOFT)
        return self.op("Mul", [raw, x.top], out)

    def gated(self, x: Rows, gate: torch.Tensor, up: torch.Tensor, out: str, *, normed: bool = False) -> str:
        """gelu (its tanh form) of one product times another, which may be as long as it happens to be: see product."""
        gelu = self.op("FastGelu", [self.product(x, gate, f"{out}.gate")], f"{out}.gelu", domain=MICROSOFT)
        return self.op("Mul", [gelu, self.product(x, up, f"{out}.up", normed=normed)], out)


def layers_graph(model: DiffusionGemma, *, int8: bool) -> bytes:
    """The stack: x [b, n, d] -> hidden [b, n, d] behind the last norm, and keys and values k.L, v.L [H, b, n, D].

    Also given: scalars [L]; by layer prefix.k.L, prefix.v.L [H, p, D] and own.k.L, own.v.L [H, b, f, D]; by kind of
    layer (`kinds`) cos.K, sin.K [n, D / 2] and bias.K [1, 1 or b, n, p + n + f], which is added to the scores.
    """
    config, of_kind = model.config, kinds(model.config.layers)
    graph, size, layers = Graph(int8=int8, eps=config.eps), config.hidden_size, len(config.layers)
    x, scalars = graph.input("x", ("b", "n", size)), graph.input("scalars", (layers,))
    for number, shape in enumerate(dict.fromkeys(config.layers)):
        for table in ("cos", "sin"):
            graph.input(f"{table}.{number}", ("n", shape.head_dim // 2))
        graph.input(f"bias.{number}", (1, "s", "n", "t"))
    ones = graph.constant("ones", torch.ones(size))
    graph.constant("start", (0,))
    _shapes(graph, config.heads, config.layers[0].head_dim)
    graph.op("Split", [scalars], *(f"scalar.{number}" for number in range(layers)), axis=0)
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        x = _layer(graph, layer, x, ones, number, of_kind[number])
    graph.norm(x, graph.constant("norm", model.norm.weight), "hidden")
    graph.output("hidden", ("b", "n", size))
    return graph.model()


def kinds(layers: Sequence[LayerShape]) -> list[int]:
    """By layer the number of its kind: sliding and full ones turn and see differently."""
    distinct = list(dict.fromkeys(layers))
    return [distinct.index(shape) for shape in layers]


def head_graph(model: DiffusionGemma, *, int8: bool) -> bytes:
    """The vocabulary: hidden [r, d] -> soft-capped logits [r, V]."""
    config = model.config
    graph = Graph(int8=int8, eps=config.eps)
    hidden, cap = graph.input("hidden", ("r", config.hidden_size)), graph.constant("cap", torch.tensor(config.softcap))
    raw = graph.product(graph.rows(hidden, "rows"), model.embed_tokens.weight, "raw")
    graph.op("Mul", [graph.op("Tanh", [graph.op("Div", [raw, cap], "capped")], "tanh"), cap], "logits")
    graph.output("logits", ("r", config.vocab_size))
    return graph.model()


def condition_graph(model: DiffusionGemma, *, int8: bool) -> bytes:
    """Self-conditioning: embeddings and soft embeddings [b, n, d] -> what the layers read, x [b, n, d]."""
    config, parts = model.config, model.self_conditioning
    graph, shape = Graph(int8=int8, eps=config.eps), ("b", "n", config.hidden_size)
    embedded, soft = graph.input("embedded", shape), graph.input("soft", shape)
    ones = graph.constant("ones", torch.ones(config.hidden_size))
    inner = graph.gated(graph.rows(graph.norm(soft, ones, "normed"), "rows"), *condition_gate_up(parts), "inner")
    signal = graph.product(graph.rows(inner, "inner.rows"), parts.down_proj.weight, "signal")
    graph.norm_sum(signal, embedded, ones, "x")
    graph.output("x", shape)
    return graph.model()


def soft_graph(model: DiffusionGemma) -> bytes:
    """Probabilities [r, V] -> expected embeddings [r, d]; never in int8, which has no room for small ones."""
    config = model.config
    graph = Graph(int8=False, eps=config.eps)
    probabilities = graph.input("probabilities", ("r", config.vocab_size))
    embeddings = model.embed(torch.arange(config.vocab_size))
    graph.product(graph.rows(probabilities, "rows"), embeddings.t(), "soft")
    graph.output("soft", ("r", config.hidden_size))
    return graph.model()


def _shapes(graph: Graph, heads: int, size: int) -> None:
    """The shapes that rows are seen in, from those of x and of the first layer's keys."""
    for name, value in (("first", (1,)), ("third", (2,)), ("two", (0, 1)), ("H", (heads,)), ("D", (size,))):
        graph.constant(name, value)
    graph.constant("by_head", (0, 0, -1, size))
    graph.constant("joined", (0, 0, heads * size))
    graph.constant("flat", (heads, -1, size))
    graph.op("Gather", [graph.op("Shape", ["x"], "x.shape"), "two"], "b_n", axis=0)
    graph.op("Gather", [graph.op("Shape", ["prefix.k.0"], "prefix.shape"), "first"], "p", axis=0)
    graph.op("ReduceProd", ["b_n"], "rows", keepdims=1)
    graph.op("Concat", ["H", "b_n", "p"], "as_scores", axis=0)
    graph.op("Concat", ["H", "b_n", "D"], "as_values", axis=0)
    graph.op("Concat", ["H", "rows", "p"], "as_rows", axis=0)


def _layer(graph: Graph, layer: Layer, x: str, ones: str, number: int, kind: int) -> str:
    """model.Layer; returns the name of its x."""
    at, dense, joined = f"l{number}", layer.mlp.down_proj.weight, Joined.of(layer)
    rows = graph.normed_rows(x, ones, f"{at}.attn.in")
    attended = _attention(graph, layer.self_attn, joined.qkv, rows, number, kind)
    scaled = graph.norm(attended, graph.constant(f"{at}.after", layer.post_attention_layernorm.weight), f"{at}.o")
    graph.norm_sum(scaled, x, ones, f"{at}.mid", f"{at}.x")
    inner = graph.gated(graph.rows(f"{at}.mid", f"{at}.mid.rows"), joined.gates, joined.ups, f"{at}.inner", normed=True)
    sizes = graph.constant(f"{at}.sizes", (dense.shape[1], joined.expert_down.shape[1]))
    graph.op("Split", [inner, sizes], f"{at}.dense.in", f"{at}.expert.in", axis=-1)
    sides = []
    for side, weight, scale in (
        ("dense", dense, layer.post_feedforward_layernorm_1.weight),
        ("expert", joined.expert_down, layer.post_feedforward_layernorm_2.weight),
    ):
        rows = graph.rows(f"{at}.{side}.in", f"{at}.{side}.rows")
        out = graph.product(rows, weight, f"{at}.{side}", normed=True)
        sides.append(graph.norm(out, graph.constant(f"{at}.{side}.after", scale), f"{at}.{side}.normed"))
    outer = graph.constant(f"{at}.outer", layer.post_feedforward_layernorm.weight)
    mixed = graph.norm_sum(sides[0], sides[1], outer, f"{at}.mixed")
    return graph.op("Mul", [graph.op("Add", [f"{at}.x", mixed], f"{at}.sum"), f"scalar.{number}"], f"{at}.out")


def _attention(graph: Graph, parts: Attention, qkv: torch.Tensor, rows: Rows, number: int, kind: int) -> str:
    """model.Attention over normed rows; keys and values become outputs. Heads come first, so that none is copied."""
    at, size = f"l{number}.attn", parts.head_dim
    heads = len(parts.q_proj.weight) // size
    raw = graph.product(rows, qkv, f"{at}.qkv", normed=True)
    by_head = graph.op("Reshape", [raw, "by_head"], f"{at}.by_head")
    first = graph.op("Transpose", [by_head], f"{at}.first", perm=[2, 0, 1, 3])
    normed = graph.norm(first, graph.constant(f"{at}.ones", torch.ones(size)), f"{at}.normed")
    graph.op("Split", [normed, graph.constant(f"{at}.split", (2 * heads, heads))], f"{at}.qk", f"v.{number}", axis=0)
    scales = torch.stack((parts.q_norm.weight, parts.k_norm.weight)).repeat_interleave(heads, dim=0)
    scaled = graph.op("Mul", [f"{at}.qk", graph.constant(f"{at}.scales", scales[:, None, None])], f"{at}.scaled")
    turned = [scaled, "start", f"cos.{kind}", f"sin.{kind}"]
    graph.op("RotaryEmbedding", turned, f"{at}.turned", domain=MICROSOFT)
    graph.op("Split", [f"{at}.turned"], f"{at}.q", f"k.{number}", axis=0)
    mixed = _attend(graph, at, number, kind, heads, size)
    flat = graph.op("Reshape", [graph.op("Transpose", [mixed], f"{at}.t", perm=[1, 2, 0, 3]), "joined"], f"{at}.flat")
    return graph.product(graph.rows(flat, f"{at}.rows"), parts.o_proj.weight, f"{at}.out", normed=True)


def _attend(graph: Graph, at: str, number: int, kind: int, heads: int, size: int) -> str:
    """Scores over the prefix, of all rows at once, and over each one's own keys; their softmax times the values."""
    for name in "kv":
        graph.input(f"prefix.{name}.{number}", (heads, "p", size))
        graph.input(f"own.{name}.{number}", (heads, "b", "f", size))
        graph.output(f"{name}.{number}", (heads, "b", "n", size))
        graph.op("Concat", [f"{name}.{number}", f"own.{name}.{number}"], f"{at}.{name}", axis=2)
    flat = graph.op("Reshape", [f"{at}.q", "flat"], f"{at}.q_rows")
    before = graph.op("FusedMatMul", [flat, f"prefix.k.{number}"], f"{at}.before", domain=MICROSOFT, transB=1)
    before = graph.op("Reshape", [before, "as_scores"], f"{at}.before.b", allowzero=1)
    own = graph.op("FusedMatMul", [f"{at}.q", f"{at}.k"], f"{at}.own", domain=MICROSOFT, transB=1)
    scores = graph.op("Concat", [before, own], f"{at}.scores", axis=3)
    weights = graph.op("Softmax", [graph.op("Add", [scores, f"bias.{kind}"], f"{at}.biased")], f"{at}.soft", axis=-1)
    if number == 0:
        graph.op("Gather", [graph.op("Shape", [f"{at}.k"], "own.shape"), "third"], "n_f", axis=0)
        graph.op("Concat", ["p", "n_f"], "p_n_f", axis=0)
    graph.op("Split", [weights, "p_n_f"], f"{at}.wp", f"{at}.wo", axis=3)
    seen = graph.op("Reshape", [f"{at}.wp", "as_rows"], f"{at}.wp.rows", allowzero=1)
    seen = graph.op("MatMul", [seen, f"prefix.v.{number}"], f"{at}.seen")
    seen = graph.op("Reshape", [seen, "as_values"], f"{at}.seen.b")
    return graph.op("Add", [seen, graph.op("MatMul", [f"{at}.wo", f"{at}.v"], f"{at}.mixed")], f"{at}.values")
