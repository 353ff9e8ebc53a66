"""DiffusionGemma in ONNX Runtime: the verbs of model.py over the graphs of onnx_graph.py, for one expert on a CPU.

Chosen once, at load. int8 where the weights are stored so and the CPU multiplies it in one instruction, else float32.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from midspan.engine.backends.onnx_graph import condition_graph, head_graph, layers_graph, soft_graph
from midspan.engine.backends.trie import Tree
from midspan.engine.cache import Cache
from midspan.engine.model import DiffusionGemma, ModelConfig, product_threads
from midspan.engine.weights.load import Uninitialised

Array = npt.NDArray[np.float32]
Pairs = list[tuple[Array, Array]]
"""Keys and values by layer."""
Sees = Callable[[int | None], torch.Tensor]
"""Layer window -> boolean [1 or B, 1 or N, all positions of the cache, N new rows and F older ones]."""

# Added to the scores of what may not be seen; finite, so that a row that sees nothing is no row of NaN.
UNSEEN = -1e9
# A cache's keys are all given, seen or not: so many more than are valid at most, and so many when it is laid out anew.
MOST_SPARE, SPARE, STEP = 128, 32, 32


def multiplies_int8() -> bool:
    """Whether four int8 products are summed in one instruction: VNNI, or the dot products of every 64-bit ARM now sold.

    Older x86 sums pairs in 16 bits, which overflow.
    """
    return platform.machine().lower() in ("aarch64", "arm64") or torch.cpu._is_vnni_supported()


class OnnxGemma(DiffusionGemma):
    """DiffusionGemma whose products run in ONNX Runtime; `of` makes it of one whose weights are read."""

    own_threads = True
    _layers: ort.InferenceSession
    _head: ort.InferenceSession
    _condition: ort.InferenceSession
    _soft: ort.InferenceSession

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.int8 = False
        self._wanted = ["hidden", *(f"{name}.{layer}" for layer in range(len(config.layers)) for name in "kv")]
        self._scalars: dict[bool, Array] = {}
        self._tables: list[tuple[torch.Tensor, torch.Tensor]] = []
        # Keys and values [H, B, width, D] by layer, of the canvases that were denoised last.
        self._canvases: Pairs = []

    @classmethod
    @torch.no_grad()
    def of(cls, model: DiffusionGemma, *, int8: bool) -> OnnxGemma:
        """The same network; of the other's weights only the embeddings are kept."""
        with torch.device("meta"), Uninitialised():
            made = cls(model.config)
        made.int8, made.embed_tokens, made.embed_scale = int8, model.embed_tokens, model.embed_scale
        made.requires_grad_(False)
        made._layers = _session(layers_graph(model, int8=int8))
        made._head = _session(head_graph(model, int8=int8))
        made._condition = _session(condition_graph(model, int8=int8))
        made._soft = _session(soft_graph(model))
        for encoder in (False, True):
            made._scalars[encoder] = torch.cat(model.scalars(encoder=encoder)).float().numpy()
        return made

    @property
    def threads(self) -> int:
        """See DiffusionGemma."""
        return product_threads()

    def new_cache(self, capacity: int = 0) -> Cache:
        """See DiffusionGemma; its room comes with the first text, as all of it is read."""
        return super().new_cache(0)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        (out,) = self._head.run(["logits"], {"hidden": rows.numpy()})
        return torch.from_numpy(out).view(*hidden.shape[:-1], -1)

    def soft_embed(self, probabilities: torch.Tensor) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = probabilities.reshape(-1, probabilities.shape[-1])
        (out,) = self._soft.run(["soft"], {"probabilities": rows.numpy()})
        return torch.from_numpy(out).view(*probabilities.shape[:-1], -1)

    def prefill(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = ids.shape[1]
        cache.fit(cache.length + rows, STEP, SPARE, MOST_SPARE)
        sees = torch.ones(rows, rows, dtype=torch.bool).tril()
        hidden, own = self._causal_read(ids, torch.arange(rows), sees, cache)
        self._add(cache, own)
        return hidden

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """See DiffusionGemma; what begins alike is read once."""
        tree = Tree.of(texts)
        return self._causal_read(tree.ids[None], tree.depths, tree.sees, cache)[0][0], tree.rows

    def denoise(
        self,
        ids: torch.Tensor,
        cache: Cache,
        soft: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        *,
        frozen_rows: int = 0,
    ) -> torch.Tensor:
        """See DiffusionGemma."""
        (batch, rows), embedded = ids.shape, self.embed(ids)
        signal = torch.zeros_like(embedded) if soft is None else soft
        (x,) = self._condition.run(["x"], {"embedded": embedded.numpy(), "soft": signal.numpy()})
        places = torch.arange(cache.whole(0)[0].shape[2])
        own = torch.ones(1, rows + frozen_rows, dtype=torch.bool) if valid is None else valid

        def sees(window: int | None) -> torch.Tensor:
            first = 0 if window is None else cache.length - window + 1
            before = (places < cache.length) & (places >= first)
            return torch.cat((before.expand(len(own), -1), own), dim=1)[:, None]

        last = slice(rows, rows + frozen_rows)
        frozen = [(keys[:, :, last], values[:, :, last]) for keys, values in self._canvases] if frozen_rows else None
        older = frozen or self._none(batch)
        positions = torch.arange(cache.length, cache.length + rows)
        hidden, new = self._read(x, positions, cache, sees, older, encoder=False)
        if frozen_rows:
            for layer, pair in enumerate(new):
                for old, fresh in zip(self._canvases[layer], pair, strict=True):
                    old[:, :, :rows] = fresh
        else:
            self._canvases = new
        return hidden

    def keep(self, cache: Cache, rows: torch.Tensor, width: int) -> None:
        """See DiffusionGemma."""
        chosen = rows.numpy()
        self._canvases = [(keys[:, chosen], values[:, chosen]) for keys, values in self._canvases]

    def branch(
        self, ids: torch.Tensor, place: int, cache: Cache, sees: Mapping[int | None, torch.Tensor]
    ) -> torch.Tensor:
        """See DiffusionGemma."""
        rows = ids.shape[1]
        cache.fit(cache.length + rows, STEP, SPARE, MOST_SPARE)
        void = torch.zeros(rows, cache.whole(0)[0].shape[2] - cache.length, dtype=torch.bool)

        def whole(window: int | None) -> torch.Tensor:
            old, own = sees[window][:, : cache.length], sees[window][:, cache.length :]
            return torch.cat((old, void, own), dim=1)[None]

        x, positions = self.embed(ids).numpy(), torch.full((rows,), place)
        hidden, new = self._read(x, positions, cache, whole, self._none(1), encoder=True)
        self._add(cache, new)
        return hidden

    def _causal_read(
        self, ids: torch.Tensor, depths: torch.Tensor, own: torch.Tensor, cache: Cache
    ) -> tuple[torch.Tensor, Pairs]:
        """Ids [1, N] at `depths` [N] behind the cache; `own` [N, N] says which of them each may see."""
        positions, places = cache.length + depths, torch.arange(cache.whole(0)[0].shape[2])
        before = places < cache.length

        def sees(window: int | None) -> torch.Tensor:
            if window is None:
                return torch.cat((before.expand(len(depths), -1), own), dim=1)[None]
            near = positions[:, None] - torch.cat((places, positions)) < window
            return (torch.cat((before.expand(len(depths), -1), own), dim=1) & near)[None]

        return self._read(self.embed(ids).numpy(), positions, cache, sees, self._none(1), encoder=True)

    def _read(
        self, x: Array, positions: torch.Tensor, cache: Cache, sees: Sees, older: Pairs, *, encoder: bool
    ) -> tuple[torch.Tensor, Pairs]:
        """Rows x [B, N, d] at positions [N] -> hidden [B, N, d], and their keys and values [H, B, N, D] by layer."""
        given: dict[str, Array] = {"x": x, "scalars": self._scalars[encoder]}
        last = int(positions.max())
        biases: dict[int | None, Array] = {}
        for number, shape in enumerate(dict.fromkeys(self.config.layers)):
            cos, sin = self._turns(number, last + 1)
            given[f"cos.{number}"], given[f"sin.{number}"] = cos[positions].numpy(), sin[positions].numpy()
            # A window that all of it fits in is none.
            window = None if shape.window is not None and last < shape.window else shape.window
            if window not in biases:
                seen = sees(shape.window)[None]
                biases[window] = torch.zeros(seen.shape).masked_fill_(~seen, UNSEEN).numpy()
            given[f"bias.{number}"] = biases[window]
        for layer, (keys, values) in enumerate(older):
            before = cache.whole(layer)
            given[f"prefix.k.{layer}"], given[f"prefix.v.{layer}"] = before[0][0].numpy(), before[1][0].numpy()
            given[f"own.k.{layer}"], given[f"own.v.{layer}"] = keys, values
        hidden, *new = self._layers.run(self._wanted, given)
        return torch.from_numpy(hidden), list(zip(new[::2], new[1::2], strict=True))

    def _turns(self, number: int, least: int) -> tuple[torch.Tensor, torch.Tensor]:
        """RoPE's cos and sin [M, D / 2] of a kind of layer, for `least` positions or more."""
        if not self._tables or len(self._tables[number][0]) < least:
            positions = torch.arange(1 << (least - 1).bit_length())[None]
            both = [self._rope(one, positions) for one in dict.fromkeys(self.config.layers)]
            self._tables = [(cos[0, :, : cos.shape[2] // 2], sin[0, :, : sin.shape[2] // 2]) for cos, sin in both]
        return self._tables[number]

    def _none(self, batch: int) -> Pairs:
        """No keys and values of any layer."""
        none = np.zeros((self.config.heads, batch, 0, self.config.layers[0].head_dim), np.float32)
        return [(none, none)] * len(self.layers)

    def _add(self, cache: Cache, new: Pairs) -> None:
        """Put keys and values of one text [H, 1, N, D] behind what the cache holds."""
        for layer, (keys, values) in enumerate(new):
            cache.write(layer, torch.from_numpy(keys).transpose(0, 1), torch.from_numpy(values).transpose(0, 1))
        cache.advance(new[0][0].shape[2])


def _session(graph: bytes) -> ort.InferenceSession:
    """A graph ready to run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = product_threads()
    # Sizes change from call to call, so that a plan of the last one's memory is of no use.
    options.enable_mem_pattern = False
    # Threads that wait for the next product of a call wait no longer than the call: the editor needs the core too.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
