"""A `restkv serve` that a test starts and stops."""

import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("RESTKV_PROGRAM", str(ROOT / "build/release/src/cli/restkv"))
MODEL = os.environ.get("RESTKV_TEST_MODEL", str(ROOT / "build/venv/model.gguf"))
MAKE_MODEL = os.environ.get("RESTKV_MAKE_MODEL", str(ROOT / "build/release/tools/make_model/make-model"))

# What a proxy of the user's would do to requests to this machine is not the question here.
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)
os.environ["NO_PROXY"] = "*"


@functools.cache
def scratch():
    """A folder that is removed at the end."""
    folder = tempfile.mkdtemp(prefix="restkv-clients-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


@functools.cache
def first_layers():
    """The first 4 of the model's 30 layers: the same tokens and template, nonsense several times as
    fast. Made once for all programs of a build."""
    path = pathlib.Path(MAKE_MODEL).parent / "first_layers" / "model.gguf"
    newest = max(os.path.getmtime(file) for file in (MODEL, MAKE_MODEL))
    if not path.exists() or path.stat().st_mtime < newest:
        path.parent.mkdir(exist_ok=True)
        made = scratch() / "model.gguf"
        subprocess.run([MAKE_MODEL, MODEL, str(made), "--layers", "4"], check=True, capture_output=True)
        own = path.with_name(f"{os.getpid()}.gguf")  # another program may be at it, too
        shutil.copyfile(made, own)
        os.replace(own, path)
    return str(path)


class Server:
    """Runs until `stop`. `arguments` are those of `restkv serve`."""

    def __init__(self, *arguments, model=MODEL):
        self.log = []
        self._address = threading.Event()
        self.url = None
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--model", model, "--port", "0", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._address.wait(120) or self.url is None:
            self.process.kill()
            raise RuntimeError("the server did not start:\n" + "\n".join(self.log))

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if found := re.match(r"page: +(http://\S+?)/$", line):
                self.url = found[1]
                self._address.set()
        self._address.set()

    @property
    def api(self):
        return self.url + "/v1"

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def stop(self, sign=signal.SIGTERM, within=30):
        """The exit code. `sign` None: it has been sent. Mistakes of the server's own in the log are an
        error."""
        if sign is not None:
            self.process.send_signal(sign)
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop within {within} s") from None
        self._reader.join(10)
        self.process.stderr.close()
        mistakes = [line for line in self.log if line.startswith("error:")]
        if mistakes:
            raise AssertionError("the server reported mistakes of its own: " + "; ".join(mistakes[:5]))
        return code

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers, text)"""
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers, refusal.read().decode()

    def json(self, method, path, body=None, **more):
        """The answer, which must be one of status 2xx."""
        status, _, text = self.request(method, path, body, **more)
        assert 200 <= status < 300, f"{method} {path}: {status} {text}"
        return json.loads(text)

    def has(self, method, path):
        """Whether there is such a route."""
        status, _, text = self.request(method, path, b"{}" if method == "POST" else None)
        return not (status in (404, 405) and "there is no" in text)

    def metrics(self):
        status, _, text = self.request("GET", "/metrics")
        assert status == 200, text
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.M)}

    def documents(self, seconds=60):
        """All documents, when none is being read: those of an earlier server come from the disk one by one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            documents = self.json("GET", "/v1/documents")["data"]
            if all(document["status"] in ("ready", "failed") for document in documents):
                return documents
            time.sleep(0.05)
        raise AssertionError(f"still reading after {seconds} s: {documents}")

    def wait_until_idle(self, seconds=60):
        """Until no request waits and nobody is being answered."""
        names = ("restkv_requests_waiting", "restkv_prompts_reading", "restkv_answers_writing")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            metrics = self.metrics()
            if not any(metrics[name] for name in names):
                return
            time.sleep(0.05)
        raise AssertionError(f"still busy after {seconds} s: {metrics}")


@functools.cache
def shared_server(*arguments, model):
    """One for all who want the same, until the end of the module; it must end with exit code 0."""
    server = Server(*arguments, model=model)

    def end():
        code = server.stop()
        if code != 0:
            raise AssertionError(f"the server ended with {code}:\n" + "\n".join(server.log))
    unittest.addModuleCleanup(end)
    return server


class ServerTest(unittest.TestCase):
    """Classes with the same arguments and model have one server."""

    arguments = ()
    model = staticmethod(first_layers)

    @classmethod
    def setUpClass(cls):
        cls.server = shared_server("--no-log", *cls.arguments, model=cls.model())

    def needs_route(self, method, path):
        if not self.server.has(method, path):
            self.skipTest(f"this server has no {method} {path}")


def fault(what):
    """Marks a test that shows a known fault of the server; it fails once the fault is mended."""
    assert what
    return unittest.expectedFailure
