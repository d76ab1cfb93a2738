"""Models for the tests: one that is random and takes a moment, and the real one that comes with the project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import restkv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    program = os.environ.get("RESTKV_MAKE_MODEL", ROOT / "build/release/tools/make_model/make-model")
    subprocess.run([program, "tiny-llama", path, "--type", "F32"], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> restkv.Model:
    return restkv.Model(tiny_path, threads=2)


@pytest.fixture(scope="session")
def real_path() -> Path:
    return Path(os.environ.get("RESTKV_TEST_MODEL", ROOT / "build/venv/model.gguf"))


def numbers(count: int, seed: int = 0) -> str:
    return "Story:" + "".join(f" {(i * 7919 + seed * 104729) % 997}" for i in range(count))
