"""Compression methods written in Python."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restkv
from conftest import numbers

N, D, WINDOW = 200, 16, 8
_numbers = itertools.count()


def named(function: Callable[..., Any], **options: Any) -> str:
    """A new method of this function."""
    name = f"test-{next(_numbers)}"
    restkv.method(name, **options)(function)
    return name


def short_keys(q: Any, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return -np.linalg.norm(k, axis=-1)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {name: random.normal(size=shape).astype(np.float32)
            for name, shape in {"q": (4, N, D), "k": (2, N, D), "v": (2, N, 24)}.items()}


def kept(arrays: dict[str, np.ndarray], method: str, **options: Any) -> list[list[int]]:
    return [head.tolist() for head in restkv.select(**arrays, method=method, **{"budget": 50, **options})]


def test_the_best_scores_and_the_window_are_kept(arrays: dict[str, np.ndarray]) -> None:
    seen: list[Any] = []

    def scores(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        seen.extend((q, k, v))
        return np.einsum("gqd,hnd->hn", q, k) - v[..., 0]

    name = named(scores, window=WINDOW)
    assert name in restkv.methods()
    expected = scores(arrays["q"][:, -WINDOW:], arrays["k"], arrays["v"])
    seen.clear()
    assert kept(arrays, name) == [sorted(np.argsort(-row[:-WINDOW])[: 50 - WINDOW].tolist() + [*range(N - WINDOW, N)])
                                  for row in expected]
    given = {"q": arrays["q"][:, -WINDOW:], "k": arrays["k"], "v": arrays["v"]}
    arrays.clear()
    for own, lent in zip(seen, given.values(), strict=True):
        assert (own == lent).all() and not np.shares_memory(own, lent)
        own += 1  # its own


def test_the_window_is_an_option(arrays: dict[str, np.ndarray]) -> None:
    name = named(short_keys)
    assert kept(arrays, f"{name}:window=0") == kept(arrays, "knorm")
    assert kept({**arrays, "q": None}, f"{name}:window=0") == kept(arrays, "knorm")
    assert kept(arrays, f"{name}:window=0:allocation=ada") == kept(arrays, "knorm:allocation=ada")
    assert [head[-20:] for head in kept(arrays, f"{name}:window=20")] == [[*range(N - 20, N)]] * 2
    with pytest.raises(restkv.ArgumentError, match="0 query heads"):
        kept({**arrays, "q": None}, name)
    with pytest.raises(restkv.ArgumentError, match="window"):
        kept(arrays, f"{name}:window=50")


def test_models_read_with_it(tiny: restkv.Model, tmp_path: Path) -> None:
    calls: list[tuple[int, ...]] = []

    def first(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        calls.append(k.shape)
        return np.broadcast_to(-np.arange(k.shape[1], dtype=np.float32), k.shape[:2])

    name = named(first, window=30)
    info = tiny.info
    for options in ({}, {"interval": 8}, {"chunk": 64}):
        texts = []
        for method in (name, "streaming-llm:sinks=34"):
            document = tiny.read(numbers(150), **options, budget=64, method=method)
            assert document.stats["kept"] <= 64
            texts.append(document.ask("Who?", max_tokens=20))
        assert texts[0] == texts[1], options
    assert calls[0][0] == info["kv_heads"] and calls[0][2] == info["key_dim"] and len(calls) >= 3 * info["layers"]
    assert tiny.read(numbers(150), method=f"{name}:allocation=ada", budget=64).ask("Who?", max_tokens=2) is not None
    conversation = tiny.conversation(method=name, budget=64)
    conversation.ask(numbers(150), max_tokens=3)
    conversation.save(tmp_path / "chat.rkv")
    assert tiny.load(tmp_path / "chat.rkv").ask("And?", max_tokens=4) == conversation.ask("And?", max_tokens=4)


def test_what_it_raises_is_raised(arrays: dict[str, np.ndarray], tiny: restkv.Model) -> None:
    raises: list[BaseException | None] = [None]

    def scores(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        if raises[0] is not None:
            raise raises[0]
        return short_keys(q, k, v)

    name = named(scores)
    conversation = tiny.conversation(method=name, budget=64)
    for raises[0] in (LookupError("enough"), KeyboardInterrupt(), restkv.InputError("mine")):
        for call in (lambda: kept(arrays, name), lambda: conversation.ask(numbers(100), max_tokens=1)):
            with pytest.raises(type(raises[0])) as caught:
                call()
            assert caught.value is raises[0]
    assert conversation.stats["tokens"] == 0
    raises[0] = None
    conversation.ask(numbers(100), max_tokens=1)


@pytest.mark.parametrize(("wrong", "error", "message"), [
    (lambda k: None, restkv.ArgumentError, "returned a NoneType"),
    (lambda k: [[0.0] * N] * 2, restkv.ArgumentError, "returned a list"),
    (lambda k: np.zeros((2, N)), restkv.ArgumentError, "returned float64"),
    (lambda k: np.zeros((2, N), int), restkv.ArgumentError, "returned int64"),
    (lambda k: np.zeros((2, N), object), restkv.ArgumentError, "returned object"),
    (lambda k: k[..., 0][:, 1:], restkv.ArgumentError, r"the shape \[2, 199\]; expected .* \[2, 200\]"),
    (lambda k: k[:1, :, 0], restkv.ArgumentError, r"the shape \[1, 200\]"),
    (lambda k: k, restkv.ArgumentError, r"the shape \[2, 200, 16\]"),
    (lambda k: np.where(np.arange(N) == 7, np.nan, k[..., 0]).astype(np.float32), restkv.InputError,
     "nan for token 7 of head 0"),
    (lambda k: np.where(np.arange(N) == 9, -np.inf, k[..., 0]).astype(np.float32), restkv.InputError, "-inf for token 9"),
    (lambda k: k.missing, AttributeError, "missing"),
])
def test_wrong_scores_are_refused_by_name(arrays: dict[str, np.ndarray], wrong: Any, error: Any, message: str) -> None:
    name = named(lambda q, k, v: wrong(k))
    with pytest.raises(error, match=message) as caught:
        kept(arrays, name)
    if issubclass(error, restkv.Error):
        assert f"method {name} returned" in str(caught.value)


def test_any_layout_of_scores_is_read(arrays: dict[str, np.ndarray]) -> None:
    transposed = named(lambda q, k, v: np.asfortranarray(short_keys(q, k, v)))
    read_only = named(lambda q, k, v: np.broadcast_to(short_keys(q, k, v)[:1], (2, N)))
    expected = kept(arrays, named(short_keys))
    assert kept(arrays, transposed) == expected
    assert kept(arrays, read_only) == [expected[0]] * 2


def test_tensors_are_scores() -> None:
    torch = pytest.importorskip("torch")
    name = named(lambda q, k, v: -torch.from_numpy(k).norm(dim=-1).requires_grad_(), window=0)
    k = torch.randn(2, N, D)
    assert [h.tolist() for h in restkv.select(None, k, k, method=name, budget=50)] == [
        h.tolist() for h in restkv.select(None, k, k, method="knorm", budget=50)]


def test_names_are_taken_once() -> None:
    name = named(short_keys)
    for taken in (name, name.upper(), "snapkv", "SnapKV", "restkv"):
        with pytest.raises(restkv.ArgumentError, match="already"):
            restkv.method(taken)(short_keys)
    for bad in ("", "two words", "a:b", "ä"):
        with pytest.raises(restkv.ArgumentError, match="letters, digits"):
            restkv.method(bad)(short_keys)
    with pytest.raises(TypeError, match=r'expected @restkv.method\("name"\)'):
        restkv.method(short_keys)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a function"):
        restkv.method("nothing")(None)  # type: ignore[type-var]
    assert "nothing" not in restkv.methods()


def test_it_may_select_itself_and_from_several_threads(arrays: dict[str, np.ndarray]) -> None:
    def scores(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        result = np.zeros(k.shape[:2], np.float32)
        for row, head in zip(result, restkv.select(None, k, v, method="knorm", budget=50), strict=True):
            row[head] = 1
        return result

    name = named(scores, window=0)
    expected = kept(arrays, "knorm")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(kept(arrays, name))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6
