#!/usr/bin/env python3
"""Draws docs/images/question-later.svg: what methods still find when the question is part of the prompt that is
compressed, and when it comes afterwards.

Usage: benchmarks/two_situations.py RUN_BEFORE RUN_AFTER > docs/images/question-later.svg
The runs are folders of `restkv eval prompts` with the same prompts and budgets as shares, one with
`--question before` and one with `--question after`.
"""

import json
import pathlib
import sys

# Method, name in the picture, colour in light and in dark mode, dashes, shape of the marks.
LINES = [
    ("kvzip", "KVzip", "#0b62a4", "#6cb4ee", "", "circle"),
    ("restkv", "ReST-KV", "#b8500c", "#f09a5c", "", "square"),
    ("snapkv:kernel=auto", "SnapKV, same smoothing", "#4d7c0f", "#a3d65c", "6 4", "diamond"),
    ("keydiff", "KeyDiff", "#6b7280", "#a8b0bd", "2 4", "triangle"),
]
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, BOTTOM = 900, 420, 62, 92, 370, 44, 56


def means(folder):
    """{cell: mean percent} and the number of prompts."""
    sums, count = {}, 0
    for path in sorted(pathlib.Path(folder).glob("results*.jsonl")):
        for line in path.read_text().splitlines():
            sample = json.loads(line)
            if "error" in sample:
                sys.exit(f"{path}: sample {sample['id']} failed: {sample['error']}")
            count += 1
            for cell in sample["cells"]:
                sums[cell["cell"]] = sums.get(cell["cell"], 0.0) + next(iter(cell["scores"].values()))
    if count == 0:
        sys.exit(f"{folder}: no results of restkv eval")
    return {cell: 100 * total / count for cell, total in sums.items()}, count


def mark(shape, x, y, css):
    if shape == "circle":
        return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    points = {"square": [(-4, -4), (4, -4), (4, 4), (-4, 4)], "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
              "triangle": [(0, -5.5), (5.5, 4.5), (-5.5, 4.5)]}[shape]
    return f'<polygon class="{css}" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in points)}"/>'


def panel(left, title, found):
    bottom, right = HEIGHT - BOTTOM, left + PANEL
    y_of = lambda percent: bottom - percent / 100 * (bottom - TOP)
    shares = sorted({float(cell.partition("@")[2].rstrip("%")) for cell in found if "%" in cell}, reverse=True)
    x_of = lambda i: left + 26 + i * (PANEL - 52) / (len(shares) - 1)
    out = [f'<text class="title" x="{left}" y="{TOP - 22}">{title}</text>']
    for percent in (0, 25, 50, 75, 100):
        out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y_of(percent):.1f}" y2="{y_of(percent):.1f}"/>')
        out.append(f'<text class="axis" text-anchor="end" x="{left - 8}" y="{y_of(percent) + 4:.1f}">{percent}</text>')
    for i, share in enumerate(shares):
        out.append(f'<text class="axis" text-anchor="middle" x="{x_of(i):.1f}" y="{bottom + 20}">{share:g}%</text>')
    if "full" in found:
        y = y_of(found["full"])
        out.append(f'<line class="full" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="axis" text-anchor="end" x="{right}" y="{y - 6:.1f}">full cache</text>')
    for i, (method, _, _, _, _, shape) in enumerate(LINES):
        points = [(x_of(j), y_of(found[f"{method}@{share:g}%"])) for j, share in enumerate(shares)
                  if f"{method}@{share:g}%" in found]
        if points:
            out.append(f'<polyline class="line l{i}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
            out += [mark(shape, x, y, f"mark m{i}") for x, y in points]
    return out


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    (before, count), (after, count_after) = means(sys.argv[1]), means(sys.argv[2])
    if count != count_after:
        sys.exit(f"{sys.argv[1]} has {count} prompts and {sys.argv[2]} {count_after}: take the same")
    light = "".join(f".l{i}{{stroke:{a};stroke-dasharray:{dash or 'none'}}}.m{i}{{fill:{a}}}"
                    for i, (_, _, a, _, dash, _) in enumerate(LINES))
    dark = "".join(f".l{i}{{stroke:{b}}}.m{i}{{fill:{b}}}" for i, (_, _, _, b, _, _) in enumerate(LINES))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           f'aria-label="Percent of hidden numbers found, question known and question later">',
           "<style>text{font:13px system-ui,sans-serif;fill:#1f2933}.title{font-weight:600;font-size:15px}"
           ".axis{fill:#52606d;font-size:12px}.grid{stroke:#d9e2ec}.full{stroke:#52606d;stroke-dasharray:1 4;"
           "stroke-width:2;stroke-linecap:round}.line{fill:none;stroke-width:2.5}.back{fill:#fff}" + light +
           "@media (prefers-color-scheme:dark){text{fill:#e4e7eb}.axis{fill:#b6c0cc}.grid{stroke:#3a4653}"
           ".full{stroke:#b6c0cc}.back{fill:#161b22}" + dark + "}</style>",
           f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>']
    x = LEFT
    for i, (_, name, _, _, _, shape) in enumerate(LINES):
        out.append(f'<polyline class="line l{i}" points="{x},30 {x + 34},30"/>')
        out.append(mark(shape, x + 17, 30, f"mark m{i}"))
        out.append(f'<text x="{x + 42}" y="34">{name}</text>')
        x += 70 + 8 * len(name)
    out += panel(LEFT, "The prompt ends with the question", before)
    out += panel(LEFT + PANEL + GAP, "The question comes later", after)
    out.append(f'<text class="axis" x="{LEFT}" y="{HEIGHT - 12}">share of the cache that is kept; percent found in '
               f"{count} prompts of 1,024 tokens, SmolLM2-135M</text></svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
