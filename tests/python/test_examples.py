"""The scripts of python/examples, as people start them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "python/examples"


def run(name: str, *args: object, **environment: str) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / name, *map(str, args)], capture_output=True, text=True, cwd=ROOT,
                          timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_report_is_asked(tiny_path: Path, tmp_path: Path) -> None:
    text = "".join((ROOT / "examples/harbour.txt").read_text()[:700])
    (tmp_path / "report.txt").write_text(text)
    out = run("ask_a_report.py", tmp_path / "report.txt", RESTKV_MODEL=str(tiny_path))
    tokens, kept = map(int, re.search(r"(\d+) tokens were read; (\d+) per head", out).groups())
    assert tokens > kept >= 64
    assert out.count("?") >= 3


def test_methods_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = run("compare_methods.py", tmp_path / "picture.png", MPLCONFIGDIR=str(ROOT / "build/matplotlib"))  # fonts are listed once
    change = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in out.splitlines()[:-1]}
    assert change["restkv"][3] < change["long-values"][3]
    assert all(row[0] > row[-1] for row in change.values())
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_they_are_notebooks() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 2
    for script in scripts:
        text = script.read_text()
        assert text.startswith("# ---\n# jupyter:\n") and text.count("\n# %%") > 3
