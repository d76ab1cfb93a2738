"""The bill of materials is one, and names what the program is linked to; what the image starts is understood."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

debian = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="versions of system packages are asked of dpkg")


def sbom(root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, root / "script/sbom"], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    done = sbom()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@debian
def test_references_are_unique_and_there(bill: dict[str, Any]) -> None:
    references = [one["bom-ref"] for one in bill["components"]] + [bill["metadata"]["component"]["bom-ref"]]
    assert len(references) == len(set(references))
    for one in bill["dependencies"]:
        assert {one["ref"], *one["dependsOn"]} <= set(references)


@debian
def test_every_locked_package_is_in_it_with_its_sums(bill: dict[str, Any]) -> None:
    lock = (ROOT / "script/requirements.lock").read_text()
    names = {(one["name"], one["version"]) for one in bill["components"] if one["purl"].startswith("pkg:pypi/")}
    assert names == set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^ ;\\]+)", lock, re.M))
    sums = {each["value"] for one in bill["components"] for each in one.get("properties", [])
            if each["name"] == "restkv:sha256"}
    assert sums == set(re.findall(r"sha256:([0-9a-f]{64})", lock))


@debian
def test_what_the_program_is_linked_to_is_required(bill: dict[str, Any]) -> None:
    program = os.environ.get("RESTKV_PROGRAM", ROOT / "build/release/src/cli/restkv")
    needed = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "-d", program], capture_output=True, text=True,
                                                            check=True).stdout)
    required = {one["name"]: one["purl"] for one in bill["components"] if one["scope"] == "required"}
    assert "llama-cpp-python" in required
    packages = [name for name, purl in required.items() if purl.startswith("pkg:deb/")]
    files = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=True).stdout
    ours = re.compile(r"lib(llama|ggml)|lib[ault]+san")  # of llama-cpp-python; of builds for tests
    assert "libdnnl.so.2" in needed
    assert {name for name in needed if not ours.match(name)} <= {file.rpartition("/")[2] for file in files.splitlines()}


@debian
def test_a_lock_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    (tmp_path / "script").mkdir()
    for name in ("script/sbom", "script/bootstrap", "CMakeLists.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "script/requirements.lock").write_text("# [words]\nwonderwords @ https://example.org/w.zip\n")
    done = sbom(tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert "requirements.lock:2" in done.stderr and "wonderwords @" in done.stderr


def test_what_the_dockerfile_starts_is_understood() -> None:
    program = os.environ.get("RESTKV_PROGRAM", ROOT / "build/release/src/cli/restkv")
    command = json.loads(re.search(r"^CMD (.*)$", (ROOT / "packaging/Dockerfile").read_text(), re.M)[1])
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "/models/model.gguf" in done.stderr  # that file alone is missing
