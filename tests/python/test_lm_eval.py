"""restkv as a model of lm-evaluation-harness, on small tasks made here.

script/bootstrap --with-lm-eval installs what this needs; script/nightly runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restkv
from conftest import numbers

pytest.importorskip("lm_eval")

CONTEXTS = [numbers(60 + 10 * i, seed=i) for i in range(3)]
CHOICES = [" 17 and 9", " a bell"]
TASKS = {"choices": """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
""", "words": """
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{context}}}}"
doc_to_target: "17"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
""", "whole": """
task: whole
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{context}}}}"
metric_list: [{{metric: byte_perplexity}}]
"""}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "data.jsonl").write_text("".join(
        json.dumps({"context": context, "choices": CHOICES, "answer": 1}) + "\n" for context in CONTEXTS))
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text.format(file=folder / "data.jsonl"))
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(folder / "huggingface"))
    return folder


def harness(tasks: Path, path: Path, names: list[str], arguments: str) -> dict[str, Any]:
    """What `lm_eval` writes: results and samples."""
    out = tasks / f"out-{len(list(tasks.iterdir()))}"
    done = subprocess.run(
        [sys.executable, "-m", "restkv.lm_eval", "run", "--model", "restkv", "--model_args", f"path={path},{arguments}",
         "--tasks", ",".join(names), "--include_path", str(tasks), "--output_path", str(out), "--log_samples"],
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    samples = {name: [json.loads(line) for line in next(out.rglob(f"samples_{name}_*.jsonl")).open()] for name in names}
    return {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in samples.items()}


def loglikelihood(sequence: restkv.Tokens, tokens: list[int]) -> float:
    total = 0.0
    for token in tokens:
        logits = sequence.logits().astype(np.float64)
        total += logits[token] - np.logaddexp.reduce(logits)
        sequence.append([token])
    return float(total)


@pytest.mark.parametrize(("arguments", "options"), [
    ("method=full", {"method": "full"}),
    ("budget=64", {"budget": 64}),
    ("method=snapkv:window=16,budget=64,kv_type=f32", {"method": "snapkv:window=16", "budget": 64, "kv_type": "f32"}),
])
def test_contexts_are_compressed_and_what_follows_is_scored(
        tasks: Path, tiny: restkv.Model, tiny_path: Path, arguments: str, options: dict[str, Any]) -> None:
    samples = harness(tasks, tiny_path, ["choices", "words"], arguments)
    for row, written, context in zip(samples["choices"], samples["words"], CONTEXTS, strict=True):
        read = tiny.tokens(**options)
        tokens = tiny.tokenize(context)
        read.append(tokens)
        assert read.stats["kept"] == (64 if "budget" in options else len(tokens))
        for choice, given in zip(CHOICES, row["filtered_resps"], strict=True):
            expected = loglikelihood(read.fork(), tiny.tokenize(context + choice)[len(tokens):])
            assert float(given[0]) == pytest.approx(expected, rel=1e-4)
        assert written["resps"][0][0] == read.write(max_tokens=6, stop="\n\n")


def test_texts_are_scored_whole(tasks: Path, tiny: restkv.Model, tiny_path: Path) -> None:
    samples = harness(tasks, tiny_path, ["whole"], "method=full")
    for row, context in zip(samples["whole"], CONTEXTS, strict=True):
        read = tiny.tokens(method="full")
        read.append([tiny.prefix_token])
        expected = loglikelihood(read, tiny.tokenize(context, add_special=False))
        assert float(row["filtered_resps"][0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("arguments", "message"), [
    ("budgett=64", "budgett"),
    ("method=none", "none"),
    ("device=cuda", "device is cuda"),
    ("batch_size=4", "batch_size is 4"),
])
def test_wrong_arguments_are_refused(tiny_path: Path, arguments: str, message: str) -> None:
    from restkv.lm_eval import RestkvLM

    with pytest.raises((restkv.ArgumentError, TypeError), match=message):
        RestkvLM.create_from_arg_string(f"path={tiny_path},{arguments}")
