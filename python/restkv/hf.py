"""restkv's methods in models of transformers, and in kvpress.

    from restkv.hf import Press
    with Press("restkv", budget=512)(model):
        model.generate(**inputs)

The selection is computed by this library on the model's own queries, keys, values and W_O; transformers computes
everything else. With kvpress, a `Press` is one of its `BasePress` and goes wherever those go: its pipeline, its
evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from . import _restkv
from ._arrays import OutputFactor, select
from ._errors import ArgumentError, UnsupportedError
from ._settings import budget_text

try:
    from kvpress import BasePress as _Base
except ImportError:

    class _Base:  # type: ignore[no-redef]
        """What kvpress would bring: hooks behind the attention of every layer."""

        @contextmanager
        def __call__(self, model: Any) -> Iterator[None]:
            decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
            hooks = []
            try:
                for layer in decoder.layers:
                    layer.self_attn.rotary_emb = decoder.rotary_emb
                    hooks.append(layer.self_attn.register_forward_hook(self.forward_hook, with_kwargs=True))
                yield
            finally:
                for hook in hooks:
                    hook.remove()

        def forward_hook(self, module: Any, _input: Any, kwargs: dict[str, Any], output: Any) -> Any:
            hidden_states, cache = kwargs["hidden_states"], kwargs["past_key_values"]
            layer = cache.layers[module.layer_idx]
            if layer.keys.shape[2] != hidden_states.shape[1]:
                return output  # not the prompt
            layer.keys, layer.values = self.compress(module, hidden_states, layer.keys, layer.values, output[1], kwargs)
            return output


class Press(_Base):
    """Cuts the cache of a prompt to what a method keeps, once, after each layer has read it.

    `method`: "restkv", "snapkv:kernel=7:window=64", ... `budget`: tokens per KV head (512) or a share of the prompt
    (0.25, "25%"). Instead, `compression_ratio` is the share that is dropped, rounded as kvpress does.

    For Llama, Mistral, Phi-3, Qwen 2 and 3 and their like: rotary embeddings, projections called q_proj (or qkv_proj)
    and o_proj, norms called q_norm. Every head of a layer must keep as many tokens: allocations that give heads
    different numbers (ada, ...) are refused, because caches of transformers are rectangular. Prompts of a batch must be
    equally long: padding would be kept like text.
    """

    def __init__(self, method: str = "restkv", budget: int | float | str | None = None,
                 compression_ratio: float | None = None) -> None:
        if (budget is None) == (compression_ratio is None):
            raise ArgumentError("give either budget or compression_ratio")
        if compression_ratio is not None and not 0 <= compression_ratio < 1:
            raise ArgumentError(f"compression_ratio is {compression_ratio}; expected 0 or more, below 1")
        self.method = method
        self.budget = budget
        self.compression_ratio = compression_ratio
        self._factors: dict[int, tuple[torch.Tensor, int, OutputFactor]] = {}
        # Refused now, not in the middle of a prompt.
        _restkv.needs(method, budget_text(budget) if compression_ratio is None else "", 1 << 20)

    def __repr__(self) -> str:
        kept = f"budget={self.budget!r}" if self.compression_ratio is None else f"compression_ratio={self.compression_ratio}"
        return f"Press({self.method!r}, {kept})"

    def __str__(self) -> str:
        return repr(self)

    def kept(self, n: int) -> str:
        """The budget of a prompt of n tokens, as text."""
        if self.compression_ratio is None:
            return budget_text(self.budget)
        return str(max(1, int(n * (1 - self.compression_ratio))))

    def compress(self, module: Any, hidden_states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
                 attentions: torch.Tensor | None, kwargs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [batch, kv_heads, kept, d] of those [batch, kv_heads, n, d] of a layer."""
        positions = self.positions(module, hidden_states, keys, values, kwargs)
        index = positions.unsqueeze(-1)
        return (keys.gather(2, index.expand(-1, -1, -1, keys.shape[-1])).contiguous(),
                values.gather(2, index.expand(-1, -1, -1, values.shape[-1])).contiguous())

    def positions(self, module: Any, hidden_states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
                  kwargs: dict[str, Any]) -> torch.Tensor:
        """The kept positions, int64 [batch, kv_heads, kept], ascending."""
        batch, heads, n, _ = keys.shape
        budget = self.kept(n)
        if budget.isdigit() and int(budget) >= n:
            return torch.arange(n, device=keys.device).expand(batch, heads, n)
        needs = _restkv.needs(self.method, budget, n)
        with torch.no_grad():
            queries = _queries(module, hidden_states, needs["queries"], kwargs["position_embeddings"])
            wo = _plain(module.o_proj.weight) if needs["wo"] else self._factor(module) if needs["factor"] else None
            options: dict[str, Any] = {
                "method": self.method,
                "budget": budget,
                "scale": float(getattr(module, "scaling", 0.0) or 0.0),
                "softcap": float(getattr(module.config, "attn_logit_softcapping", None) or 0.0),
                "layer": module.layer_idx,
                "layers": module.config.num_hidden_layers,
            }
            if needs["rotation"]:
                rotary = module.rotary_emb
                options["frequencies"] = _plain(rotary.inv_freq)
                options["magnitude"] = float(getattr(rotary, "attention_scaling", 1.0))
            rows = []
            for one in range(batch):
                if needs["inputs"]:
                    options["inputs"] = _plain(hidden_states[one])
                kept = select(None if queries is None else _plain(queries[one]), _plain(keys[one]), _plain(values[one]),
                              wo, **options)
                if len(kept) != keys.shape[1] or len({len(head) for head in kept}) != 1:
                    raise UnsupportedError(
                        f"{self.method} keeps {sorted({len(head) for head in kept})} tokens in {len(kept)} heads, but "
                        f"a cache of transformers has {keys.shape[1]} heads of one length; choose an allocation that "
                        "gives all heads as many")
                rows.append(torch.stack([torch.from_numpy(head) for head in kept]))
        if len({row.shape[1] for row in rows}) != 1:
            raise UnsupportedError("prompts of a batch keep different numbers of tokens; use one at a time")
        return torch.stack(rows).long().to(keys.device)

    def _factor(self, module: Any) -> OutputFactor:
        """What methods need of W_O, computed once unless the weights change."""
        weight = module.o_proj.weight
        known = self._factors.get(module.layer_idx)
        if known is None or known[0] is not weight or known[1] != weight._version:
            heads = module.config.num_attention_heads
            known = (weight, weight._version, OutputFactor(_plain(weight), heads))
            self._factors[module.layer_idx] = known
        return known[2]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as the library reads it: itself, if it is float32 on the processor with whole rows."""
    tensor = tensor.detach().to(device="cpu", dtype=torch.float32)
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _queries(module: Any, hidden_states: torch.Tensor, rows: int,
             rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor | None:
    """The last queries after rotary embedding, [batch, query_heads, rows, d], computed again: hooks do not see them."""
    if rows == 0:
        return None
    hidden = hidden_states[:, -rows:]
    heads, dim = module.config.num_attention_heads, module.head_dim
    if hasattr(module, "qkv_proj"):
        queries = module.qkv_proj(hidden)[..., : heads * dim]
    elif hasattr(module, "q_proj"):
        queries = module.q_proj(hidden)
    else:
        raise UnsupportedError(f"{type(module).__name__} has neither q_proj nor qkv_proj; this family is not known")
    queries = queries.view(*queries.shape[:2], heads, dim)
    if hasattr(module, "q_norm"):
        queries = module.q_norm(queries)
    queries = queries.transpose(1, 2)
    cosine, sine = (part[:, -rows:].unsqueeze(1) for part in rotation)
    turned, rest = queries[..., : cosine.shape[-1]], queries[..., cosine.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cosine + torch.cat((-second, first), dim=-1) * sine
    return torch.cat((turned, rest), dim=-1)
