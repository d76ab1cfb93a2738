#!/usr/bin/env python3
"""What choosing costs in kvpress and in restkv: the same model, the same tokens, the same methods, one run.

Prints how long a prompt takes without compression, and how much longer with each method, as a share of it;
and the memory that the process used at most. kvpress computes in float32 on PyTorch; restkv in float32, too,
and in its own default precision. The methods' settings are each side's defaults; both keep a quarter.

It needs a Python with torch, transformers 5.2.0, gguf and kvpress 0.5.5 in a virtual environment of its own (6 GB):
  build/kvpress/bin/python benchmarks/kvpress_side.py -m build/venv/model.gguf
"""

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

import conversations

# restkv's name, kvpress's class and its arguments. KVzap of kvpress needs a map that is made for the model.
METHODS = [
    ("snapkv", "SnapKVPress", {}),
    ("tova", "TOVAPress", {}),
    ("keydiff", "KeyDiffPress", {}),
    ("expected-attention", "ExpectedAttentionPress", {}),
    ("lagkv", "LagKVPress", {}),
    ("leverage", "LeverageScorePress", {}),
    ("compactor", "CompactorPress", {}),
    ("kvzip", "KVzipPress", {}),
    ("kvzip-plus", "KVzipPress", {"kvzip_plus_normalization": True}),
]
KEPT = 0.25
CONVERT = """
import os, sys
import transformers
path, folder = sys.argv[1:]
for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
    kind.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path)).save_pretrained(folder)
"""


def text_of(words, seed=1):
    draw, sentences = random.Random(seed), []
    while sum(len(s.split()) for s in sentences) < words:
        sentences.append(conversations.sentence(draw))
    return " ".join(sentences)


def kvpress_side(folder, text, method, runs, threads):
    """A line of JSON: seconds of the prefill, of the prefill with the method, tokens, peak bytes."""
    import kvpress
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    _, name, options = METHODS[[m[0] for m in METHODS].index(method)] if method else (None, None, None)

    def seconds(press):
        began = time.monotonic()
        with torch.no_grad():
            cache = transformers.DynamicCache()
            if press is None:
                model.model(input_ids=ids, past_key_values=cache)
            else:
                with press(model):
                    model.model(input_ids=ids, past_key_values=cache)
        return time.monotonic() - began

    seconds(None)
    make = (lambda: getattr(kvpress, name)(compression_ratio=1 - KEPT, **options)) if method else (lambda: None)
    best = min(seconds(make()) for _ in range(runs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": best, "tokens": ids.shape[1], "peak": peak}))


def run_kvpress(folder, text_file, method, arguments):
    command = [sys.executable, __file__, "--side", folder, "--text", text_file, "--runs", str(arguments.runs),
               "-t", str(arguments.threads), "-m", arguments.model] + (["--method", method] if method else [])
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(out.stdout.splitlines()[-1]) if out.returncode == 0 else None


def run_restkv(text_file, method, precision, arguments):
    best, peak, tokens = None, 0, 0
    for _ in range(arguments.runs):
        with tempfile.NamedTemporaryFile(suffix=".json") as stats:
            command = [arguments.restkv, "run", "-m", arguments.model, "--raw", "-f", text_file, "-n", "1", "--method",
                       method or "full", "-t", str(arguments.threads), "--stats-json", stats.name, *precision]
            if method:
                command += ["--budget", f"{100 * KEPT:g}%"]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            if status != 0:
                return None
            figures = json.load(open(stats.name))
        seconds = figures["time_to_first_token_seconds"]
        best = seconds if best is None else min(best, seconds)
        peak, tokens = max(peak, usage.ru_maxrss * 1024), figures["prompt_tokens"]
    return {"seconds": best, "tokens": tokens, "peak": peak}


def cell(result, alone):
    if result is None:
        return "failed"
    share = (result["seconds"] - alone["seconds"]) / alone["seconds"]
    return f"{result['seconds']:.2f} s ({share:+.1%}), {result['peak'] / 2**20:.0f} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, help="GGUF file")
    parser.add_argument("--restkv", default="build/release/src/cli/restkv")
    parser.add_argument("--words", type=int, default=2000, help="of the prompt")
    parser.add_argument("--runs", type=int, default=2, help="the fastest counts")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--text", help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        kvpress_side(arguments.side, pathlib.Path(arguments.text).read_text(), arguments.method, arguments.runs,
                     arguments.threads)
        return

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(arguments.model).resolve()
        # In a process of its own: what a child may have used at most counts from what its parent holds.
        if subprocess.run([sys.executable, "-c", CONVERT, str(path), folder], stderr=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"{path}: transformers could not read the model")
        text_file = os.path.join(folder, "text.txt")
        pathlib.Path(text_file).write_text(text_of(arguments.words))
        sides = [
            ("kvpress, f32", lambda method: run_kvpress(folder, text_file, method, arguments)),
            ("restkv, f32", lambda method: run_restkv(text_file, method, ["--linear", "f32", "--attention", "f32"],
                                                      arguments)),
            ("restkv", lambda method: run_restkv(text_file, method, [], arguments)),
        ]
        alone = [measure(None) for _, measure in sides]
        print(f"{path.name}, {arguments.threads} threads; tokens: "
              + ", ".join(f"{name} {result['tokens']}" for (name, _), result in zip(sides, alone)))
        print("| method | " + " | ".join(name for name, _ in sides) + " |")
        print("|---|" + "---:|" * len(sides))
        print("| none | " + " | ".join(cell(a, a) for a in alone) + " |")
        for method, _, _ in METHODS:
            row = [cell(measure(method), a) for (_, measure), a in zip(sides, alone)]
            print(f"| {method} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
