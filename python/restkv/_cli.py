"""The command `restkv`, which comes with the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    program = Path(__file__).parent / "bin" / "restkv"
    os.execv(program, ["restkv", *sys.argv[1:]])
