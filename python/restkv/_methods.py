"""Compression methods that are functions in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _restkv
from ._errors import ArgumentError, InputError

if TYPE_CHECKING:
    import numpy

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FUNCTIONS: dict[str, Callable[..., Any]] = {}


def method(name: str, *, window: int = 32) -> Callable[[_Function], _Function]:
    """Makes a function a compression method of this process, known by its name wherever a method is named here:

        @restkv.method("mine")
        def short_keys(q, k, v):
            return -numpy.linalg.norm(k, axis=-1)

    It gets float32 arrays of NumPy that are its own: q [query_heads, window, d], the queries of the last `window`
    tokens after rotary embedding (None if `window` is 0; fewer where there are fewer tokens); k [kv_heads, n, d];
    v [kv_heads, n, value_dim]. Query heads g * kv_head to g * (kv_head + 1) - 1 belong to a KV head, with
    g = query_heads / kv_heads. It returns float32 [kv_heads, n], of NumPy or PyTorch: the tokens with the largest
    scores are kept. The last `window` tokens are always kept, whatever their scores. It is called for each layer at
    each cut, from any thread but one at a time, and where heads keep different numbers of tokens for each KV head.

    `window` is the default of the method's option of this name: `method="mine:window=64"`. The options of allocations
    (`allocation=ada`), `merge` and `refit` are those of other methods.

    What the function raises is raised by what called the library. It raises ArgumentError for other shapes and types,
    and InputError on NaN and infinity. Names cannot be taken twice. Register methods before other threads compute.
    """
    if not isinstance(name, str):
        raise TypeError(f'the name of a method is {name!r}; expected @restkv.method("name")')

    def register(function: _Function) -> _Function:
        if not callable(function):
            raise TypeError(f"method {name} is a {type(function).__name__}; expected a function of q, k and v")
        _restkv.register_method(name, window)
        _FUNCTIONS[name] = function
        return function

    return register


def scores_of(name: str, q: numpy.ndarray | None, k: numpy.ndarray, v: numpy.ndarray) -> numpy.ndarray:
    """What the function of this name says of a layer. The extension calls this."""
    import numpy as np

    shape = k.shape[:2]

    def refuse(what: str) -> NoReturn:
        raise ArgumentError(f"method {name} returned {what}; expected a float32 array of the shape {list(shape)}: "
                            "a score for each token of each head of k")

    given = _FUNCTIONS[name](q, k, v)
    if not hasattr(given, "dtype") or not hasattr(given, "shape"):
        refuse(f"a {type(given).__name__}")
    if str(given.dtype).removeprefix("torch.") != "float32":
        refuse(f"{given.dtype}")
    if tuple(given.shape) != shape:
        refuse(f"the shape {list(given.shape)}")
    scores = np.ascontiguousarray(given.detach() if hasattr(given, "detach") else given)
    if not np.isfinite(scores).all():
        head, token = np.argwhere(~np.isfinite(scores))[0]
        raise InputError(f"method {name} returned {scores[head, token]} for token {token} of head {head}; "
                         "expected finite scores")
    return scores
