"""Tables from the JSON files that script/bench leaves.

tables.py FOLDER           writes README.md, docs/performance.md and docs/performance-details.md, between
                           <!-- bench:NAME --> and <!-- /bench:NAME -->; a table whose figures are
                           missing stays as it is
tables.py FOLDER --memory  prints the table of memory
"""

import json
import pathlib
import re
import sys

MIB = 1 << 20


def load(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def sides(result):
    return {side["side"]: side for side in result["sides"]}


def best_llama(result, key, least=False):
    figures = [s[key] for s in result["sides"] if s["side"].startswith("llama") and key in s]
    if not figures:
        return None
    return min(figures) if least else max(figures)


def ratio(ours, theirs, less_is_better=False, bold=True):
    """Bold where restkv is ahead."""
    value = ours / theirs
    text = f"{value:.1f}x" if value >= 1.95 else f"{value:.2f}x"
    return f"**{text}**" if bold and (value < 1) == less_is_better and value != 1 else text


def table(heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---:|" * len(heading)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figures_table(report, title, key, columns):
    """A row per prompt length. In brackets: ratios to the best of llama.cpp and to OpenVINO. Columns
    are (heading, side, whether both sides do the same work)."""
    memory = key == "peak_resident_bytes"
    unit = MIB if memory else 1
    columns = [c for c in columns if all(c[1] in sides(r) for r in report["results"])]
    with_openvino = all("openvino" in sides(r) for r in report["results"])
    heading = [title] + [c[0] for c in columns] + ["llama.cpp"] + ["OpenVINO"] * with_openvino
    rows = []
    for result in report["results"]:
        by_name = sides(result)
        rivals = [best_llama(result, key, least=memory)]
        rivals += [by_name["openvino"][key]] if with_openvino else []
        row = [f"{result['prompt_tokens']} tokens"]
        for _, side, alike in columns:
            ours = by_name[side][key]
            ratios = ", ".join(ratio(ours, theirs, memory, bold=alike) for theirs in rivals)
            row.append(f"{ours / unit:.0f} ({ratios})")
        rows.append(row + [f"{theirs / unit:.0f}" for theirs in rivals])
    return table(heading, rows)


def reading_table(report):
    columns = [("restkv, int8", "restkv-int8", True), ("restkv, f32", "restkv", True),
               ("restkv, bf16", "restkv-bf16", True), ("restkv, sparse", "restkv-sparse", False)]
    return figures_table(report, "reading the prompt, tokens/s", "prefill_tokens_per_second", columns)


def prompts_table(report):
    columns = [("restkv, full cache", "restkv-full", True),
               (f"restkv, budget {report['budget']}", "restkv", False)]
    return "\n\n".join([
        reading_table(report),
        figures_table(report, "decoding, tokens/s", "decode_tokens_per_second", columns),
        figures_table(report, "peak memory, MiB", "peak_resident_bytes", columns),
    ])


def long_table(report):
    key = "decode_tokens_per_second"
    rows = []
    for result in report["results"]:
        by_name = sides(result)
        ours, full, theirs = by_name["restkv"][key], by_name["restkv-full"][key], best_llama(result, key)
        rows.append(
            [
                str(result["prompt_tokens"]),
                f"{full:.1f} ({ratio(full, theirs)})",
                f"{theirs:.2f}",
                f"{ours:.1f} ({ratio(ours, theirs, bold=False)})",
                f"{ours / full:.1f}x",
            ]
        )
    heading = ["tokens before", "restkv, full cache: tokens/s", "llama.cpp, full cache"]
    return table(heading + [f"restkv, budget {report['budget']}", "budget / own full cache"], rows)


def summary_table(prompts, long):
    """For README.md: what both sides do alike comes first; the small cache's column is another thing."""
    last = prompts["results"][-1]
    by_name, tokens = sides(last), last["prompt_tokens"]
    openvino = by_name.get("openvino")
    heading = ["", "restkv, the same work", f"restkv, {prompts['budget']:,} tokens kept", "llama.cpp"]
    rows = []

    def add(title, key, full, small, digits=0, unit=1):
        memory = key == "peak_resident_bytes"
        theirs = best_llama(last, key, least=memory)
        rivals = [theirs] + ([openvino[key]] if openvino else [])
        row = [title]
        for side, bold in ((full, True), (small, False)):
            ours = by_name[side][key]
            ratios = ", ".join(ratio(ours, other, memory, bold) for other in rivals)
            row.append(f"{ours / unit:.{digits}f} ({ratios})")
        rows.append(row + [f"{other / unit:.{digits}f}" for other in rivals])

    reading = "restkv-int8" if "restkv-int8" in by_name else "restkv"
    add(f"reading {tokens:,} tokens, tokens/s", "prefill_tokens_per_second", reading, reading)
    rows[-1][2] = "as much"
    add(f"writing after {tokens:,} tokens, tokens/s", "decode_tokens_per_second", "restkv-full", "restkv")
    add("peak memory of that, MiB", "peak_resident_bytes", "restkv-full", "restkv", unit=MIB)
    if long is not None:
        key, result = "decode_tokens_per_second", long["results"][-1]
        full, ours = sides(result)["restkv-full"][key], sides(result)["restkv"][key]
        theirs = best_llama(result, key)
        rows.append([f"writing after {result['prompt_tokens']:,} tokens, tokens/s",
                     f"{full:.1f} ({ratio(full, theirs)})", f"{ours:.0f} ({ratio(ours, theirs, bold=False)})",
                     f"{theirs:.1f}"] + ["not measured"] * (openvino is not None))
    return table(heading + ["OpenVINO"] * (openvino is not None), rows)


def sparse_table(report, layers):
    tables = []
    if report is not None:
        tables.append(reading_table(report))
    if layers is not None:
        dense = layers["results"][0]["time_to_first_token_seconds"]
        rows = []
        for result in layers["results"]:
            seconds = result["time_to_first_token_seconds"]
            rows.append([str(result["prompt_tokens"]), f"`{result['sparse']}`", f"{100 * result['sparse_density']:.1f}%",
                         f"{100 * result['sparse_recall']:.1f}%", f"{seconds:.1f} s", f"{dense / seconds:.1f}x"])
        heading = ["prompt tokens, four layers", "pattern", "tiles computed", "attention mass in them",
                   "time to first token", "against dense"]
        tables.append(table(heading, rows))
    return "\n\n".join(tables)


def peak(folder, name, side):
    report = load(folder, name)
    if report is None:
        return None, None
    result = report["results"][0]
    return sides(result)[side]["peak_resident_bytes"], result["prompt_tokens"]


def memory_table(folder):
    heading = ["model", "prompt tokens", "restkv, budget 1024", "llama.cpp (best setting)", "ratio"]
    rows = []
    small = load(folder, "memory-smollm2")
    if small is not None:
        result = small["results"][0]
        ours = sides(result)["restkv"]["peak_resident_bytes"]
        theirs = best_llama(result, "peak_resident_bytes", least=True)
        rows.append(["SmolLM2-135M, whole", str(result["prompt_tokens"]), f"{ours / MIB:.0f} MiB",
                     f"{theirs / MIB:.0f} MiB", f"{ours / theirs:.2f}"])
    names = ("memory-restkv-1", "memory-restkv-short-1", "memory-restkv-short-4")
    one, short_1, short_4 = (peak(folder, name, "restkv")[0] for name in names)
    llama_1, tokens = peak(folder, "memory-llama-1", "llama-fa")
    llama_4, _ = peak(folder, "memory-llama-4", "llama-fa")
    if None not in (one, short_1, short_4, llama_1, llama_4):
        ours_layer, llama_layer = (short_4 - short_1) / 3, (llama_4 - llama_1) / 3
        for layers in (1, 4, 32):
            ours = one + (layers - 1) * ours_layer
            theirs = llama_1 + (layers - 1) * llama_layer
            how = {1: "measured", 4: "llama.cpp measured", 32: "extrapolated"}[layers]
            rows.append([f"Llama 3.1 8B's shape, {layers} layer{'s' * (layers > 1)} ({how})", str(tokens),
                         f"{ours / MIB:.0f} MiB", f"{theirs / MIB:.0f} MiB", f"{ours / theirs:.2f}"])
    return table(heading, rows) if rows else None


def machine_line(report):
    machine, software = report["machine"], report["software"]
    limits = machine["limits"]
    return (
        f"{machine['description']}; reads {limits['read_bytes_per_second'] / 1e9:.0f} GB/s, multiplies "
        f"{limits['sgemm_flops_per_second'] / 1e9:.0f} GFLOP/s in f32; load average "
        f"{machine['load_average_before']:.1f} before. {report['model']['name']} "
        f"({report['model']['weight_types']}); libllama {software['libllama']}, ggml {software['ggml']}; "
        f"{report['date'][:10]}."
    )


def replace(path, name, text):
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    old = path.read_text()
    new, count = re.subn(re.escape(begin) + ".*?" + re.escape(end),
                         lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{path}: expected one place between {begin} and {end}, found {count}")
    if new != old:
        path.write_text(new)
    print(f"{path}: {name}", file=sys.stderr)


def main():
    if len(sys.argv) < 2 or len(sys.argv) > 3 or (len(sys.argv) == 3 and sys.argv[2] != "--memory"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    memory = memory_table(folder)
    if len(sys.argv) == 3:
        print(memory or "no figures of memory")
        return
    root = pathlib.Path(__file__).resolve().parent.parent
    readme, users, details = (
        root / name for name in ("README.md", "docs/performance.md", "docs/performance-details.md"))
    prompts, long = load(folder, "prompts"), load(folder, "long")
    if prompts is None and long is None and memory is None:
        sys.exit(f"{folder}: there are no figures; run script/bench first")
    if prompts is not None:
        replace(users, "prompts", prompts_table(prompts) + "\n\n" + machine_line(prompts))
        replace(readme, "summary", summary_table(prompts, long) + "\n\n" + machine_line(prompts))
    if long is not None:
        replace(users, "long", long_table(long) + "\n\n" + machine_line(long))
    pictures = [
        f"![{alt}](images/{name}.svg)"
        for name, alt in (("growth-prefill", "Prompts from 1K to 128K tokens"),
                          ("growth-decode", "Decoding after 1K to 128K tokens"))
        if (folder / f"{name}.json").exists() and (root / "docs" / "images" / f"{name}.svg").exists()
    ]
    if pictures:
        replace(details, "growth", "\n\n".join(pictures))
    sparse, layers = load(folder, "sparse"), load(folder, "sparse-layers")
    if sparse is not None or layers is not None:
        replace(details, "sparse", sparse_table(sparse, layers))
    if memory is not None:
        replace(details, "memory", memory)


if __name__ == "__main__":
    main()
