"""sbom_test.py SOURCE: what script/sbom writes is a CycloneDX bill of materials, and complete."""

import json
import pathlib
import re
import subprocess
import sys


def main():
    source = pathlib.Path(sys.argv[1])
    bill = json.loads(subprocess.run([source / "script/sbom"], capture_output=True, text=True, check=True).stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["version"] in (source / "CMakeLists.txt").read_text()
    references = [c["bom-ref"] for c in bill["components"]]
    assert len(references) == len(set(references)), "a package is there twice"
    for component in bill["components"]:
        assert component["type"] == "library" and component["scope"] in ("required", "excluded"), component
        assert re.fullmatch(r"pkg:(pypi|deb/debian)/[\w.%~-]+(@[\w.%~-]+)?", component["purl"]), component
    [top] = bill["dependencies"]
    assert top["ref"] == bill["metadata"]["component"]["bom-ref"]
    assert set(top["dependsOn"]) == {c["bom-ref"] for c in bill["components"] if c["scope"] == "required"}
    locked = set(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^ ;\\]+)", (source / "script/requirements.lock").read_text(), re.M))
    assert locked == {(c["name"], c["version"]) for c in bill["components"] if c["purl"].startswith("pkg:pypi")}
    required = {c["name"] for c in bill["components"] if c["scope"] == "required"}
    assert {"llama-cpp-python", "libdnnl-dev", "libhwy-dev"} <= required
    assert not {"torch", "pytest", "libgtest-dev", "cmake"} & required
    # Names in script/bootstrap and the list of what only builds must not grow apart.
    text = (source / "script/sbom").read_text()
    builds_only = set(re.findall(r'"([^"]+)"', text[text.index("BUILDS_ONLY = {") : text.index("}", text.index("BUILDS_ONLY = {"))]))
    assert builds_only <= {c["name"] for c in bill["components"]}, "script/bootstrap has no such package"
    refused = subprocess.run([source / "script/sbom", "--format"], capture_output=True, text=True)
    assert refused.returncode == 1 and "--format" in refused.stderr
    print(f"{len(references)} packages, {len(required)} of them in programs")


if __name__ == "__main__":
    main()
