"""Options as Python has them, made texts for the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from ._errors import ArgumentError


class SequenceOptions(TypedDict, total=False):
    """How a cache is compressed and stored."""

    method: str
    """`"restkv"`, `"snapkv:kernel=21:allocation=ada"`, `"full"`, ..."""
    budget: int | float | str | None
    """Tokens kept per KV head (512), a share of the prompt (0.1 or `"10%"`, 64 tokens at least), or
    `"auto"`."""
    kv_type: str
    """Storage of keys and values: `"f16"`, `"f32"`, `"q8"`, `"q4"`."""
    sparse: str
    """Sparse pattern of prompts: `"dense"`, `"xattention"`, ..."""
    chunk: int
    """Prompts are read and cut so many tokens at a time; 0: whole."""
    interval: int
    """Answers are cut whenever they are so much longer; 0: never."""
    decode_budget: int
    """To so many tokens; 0: the budget."""
    compact_positions: bool
    """Kept tokens are numbered anew, so that texts may be longer than the model's context."""
    system: str
    """System message."""


class AnswerOptions(TypedDict, total=False):
    """How an answer is written."""

    max_tokens: int
    min_tokens: int
    stop: str | Sequence[str]
    """The text ends before the first of these."""
    temperature: float
    """0 (the default): always the likeliest token."""
    top_k: int
    top_p: float
    min_p: float
    repeat_last_n: int
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int


_SEQUENCE = SequenceOptions.__annotations__
_SAMPLING = [name for name in AnswerOptions.__annotations__ if name not in ("max_tokens", "min_tokens", "stop")]


def budget_text(budget: int | float | str | None) -> str:
    if budget is None:
        return ""
    if isinstance(budget, str):
        return budget
    if isinstance(budget, bool):
        raise TypeError(f"budget is {budget}; expected a number of tokens, a share of the prompt, or a text")
    if isinstance(budget, float):
        if not 0 < budget <= 1:
            raise ArgumentError(f"budget is {budget}; as a share of the prompt, it is above 0 and at most 1")
        return f"{budget * 100:.10g}%"
    return str(budget.__index__())


def sequence_arguments(options: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Arguments of the extension; complete."""
    _refuse_unknown(options, _SEQUENCE)
    given = {**defaults, **options}
    return {
        "method": given.get("method", "restkv"),
        "budget": budget_text(given.get("budget")),
        "kv_type": given.get("kv_type", ""),
        "sparse": given.get("sparse", ""),
        "chunk": given.get("chunk", 0),
        "interval": given.get("interval", 0),
        "decode_budget": given.get("decode_budget", 0),
        "compact_positions": given.get("compact_positions", False),
        "system": given.get("system", ""),
    }


def answer_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the extension; complete."""
    _refuse_unknown(options, AnswerOptions.__annotations__)
    stop = options.get("stop", ())
    return {
        "max_tokens": options.get("max_tokens", 256),
        "min_tokens": options.get("min_tokens", 0),
        "stop": [stop] if isinstance(stop, str) else list(stop),
        "sampling": ":".join(f"{name}={options[name]}" for name in _SAMPLING if name in options),
    }


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a sequence, and those of an answer."""
    _refuse_unknown(options, [*_SEQUENCE, *AnswerOptions.__annotations__])
    of_sequence = {name: value for name, value in options.items() if name in _SEQUENCE}
    return of_sequence, {name: value for name, value in options.items() if name not in _SEQUENCE}


def _refuse_unknown(options: dict[str, Any], known: Any) -> None:
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r}; known: {', '.join(known)}")
