# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Compare methods on arrays
#
# Which tokens of a layer do methods keep, and how much does that change what its attention says? No
# model is needed: queries, keys and values are made here, with some tokens that matter. In a model's
# place, the arrays are those of its layers.

# %%
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import restkv

HEADS, KV_HEADS, N, D, WIDTH, WINDOW = 8, 2, 600, 32, 256, 32
random = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


q, k, v, wo = normal(HEADS, N, D), normal(KV_HEADS, N, D), normal(KV_HEADS, N, D), normal(WIDTH, HEADS * D) / D
# Three passages that all queries ask for.
topic = normal(D)
q += 0.5 * topic
for begin in (90, 280, 430):
    k[:, begin : begin + 25] += topic

# %% [markdown]
# A method of one's own is a function of q, k and v. This one keeps the tokens whose values are
# longest, a poor idea here.


# %%
@restkv.method("long-values")
def long_values(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.linalg.norm(v, axis=-1)


# %% [markdown]
# The output of the last queries' attention, after W_O, from all tokens and from those that are kept.


# %%
def output(kept: list[np.ndarray] | None = None) -> np.ndarray:
    heads = []
    for head, queries in enumerate(q[:, -WINDOW:]):
        of = head * KV_HEADS // HEADS
        positions = np.arange(N) if kept is None else kept[of]
        logits = queries @ k[of, positions].T / np.sqrt(D)
        seen = positions[None, :] <= np.arange(N - WINDOW, N)[:, None]
        weights = np.where(seen, np.exp(logits - logits.max()), 0)
        heads.append(weights / weights.sum(axis=1, keepdims=True) @ v[of, positions])
    return np.concatenate(heads, axis=1) @ wo.T


whole = output()
methods = ["restkv", "snapkv", "tova", "keydiff", "knorm", "long-values", "streaming-llm"]
budgets = [48, 64, 96, 128, 192, 256]
factor = restkv.OutputFactor(wo, HEADS)
kept = {(m, b): restkv.select(q, k, v, factor, method=m, budget=b) for m in methods for b in budgets}
change = {key: float(np.linalg.norm(output(heads) - whole) / np.linalg.norm(whole)) for key, heads in kept.items()}
for method in methods:
    print(f"{method:14}", *(f"{change[method, budget]:5.2f}" for budget in budgets))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for method, marker in zip(methods, "osv^Dx+", strict=True):
    left.plot(budgets, [change[method, budget] for budget in budgets], marker=marker, label=method)
left.set(xlabel="tokens kept per head", ylabel="change of the output", ylim=0)
left.legend()
for row, method in enumerate(methods):
    positions = kept[method, 128][0]
    right.plot(positions, np.full(len(positions), row), "|", markersize=14)
right.set(xlabel="position", title="what the first head keeps of 600 tokens, budget 128")
right.set_yticks(range(len(methods)), methods)
right.invert_yaxis()
picture = Path(sys.argv[1] if sys.argv[0].endswith("compare_methods.py") and len(sys.argv) > 1 else "methods.png")
figure.savefig(picture)
print(f"{picture} was written")
