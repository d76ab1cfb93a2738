#!/usr/bin/env python3
"""A stand-in for `restkv serve` whose answers are known and whose failures come on demand.

It lets the tests of the page see slow streams, full queues, lost documents and broken answers, which
a real server shows rarely. The words of a question choose the answer: see `Answer`. A document with
"slow" in its name takes a second.

  mock_server.py [--port N] [--key KEY] [--document-budget N|P%] [--loading-seconds S] [--no-pdf]

The first line of the output is the address.
"""

import argparse
import email.parser
import email.policy
import json
import pathlib
import random
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LAYERS, HEADS, BYTES_PER_TOKEN = 30, 3, 23040
METHODS = ["full", "restkv", "kvzip", "snapkv", "streaming-llm", "h2o", "expected-attention", "random"]
PAGE = pathlib.Path(__file__).resolve().parents[3] / "src/server/page"
TOKEN = re.compile(r"\n+|\s?[^\W_]{1,7}|\s?[^\w\s]|\s|.", re.S)

ATTACK = """<img src=x onerror="window.attacked=1"> <script>window.attacked=1</script>
[a](javascript:window.attacked=1) [b](data:text/html,<script>window.attacked=1</script>) <javascript:alert(1)>
![picture](http://198.51.100.7/pixel.png) [c](http://example.com/?q="onmouseover="window.attacked=1)

```html"><img src=x onerror=window.attacked=1>
</code></pre><script>window.attacked=1</script>
```
| <b onmouseover=window.attacked=1>x</b> | y |
|---|---|
| <svg onload=window.attacked=1> | z |
"""

MARKDOWN = """## Costs at a glance

The report names **three** kinds of costs, and *one* of them grew faster than planned:

1. **Energy** rose by 12% to 4.1 million euros.
2. **Rent** stayed where it was.
   - The lease ends in 2027.
   - A renewal is `under discussion`.
3. **Staff** fell by 3%, because two posts stayed empty.

| Kind | 2024 | 2025 | Change |
|:-----|-----:|-----:|-------:|
| Energy | 3.7 | 4.1 | +12% |
| Rent | 1.2 | 1.2 | 0% |
| Staff | 9.8 | 9.5 | -3% |

> The board expects energy costs to fall again from the second quarter on.

The sum can be checked with a few lines:

```python
costs = {"energy": 4.1, "rent": 1.2, "staff": 9.5}
total = sum(costs.values())
print(f"{total:.1f} million euros")
```

More is in [the annex](https://example.com/annex)."""

PLAIN = (
    "Energy costs rose by 12% to 4.1 million euros. The report gives two reasons: the price of gas in the first quarter, "
    "and the second cooling plant, which ran from May on. The board expects the costs to fall again next year."
)


def tokens_of(text):
    return TOKEN.findall(text)


def kept_counts(tokens, method, budget):
    """Counts that look like those of a model: sinks, the end, and passages that matter."""
    pairs = LAYERS * HEADS
    if method == "full" or budget >= len(tokens):
        return [pairs] * len(tokens)
    source = random.Random(f"{method} {budget} {len(tokens)}")
    weights = []
    level = 0.2
    for i, token in enumerate(tokens):
        if source.random() < 0.03:
            level = source.choice([0.02, 0.05, 0.1, 0.3, 1.2, 3.0])
        weight = level * source.random() * (2 if any(c.isdigit() for c in token) else 1)
        if method == "streaming-llm":
            weight = 0
        if i < 4 or i >= len(tokens) - 32:
            weight = 50
        if method == "streaming-llm" and i >= len(tokens) - budget:
            weight = 50
        weights.append(weight)
    scale = budget * pairs / max(1e-9, sum(weights))
    for _ in range(6):
        total = sum(min(pairs, weight * scale) for weight in weights)
        scale *= budget * pairs / max(1.0, total)
    return [round(min(pairs, weight * scale)) for weight in weights]


def budget_of(budget, tokens):
    """Tokens; a share of the document comes as "25%"."""
    if isinstance(budget, str):
        return max(1, int(tokens * float(budget.rstrip("%")) / 100))
    return int(budget)


class Document:
    def __init__(self, number, name, text, options, own_budget):
        self.id = f"doc-{number}"
        self.name = name
        self.text = text
        self.method = options.get("method", "kvzip")
        self.tokens = tokens_of(text)
        self.budget = budget_of(options.get("budget", own_budget), len(self.tokens))
        self.seconds = 1.2 if "slow" in name else 0.1
        self.began = time.monotonic() + self.seconds / 4
        self.fails = "unreadable" in name

    def state(self):
        passed = time.monotonic() - self.began
        progress = min(1.0, max(0.0, passed / self.seconds)) if self.seconds else 1.0
        status = (
            "waiting"
            if passed < 0
            else "reading" if progress < 1 else "failed" if self.fails else "ready"
        )
        total = len(self.tokens)
        kept = total if self.method == "full" else min(total, self.budget)
        ready = status == "ready"
        error = (
            {"message": "The PDF has no text: it may be a scan."} if status == "failed" else None
        )
        return {
            "id": self.id,
            "object": "document",
            "name": self.name,
            "status": status,
            "progress": round(progress, 3),
            "tokens": total if passed >= 0 else 0,
            "kv_bytes": kept * BYTES_PER_TOKEN if ready else 0,
            "full_kv_bytes": total * BYTES_PER_TOKEN if ready else 0,
            "kept": kept if ready else 0,
            "restkv": {"method": self.method, "budget": self.budget},
            "error": error,
        }

    def kept(self):
        return {
            "object": "kept",
            "layers": LAYERS,
            "heads": HEADS,
            "tokens": self.tokens,
            "kept": kept_counts(self.tokens, self.method, self.budget),
        }


class Answer:
    """What a question gets. The last question of the messages decides by its words."""

    def __init__(self, question):
        self.delay = 0.003
        self.reasoning = ""
        self.breaks_after = self.errs_after = None
        if "slow" in question:
            self.text, self.delay = " ".join(f"word{i}" for i in range(400)), 0.04
        elif "attack" in question:
            self.text = ATTACK
        elif "table" in question or "markdown" in question:
            self.text = MARKDOWN
        elif "think" in question:
            self.text, self.reasoning = (
                PLAIN,
                "The question is about costs. The second section has the figures.",
            )
        else:
            self.text = PLAIN
        if "cut the connection" in question:
            self.breaks_after = 12
        if "error in the middle" in question:
            self.errs_after = 12


class State:
    def __init__(self, arguments):
        self.arguments = arguments
        own = arguments.document_budget
        self.own_budget = int(own) if own.isdigit() else own
        self.documents = {}
        self.sequences = {}
        self.numbers = 0
        self.busy = {}  # question -> answers of 503 so far
        self.requests = []  # (method, path, body) for tests
        self.lock = threading.Lock()
        self.began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            html, policy = pathlib.Path(folder, "page.html"), pathlib.Path(folder, "policy.txt")
            subprocess.run(
                [
                    "cmake",
                    "-D",
                    f"PAGE={PAGE}",
                    "-D",
                    f"HTML={html}",
                    "-D",
                    f"POLICY={policy}",
                    "-P",
                    str(PAGE / "embed.cmake"),
                ],
                check=True,
            )
            self.html, self.policy = html.read_bytes(), policy.read_text()

    def number(self):
        with self.lock:
            self.numbers += 1
            return self.numbers


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_):
        pass

    def send_json(self, body, status=200, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def send_error_json(self, status, message, param=None, **headers):
        self.send_json(
            {"error": {"message": message, "type": "error", "param": param, "code": None}},
            status,
            **headers,
        )

    def allowed(self):
        key = self.state.arguments.key
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.send_error_json(401, "The key is missing or wrong.")
        return False

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(self.state.html)))
            self.send_header("Content-Security-Policy", self.state.policy)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(self.state.html)
            return
        loading = time.monotonic() - self.state.began < self.state.arguments.loading_seconds
        if path == "/health":
            self.send_json(
                {"status": "loading model"} if loading else {"status": "ok"},
                503 if loading else 200,
            )
            return
        if path == "/mock/requests":
            self.send_json(self.state.requests)
            return
        if not self.allowed():
            return
        if loading:
            self.send_error_json(503, "The model is still being loaded.", Retry_After="1")
        elif path == "/props":
            self.send_json(
                {
                    "model_path": "/models/tiny.gguf",
                    "model_alias": "SmolLM2-135M-Instruct",
                    "default_generation_settings": {"n_ctx": 8192},
                    "restkv": {
                        "method": "restkv",
                        "budget": 1024,
                        "max_budget": 4096,
                        "methods": METHODS,
                        "documents": {
                            "method": "kvzip",
                            "budget": self.state.own_budget,
                            "kinds": ["text", "html"] + ([] if self.state.arguments.no_pdf else ["pdf"]),
                        },
                        "kv_bytes_per_token": BYTES_PER_TOKEN,
                        "layers": LAYERS,
                        "heads": HEADS,
                        "version": "mock",
                    },
                }
            )
        elif path == "/v1/models":
            self.send_json(
                {"object": "list", "data": [{"id": "SmolLM2-135M-Instruct", "object": "model"}]}
            )
        elif path == "/v1/documents":
            self.send_json(
                {
                    "object": "list",
                    "data": [document.state() for document in self.state.documents.values()],
                }
            )
        elif match := re.fullmatch(r"/v1/documents/([^/]+)(/kept)?", path):
            document = self.state.documents.get(match[1])
            if not document:
                self.send_error_json(404, "There is no such document.", "document")
            else:
                self.send_json(document.kept() if match[2] else document.state())
        elif match := re.fullmatch(r"/v1/sequences/([^/]+)/kept", path):
            kept = self.state.sequences.get(match[1])
            if kept:
                self.send_json(kept)
            else:
                self.send_error_json(404, "There is no such sequence.")
        else:
            self.send_error_json(404, "There is no such route.")

    def do_DELETE(self):
        if not self.allowed():
            return
        name = self.path.rsplit("/", 1)[-1]
        self.state.requests.append(("DELETE", self.path, None))
        if self.path.startswith("/mock/forget"):  # the server loses all documents
            self.state.documents.clear()
            self.state.sequences.clear()
            self.send_json({})
        elif self.state.documents.pop(name, None):
            self.send_json({"id": name, "object": "document", "deleted": True})
        else:
            self.send_error_json(404, "There is no such document.")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.allowed():
            return
        path = urllib.parse.urlsplit(self.path).path
        if path == "/v1/documents":
            self.add_document(body)
        elif path == "/v1/chat/completions":
            request = json.loads(body)
            self.state.requests.append(("POST", path, request))
            self.chat(request)
        else:
            self.send_error_json(404, "There is no such route.")

    def add_document(self, body):
        if self.headers.get_content_type() == "multipart/form-data":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
            fields = {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                for part in message.iter_parts()
            }
            text = fields["file"].decode("utf-8", "replace")
            name = fields["name"].decode()
            options = json.loads(fields.get("restkv", b"{}"))
        else:
            request = json.loads(body)
            text, name, options = (
                request["text"],
                request.get("name", "text"),
                request.get("restkv", {}),
            )
        self.state.requests.append(
            ("POST", "/v1/documents", {"name": name, "restkv": options, "size": len(text)})
        )
        if "refused" in name:
            self.send_error_json(
                400, "The document has 200,000 tokens, but at most 131,072 can be read.", "file"
            )
            return
        number = self.state.number()
        document = Document(number, name, text, options, self.state.own_budget)
        self.state.documents[document.id] = document
        self.send_json(document.state(), 202)

    def event(self, body, event=None):
        data = body if isinstance(body, str) else json.dumps(body)
        text = (f"event: {event}\n" if event else "") + f"data: {data}\n\n"
        self.wfile.write(f"{len(text.encode()):x}\r\n".encode() + text.encode() + b"\r\n")
        self.wfile.flush()

    def chat(self, request):
        question = request["messages"][-1]["content"]
        document = None
        if "document" in request:
            document = self.state.documents.get(request["document"])
            if not document:
                self.send_error_json(404, "There is no such document.", "document")
                return
        if "busy" in question:
            self.state.busy[question] = self.state.busy.get(question, 0) + 1
            if self.state.busy[question] <= 2:
                self.send_error_json(503, "The queue is full.", Retry_After="1")
                return
        if "refuse" in question:
            self.send_error_json(
                400, "The prompt has 9,000 tokens, but the context has 8,192.", "messages"
            )
            return
        answer = Answer(question)
        number = self.state.number()
        identity = f"chatcmpl-{number}"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def chunk(delta, reason=None, **more):
            return {
                "id": identity,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
                **more,
            }

        try:
            self.event(chunk({"role": "assistant", "content": ""}))
            for piece in tokens_of(answer.reasoning):
                self.event(chunk({"reasoning_content": piece}))
                time.sleep(answer.delay)
            pieces = tokens_of(answer.text)
            for i, piece in enumerate(pieces):
                if i == answer.errs_after:
                    self.event(
                        {"error": {"message": "The memory for sequences is used up."}},
                        event="error",
                    )
                    self.event("[DONE]")
                    self.wfile.write(b"0\r\n\r\n")
                    return
                if i == answer.breaks_after:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.event(chunk({"content": piece}))
                time.sleep(answer.delay)
            prompt = (document.tokens if document else []) + tokens_of(
                "\n" + question + "\n" + answer.text
            )
            options = (
                {"method": document.method, "budget": document.budget}
                if document
                else request.get("restkv", {})
            )
            kept = min(len(prompt), int(options.get("budget", 1024)))
            self.state.sequences[identity] = {
                "object": "kept",
                "layers": LAYERS,
                "heads": HEADS,
                "tokens": prompt,
                "kept": kept_counts(prompt, options.get("method", "restkv"), kept),
            }
            usage = {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(pieces),
                "total_tokens": len(prompt) + len(pieces),
                "prompt_tokens_details": {"cached_tokens": len(document.tokens) if document else 0},
            }
            self.event(
                {
                    **chunk({}, "stop", usage=usage),
                    "restkv": {
                        "kept": kept,
                        "dropped": len(prompt) - kept,
                        "kv_bytes": kept * BYTES_PER_TOKEN,
                        "full_kv_bytes": len(prompt) * BYTES_PER_TOKEN,
                        "compress_ms": 41.0,
                    },
                }
            )
            self.event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            self.state.requests.append(("GONE", identity, None))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="")
    parser.add_argument("--document-budget", default="1024")
    parser.add_argument("--loading-seconds", type=float, default=0)
    parser.add_argument("--no-pdf", action="store_true")
    arguments = parser.parse_args()
    Handler.state = State(arguments)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
