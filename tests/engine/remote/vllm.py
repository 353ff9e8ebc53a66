"""vLLM serving a diffusion model, by its contract, with a tiny network of this project that really denoises.

What it refuses is what vLLM 0.33.0 refuses; each rule names the file of its wheel that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.prefix_cache import PrefixCache
from tests.engine.chatting import stand_in
from tests.engine.remote.http_server import Asked, Reply, event, json_reply
from tests.engine.tiny import config_json, random_model

MODEL = "google/diffusiongemma-26B-A4B-it"
SERVED_WIDTH = 64
# sampling_params.py, _verify_diffusion: a diffusion model takes none of these.
REFUSED = ("seed", "min_p", "min_tokens", "logit_bias", "bad_words", "allowed_token_ids")
# The same, of vllm#45436 and #45572: no grammar goes with a canvas.
STRUCTURED = ("response_format", "structured_outputs")


class FirstNoise(Rng):
    """Random numbers whose first noise is a given canvas, as vLLM's seed takes the place of the random one."""

    def __init__(self, first: torch.Tensor | None) -> None:
        super().__init__(0)
        self._first = first

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """See Rng."""
        first, self._first = self._first, None
        return super().noise(shape, vocab_size) if first is None else first


class Vllm:
    """Answers as vLLM does. `pins` is false for one before 0.33, `slips` for one whose pins do not hold.

    All that it writes begins with the token `begins`, where one is given.
    """

    def __init__(self, folder: Path, *, pins: bool = True, slips: bool = False, begins: str = "") -> None:
        stand_in(folder / "tokenizer.json")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vocab_size = self.tokenizer.get_vocab_size()
        self._backend = TorchCanvasBackend(random_model(config_json(self.vocab_size)))
        self._pins, self._slips = pins, slips
        self._begins: int | None = self.tokenizer.token_to_id(begins)
        # Of every canvas: the tokens that it ended with, and their log-probabilities in nats.
        self.canvases = list[tuple[list[int], list[float]]]()

    def __call__(self, asked: Asked) -> Reply:
        body = asked.body
        if asked.path == "/v1/models":
            return json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        # entrypoints/openai/serving.py: the model's name is compared with the served ones, by every route.
        if body["model"] != MODEL:
            return refusal(f"The model `{body['model']}` does not exist.", 404)
        if asked.path == "/tokenize":
            ids = self.tokenizer.encode(body["prompt"], add_special_tokens=body.get("add_special_tokens", True)).ids
            return json_reply({"count": len(ids), "max_model_len": 4096, "tokens": ids})
        if asked.path == "/detokenize":
            return json_reply({"prompt": self.tokenizer.decode(body["tokens"], skip_special_tokens=False)})
        assert asked.path == "/v1/completions"
        problem = self.problem(body)
        return self.completion(body) if problem is None else refusal(problem)

    def problem(self, body: Mapping[str, Any]) -> str | None:
        """Why a body is refused."""
        named = [key for key in (*REFUSED, *STRUCTURED, "suffix") if key in body]
        if named:
            return f"{named[0]} is not supported for diffusion models"
        # sampling_params.py: any temperature but 1.0, which is the route's default.
        if body.get("temperature", 1.0) != 1.0:
            return "temperature must be 1.0 for diffusion models"
        # completion/protocol.py, and --max-logprobs.
        if len(body.get("stop", [])) > 4 or body.get("logprobs", 0) > 20:
            return "too many stop strings or logprobs"
        return self.wrong_args(body.get("vllm_xargs", {})) if self._pins else None

    def wrong_args(self, args: Mapping[str, Any]) -> str | None:
        """utils/diffusion.py: what is wrong with the extra arguments."""
        width = args.get("diffusion_canvas_length", SERVED_WIDTH)
        if not isinstance(width, int) or not 1 <= width <= SERVED_WIDTH:
            return f"diffusion_canvas_length must be from 1 to {SERVED_WIDTH}"
        seed = args.get("diffusion_seed_canvas")
        if seed is not None and len(seed) != width:
            return "diffusion_seed_canvas must have the canvas's length"
        if seed is not None and not all(isinstance(one, int) and 0 <= one < self.vocab_size for one in seed):
            return "diffusion_seed_canvas holds ids beyond the vocabulary"
        pinned = args.get("diffusion_pinned", [])
        if pinned and (seed is None or not all(0 <= one < width for one in pinned)):
            return "diffusion_pinned needs a seed, and positions within the canvas"
        if args.get("diffusion_max_steps", 1) < 1 or args.get("diffusion_read_only", 0) not in (0, 1):
            return "diffusion_max_steps or diffusion_read_only is out of range"
        return None

    def completion(self, body: Mapping[str, Any]) -> Reply:
        """One canvas, denoised behind the prompt, in one event."""
        args = body.get("vllm_xargs", {}) if self._pins else {}
        width = args.get("diffusion_canvas_length", SERVED_WIDTH)
        free = torch.ones(1, width, dtype=torch.bool)
        free[0, args.get("diffusion_pinned", [])] = False
        seed = args.get("diffusion_seed_canvas")
        first = None if seed is None else torch.tensor([seed])
        held = torch.zeros(1, width, dtype=torch.long) if first is None else first
        ids, values = self.denoised(body["prompt"], Canvas(ids=held, free=free), first, args)
        if self._slips:
            # The emitted block is the argmax canvas: a pin may come back changed.
            ids[-1] = (ids[-1] + 1) % self.vocab_size
        if self._begins is not None:
            ids[0] = self._begins
        # Read-only: the one canvas is the whole output, and max_tokens is capped to it.
        count = min(width, body["max_tokens"]) if args.get("diffusion_read_only") else body["max_tokens"]
        self.canvases.append((ids[:count], values[:count]))
        text = self.tokenizer.decode(ids[:count], skip_special_tokens=body.get("skip_special_tokens", True))
        logprobs = {"token_logprobs": values[:count]} if "logprobs" in body else None
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
        if body.get("return_token_ids"):
            choice["token_ids"] = ids[:count]
        if not body.get("stream"):
            return json_reply({"choices": [choice]})
        chunks = [event({"choices": [choice]}), b"data: [DONE]\n\n"]
        return Reply(headers={"content-type": "text/event-stream"}, chunks=chunks)

    @torch.inference_mode()
    def denoised(
        self, prompt: str, canvas: Canvas, first: torch.Tensor | None, args: Mapping[str, Any]
    ) -> tuple[list[int], list[float]]:
        """The canvas's tokens at the end, and how likely the network finds each of them in nats."""
        prefix = PrefixCache(self._backend)
        prefix.encode(self.tokenizer.encode(prompt, add_special_tokens=False).ids)
        plan, rng = Plan(steps=args.get("diffusion_max_steps", 4)), FirstNoise(first)
        *_, last = self._backend.bind(prefix.memory, canvas).steps(plan, rng)
        hidden = self._backend.bind(prefix.memory, canvas).read(last.draft)
        likely = self._backend.logits(hidden[0]).log_softmax(dim=-1)
        ids: list[int] = last.draft[0].tolist()
        return ids, likely[torch.arange(len(ids)), last.draft[0]].tolist()


def refusal(message: str, status: int = 400) -> Reply:
    """vLLM's form of an error."""
    return json_reply({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)
