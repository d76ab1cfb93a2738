"""Selections from plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _restkv
from ._restkv import OutputFactor
from ._settings import budget_text

if TYPE_CHECKING:
    import numpy

__all__ = ["OutputFactor", "select"]


def select(q: Any, k: Any, v: Any, wo: Any = None, *, method: str = "restkv", budget: int | float | str | None = None,
           unrotated_keys: Any = None, inputs: Any = None, frequencies: Any = None, magnitude: float = 1.0,
           neighbours: bool = False, scale: float = 0.0, softcap: float = 0.0, layer: int = 0,
           layers: int = 1) -> list[numpy.ndarray]:
    """The positions that each head of a layer keeps: one ascending int32 array per KV head (per query head with the
    option `per_query_head`).

    Arrays are float32, of NumPy, of PyTorch on the CPU, or of anything else with DLPack. They are read where they lie,
    with any strides but that of their rows' elements, and only during the call.

    q: [query_heads, rows, d], queries after rotary embedding: of the last tokens, or of all n, which some methods read.
    k: [kv_heads, n, d], after rotary embedding. v: [kv_heads, n, value_dim]. wo: W_O, [width, query_heads * value_dim],
    or an `OutputFactor` of it, which saves time where a layer is selected from again and again.

    `method`, `budget`: as for `Model`; the budget's default is the method's. What else a method needs is made from
    these, with, for some: `unrotated_keys` as k, `inputs` [n, width] that the layer's attention reads, and the rotary
    embedding, whose pair i turns by position * `frequencies`[i] and is multiplied by `magnitude`; pairs are
    (i, i + pairs), or with `neighbours` (2i, 2i + 1). Position of row i of k is i.

    `scale`: of the softmax, 0 is 1 / sqrt(d). `softcap`: of the logits, 0 is none. `layer` of `layers`: for allocations
    over layers.

    Raises ArgumentError on arrays that are missing or do not fit, InputError on NaN and infinity, UnsupportedError for
    methods that need a model (kvzip, kvzip-plus, restkv-repeat) and for merge and refit.
    """
    return _restkv.select(_plain(q), _plain(k), _plain(v), _plain(wo), _plain(unrotated_keys), _plain(inputs),
                          _plain(frequencies), magnitude, neighbours, scale, softcap, layer, layers, method,
                          budget_text(budget))


def _plain(array: Any) -> Any:
    """Tensors that know their gradient are not handed over by PyTorch; their values are the same without it."""
    return array.detach() if getattr(array, "requires_grad", False) else array
