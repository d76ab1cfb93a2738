"""documents_test.py links SOURCE
   documents_test.py blocks SOURCE RESTKV SCRATCH MODEL
   documents_test.py blocks SOURCE RESTKV SCRATCH --make MAKE_MODEL TOKENIZER

links: every link and anchor in the Markdown files leads somewhere, docs/README.md has all pages, and
CITATION.cff has the project's version.
blocks: the shell blocks of README.md and docs/quickstart.md run from top to bottom, as a reader would
type them. The scripts that set up and test are stubs here, and servers end when they listen. A block
whose info string is not `sh` alone is not run. With --make the model is a tiny one with random weights,
whose answers mean nothing but come at once.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

PAGES = ("README.md", "docs/quickstart.md")


def markdown_files(source):
    skipped = {"build", ".git", "node_modules"}
    for path in sorted(source.rglob("*.md")):
        parts = path.relative_to(source).parts
        if not skipped & set(parts) and parts[:2] != ("tests", "data"):
            yield path


def without_code(text):
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`", text)


def anchors(path):
    """As GitHub names headings."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(slug if count == 0 else f"{slug}-{count}")
    return names


def links_of(path):
    text = without_code(path.read_text())
    return re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text)


def test_links(source):
    wrong = []
    count = 0
    for path in markdown_files(source):
        for link in links_of(path):
            if re.match(r"[a-z]+:", link):
                continue
            count += 1
            name, _, anchor = urllib.parse.unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            place = f"{path.relative_to(source)}: {link}"
            if not target.exists():
                wrong.append(f"{place}: there is no such file")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"{place}: there is no such heading")
    index = {(source / "docs" / link.partition("#")[0]).resolve() for link in links_of(source / "docs" / "README.md")}
    for page in sorted((source / "docs").glob("*.md")):
        if page.name != "README.md" and page.resolve() not in index:
            wrong.append(f"docs/README.md does not list {page.name}")
    version = re.search(r"^project\(restkv VERSION (\S+)", (source / "CMakeLists.txt").read_text(), re.MULTILINE).group(1)
    if f"\nversion: {version}\n" not in (source / "CITATION.cff").read_text():
        wrong.append(f"CITATION.cff: the version is not {version}, as in CMakeLists.txt")
    if count < 50:
        wrong.append(f"only {count} links were found: the test is blind")
    return wrong


def blocks_of(path):
    return re.findall(r"^```sh *\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)


WRAPPER = """#!/usr/bin/env bash
if [[ $1 != serve ]]; then exec "{restkv}" "$@"; fi
"{restkv}" "$@" --port 0 >serve.log 2>&1 &
for ((i = 0; i < 300; ++i)); do
  if grep -q 'http://' serve.log || ! kill -0 $! 2>/dev/null; then break; fi
  sleep 0.1
done
kill -INT $!
wait $!
cat serve.log
grep -q 'http://' serve.log
"""


def test_blocks(source, restkv, scratch, model, *make):
    wrong = []
    scratch.mkdir(parents=True, exist_ok=True)
    if model.name == "--make":
        program, tokenizer = make
        model = scratch / "tiny.gguf"
        subprocess.run([program, "tiny-llama", model, "--tokenizer", tokenizer], check=True, capture_output=True)
    for page in PAGES:
        folder = scratch / page.replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "build/release/src/cli").mkdir(parents=True)
        (folder / "build/venv").mkdir()
        (folder / "script").mkdir()
        for name in ("examples", "include", "docs"):
            (folder / name).symlink_to(source / name)
        (folder / "build/venv/model.gguf").symlink_to(model)
        program = folder / "build/release/src/cli/restkv"
        program.write_text(WRAPPER.format(restkv=restkv))
        program.chmod(0o755)
        for name in ("bootstrap", "demo", "test"):
            assert os.access(source / "script" / name, os.X_OK), name
            stub = folder / "script" / name
            stub.write_text("#!/bin/sh\n")
            stub.chmod(0o755)
        blocks = blocks_of(source / page)
        if len(blocks) < 3:
            wrong.append(f"{page} has {len(blocks)} blocks: the test is blind")
        commands = folder / "blocks.sh"
        commands.write_text("\n".join(blocks) + "\necho all blocks ran\n")
        done = subprocess.run(["bash", "-euo", "pipefail", "-x", commands], cwd=folder, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        if done.returncode != 0 or not done.stdout.rstrip().endswith("all blocks ran"):
            wrong.append(f"a command of {page} failed:\n{done.stdout[-3000:]}")
        print(done.stdout)
    return wrong


def main():
    topic, source, *rest = sys.argv[1:]
    source = pathlib.Path(source).resolve()
    if topic == "links":
        wrong = test_links(source)
    else:
        wrong = test_blocks(source, *(pathlib.Path(path).resolve() for path in rest))
    for line in wrong:
        print("FAILED:", line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
