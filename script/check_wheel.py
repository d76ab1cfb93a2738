"""What an installed package has to do: script/wheel runs this in a clean venv."""

import sys
import time

began = time.perf_counter()
import restkv  # noqa: E402

imported = time.perf_counter() - began

import numpy as np  # noqa: E402

assert "site-packages" in restkv.__file__, f"this is not the installed package: {restkv.__file__}"
model = restkv.Model(sys.argv[1])
answer = "".join(model.chat("What is the capital of France?", max_tokens=16, stream=True))
assert "Paris" in answer, answer

random = np.random.default_rng(0)
heads, kv_heads, n, d = 32, 8, 4096, 128
arrays = {
    "q": random.normal(size=(heads, 32, d)),
    "k": random.normal(size=(kv_heads, n, d)),
    "v": random.normal(size=(kv_heads, n, d)),
    "wo": random.normal(size=(1024, heads * d)) / 64,
}
arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
arrays["wo"] = restkv.OutputFactor(arrays["wo"], heads)


def best(call, times=5):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


keep = restkv.select(**arrays, method="restkv", budget=256)
assert [len(head) for head in keep] == [256] * kv_heads
small = np.ones((1, 8, 4), np.float32)
print(f"import: {imported:.3f} s; a call: {best(lambda: restkv.select(None, small, small, method='full'), 100) * 1e6:.0f} us; "
      f"restkv selects 256 of {n} tokens on {kv_heads} KV heads in "
      f"{best(lambda: restkv.select(**arrays, method='restkv', budget=256)) * 1e3:.1f} ms")

try:
    import torch
except ImportError:
    sys.exit()
tensors = {name: array if name == "wo" else torch.from_numpy(array) for name, array in arrays.items()}
same = restkv.select(**tensors, method="restkv", budget=256)
assert all((a == b).all() for a, b in zip(keep, same)), "tensors give other positions than arrays"
print("PyTorch's tensors give the same positions")
