# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Ask a report
#
# A report is read once and compressed to a fifth; questions are asked of copies. `RESTKV_MODEL` names
# a GGUF file (`script/bootstrap --print-model` prints the path of one).

# %%
import os
import sys
import tempfile
from pathlib import Path

import restkv

# The first argument is another report; a notebook has none.
given = sys.argv[1:] if Path(sys.argv[0]).name == "ask_a_report.py" else []
report = Path(given[0] if given else "examples/harbour.txt").read_text()
model = restkv.Model(os.environ["RESTKV_MODEL"])

# %% [markdown]
# The method is `kvzip` unless another is given: it does not need to know the questions.

# %%
document = model.read(report, budget=0.2, progress=lambda done: print(f"\r{done:4.0%} read", end=""))
stats = document.stats
print(f"\r{stats['tokens']:.0f} tokens were read; {stats['kept']:.0f} per head are kept, in "
      f"{stats['kv_bytes'] / 2**20:.1f} instead of {stats['full_kv_bytes'] / 2**20:.1f} MiB")

# %%
questions = ["Who wrote the report?", "How many calls of vessels were there?", "What did the year cost?"]
for question, answer in zip(questions, document.ask_all(questions, max_tokens=40), strict=True):
    print(f"{question} {answer.strip()}")

# %% [markdown]
# A saved document is there again at once, also in another process.

# %%
with tempfile.TemporaryDirectory() as folder:
    document.save(Path(folder) / "report.rkv")
    again = model.load(Path(folder) / "report.rkv")
    for piece in again.ask("When does the board meet?", max_tokens=40, stream=True):
        print(piece, end="", flush=True)
    print()
