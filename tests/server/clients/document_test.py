"""Every example of docs/server.md that asks a server with curl, as it stands there."""

import os
import re
import shutil
import subprocess
import sys
import unittest

from server import PROGRAM, ROOT, ServerTest, scratch


class Examples(ServerTest):
    def test_examples(self):
        text = (ROOT / "docs/server.md").read_text()
        examples = [block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
                    if block.startswith("curl ")]
        self.assertGreater(len(examples), 5)
        folder = scratch() / "examples"
        folder.mkdir()
        (folder / "report.txt").write_text("The harbour was opened in 1890. " * 30)
        (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\nmax-time = 60\n")
        environment = {**os.environ, "B": self.server.url, "CURL_HOME": str(folder)}
        for example in examples:
            with self.subTest(example):
                run = subprocess.run(["bash", "-ec", example], cwd=folder, env=environment,
                                     capture_output=True, text=True, timeout=120)
                self.assertEqual(run.returncode, 0, run.stdout[-600:] + run.stderr)
                self.assertTrue(run.stdout)

    def test_routes_and_options_are_all_there(self):
        text = (ROOT / "docs/server.md").read_text()
        shown = subprocess.run([PROGRAM, "serve", "--help-all"], capture_output=True, text=True, check=True).stdout
        own = shown[:shown.index("\nCompression")]
        for option in re.findall(r"^ +(?:-\w,)?(--[\w-]+)", own, re.M):
            if option not in ("--help", "--help-all"):
                self.assertIn(f"`{option}", text, f"{option} is not described")
        source = "".join(path.read_text() for path in (ROOT / "src/server/service").glob("*.cc"))
        for path in re.findall(r'"(/[\w/{}.-]*)"', source):
            if path not in ("/", "/completions"):
                self.assertRegex(text, re.escape(path.replace("{id...}", "{id}").replace("{id}", "ID"))
                                 .replace("ID", r"(\{id\}|\$ID)"), f"{path} is not described")


if __name__ == "__main__":
    if not shutil.which("curl"):
        print("skipped: there is no curl")
        sys.exit(77)
    unittest.main()
