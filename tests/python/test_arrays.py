"""restkv.select on arrays of several libraries, and on what is wrong with arrays."""

from __future__ import annotations

import resource
import threading
from typing import Any

import numpy as np
import pytest

import restkv

HEADS, KV_HEADS, N, D, WIDTH = 4, 2, 300, 16, 48
FREQUENCIES = (10000.0 ** (-np.arange(0, D, 2) / D)).astype(np.float32)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    shapes = {"q": (HEADS, N, D), "k": (KV_HEADS, N, D), "v": (KV_HEADS, N, D), "wo": (WIDTH, HEADS * D)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def kept(*args: Any, **options: Any) -> list[list[int]]:
    return [head.tolist() for head in restkv.select(*args, **{"budget": 64, **options})]


class OnlyDlpack:
    """What other libraries have in common."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] | None = None) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **arguments: Any) -> Any:
        if self.device is not None:
            raise BufferError("not in this memory")
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device or self.array.__dlpack_device__()


def test_each_method_keeps_its_budget(arrays: dict[str, np.ndarray]) -> None:
    seen = 0
    for method in restkv.methods():
        needs_more = ("full", "kvzip", "kvzip-plus", "restkv-repeat", "triattention", "kvzap")
        if method in needs_more or method.startswith("test-"):  # of test_methods.py, if it ran before
            continue
        text = f"{method}:lag=32" if method == "lagkv" else method
        heads = restkv.select(**arrays, method=text, budget=64, frequencies=FREQUENCIES, layer=3, layers=8)
        assert len(heads) == KV_HEADS
        assert 115 < sum(len(head) for head in heads) <= KV_HEADS * 64, method  # chunks need not fit exactly
        for head in heads:
            assert head.dtype == np.int32
            assert (np.diff(head) > 0).all()
        seen += 1
    assert seen > 15


def test_the_kept_tokens_are_those_that_knorm_names(arrays: dict[str, np.ndarray]) -> None:
    kept_heads = restkv.select(**arrays, method="knorm", budget=50)
    protected = N - 50
    norms = np.linalg.norm(arrays["k"], axis=-1)
    for head, row in zip(kept_heads, norms, strict=True):
        # Small keys are kept, whatever else the method protects.
        chosen = [p for p in head if p < protected]
        left_out = [p for p in range(protected) if p not in set(head)]
        assert np.median(row[chosen]) < np.median(row[left_out])


def test_memory_of_any_layout_and_library_gives_the_same(arrays: dict[str, np.ndarray]) -> None:
    expected = kept(**arrays)
    by_token = {name: np.ascontiguousarray(arrays[name].transpose(1, 0, 2)).transpose(1, 0, 2) for name in "qkv"}
    assert not by_token["k"].flags.c_contiguous
    assert kept(**by_token, wo=arrays["wo"]) == expected
    assert kept(**{name: OnlyDlpack(array) for name, array in arrays.items()}) == expected
    for array in arrays.values():
        array.flags.writeable = False
    assert kept(**arrays) == expected
    last = {**arrays, "q": arrays["q"][:, -40:]}
    assert kept(**last) == expected
    assert kept(**{**arrays, "wo": restkv.OutputFactor(arrays["wo"], HEADS)}) == expected


def test_torch_tensors_give_the_same(arrays: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    expected = kept(**arrays)
    assert kept(**tensors) == expected
    assert kept(**{**tensors, "wo": torch.nn.Parameter(tensors["wo"])}) == expected
    with pytest.raises(restkv.ArgumentError, match="float"):
        kept(**{**tensors, "k": tensors["k"].half()})
    with pytest.raises(restkv.ArgumentError, match="float"):
        kept(**{**tensors, "k": tensors["k"].bfloat16()})
    with pytest.raises((TypeError, restkv.ArgumentError), match="k"):
        kept(**{**tensors, "k": tensors["k"].to("meta")})


def test_nothing_is_copied() -> None:
    # Memory that nobody touches takes no room, and streaming-llm looks at no keys.
    k = np.zeros((8, 1 << 20, 128), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    heads = restkv.select(None, k, k, method="streaming-llm", budget=64)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert [len(head) for head in heads] == [64] * 8
    assert grown * 1024 < k.nbytes / 20


def test_results_do_not_need_their_arrays(arrays: dict[str, np.ndarray]) -> None:
    heads = restkv.select(**arrays, budget=64)
    copies = [head.copy() for head in heads]
    arrays.clear()
    _ = [np.ones(1000) for _ in range(100)]
    assert all((head == copy).all() for head, copy in zip(heads, copies, strict=True))


@pytest.mark.parametrize(("change", "message"), [
    ({"k": np.zeros((KV_HEADS, N, D))}, "k has another type than float32"),
    ({"q": np.zeros((HEADS, N, D), np.float16)}, "q has another type"),
    ({"v": np.zeros((KV_HEADS, N, D), np.int32)}, "v has another type"),
    ({"k": np.zeros((1, KV_HEADS, N, D), np.float32)}, r"k has the shape \[1, 2, 300, 16\]; expected"),
    ({"v": np.zeros((KV_HEADS, N - 1, D), np.float32)}, r"values are \[2, 299, 16\]"),
    ({"q": np.zeros((3, N, D), np.float32)}, "multiple"),
    ({"wo": np.zeros((WIDTH, 5), np.float32)}, r"wo is \[48, 5\]"),
    ({"wo": None}, "wo"),
    ({"k": np.zeros((KV_HEADS, N, 2 * D), np.float32)[:, :, ::2]}, "neighbours"),
    ({"k": np.zeros((KV_HEADS, N, D), np.float32)[:, ::-1]}, "neighbours"),
    ({"k": np.zeros((KV_HEADS, 0, D), np.float32)}, r"keys are \[2, 0, 16\]"),
    ({"method": "snapkvv"}, "snapkvv"),
    ({"method": "snapkv:kernel=4"}, "kernel"),
    ({"budget": 8}, "budget"),
    ({"budget": 1.5}, "share"),
    ({"budget": "much"}, "much"),
    ({"method": "h2o", "q": np.zeros((HEADS, 40, D), np.float32)}, "queries of all 300"),
    ({"scale": float("nan")}, "scale"),
    ({"layer": 3, "layers": 2}, "layer is 3 of 2"),
])
def test_what_does_not_fit_is_refused(arrays: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(restkv.ArgumentError, match=message):
        kept(**{**arrays, **change})


@pytest.mark.parametrize(("change", "message"), [
    ({"k": [[[1.0]]]}, "k is a list"),
    ({"k": None}, "k is a NoneType"),
    ({"v": "text"}, "v is a str"),
    ({"budget": True}, "budget is True"),
    ({"budget": [1]}, ""),
    ({"layer": -1}, ""),
    ({"method": None}, ""),
])
def test_other_types_are_refused(arrays: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, AttributeError), match=message):
        kept(**{**arrays, **change})


def test_other_memory_is_refused(arrays: dict[str, Any]) -> None:
    with pytest.raises((TypeError, restkv.ArgumentError), match="k"):
        kept(**{**arrays, "k": OnlyDlpack(arrays["k"], (2, 0))})


def test_nan_and_infinity_are_refused(arrays: dict[str, np.ndarray]) -> None:
    for name, value in (("q", np.nan), ("k", np.inf), ("v", np.nan)):
        broken = {**arrays, name: arrays[name].copy()}
        broken[name][0, -1 if name == "q" else 100, 3] = value
        with pytest.raises(restkv.InputError):
            kept(**broken, method="restkv")


def test_what_needs_a_model_is_unsupported(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(restkv.UnsupportedError, match="repeat"):
        kept(**arrays, method="kvzip")
    with pytest.raises(NotImplementedError, match="merge"):
        kept(**arrays, method="snapkv:merge=true")


def test_threads_select_at_the_same_time(arrays: dict[str, np.ndarray]) -> None:
    expected = kept(**arrays)
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            if kept(**arrays) != expected:
                wrong.append("different")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    restkv.set_threads(1)  # in the middle of it
    for thread in threads:
        thread.join()
    assert not wrong
    assert restkv.threads() == 1
    restkv.set_threads(0)
    with pytest.raises(restkv.ArgumentError):
        restkv.set_threads(-1)
