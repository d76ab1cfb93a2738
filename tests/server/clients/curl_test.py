"""curl: every route by hand, documents, keys, pages of other origins."""

import json
import re
import shutil
import subprocess
import sys
import unittest

from server import MODEL, PROGRAM, Server, ServerTest, first_layers, scratch

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


class Answer:
    def __init__(self, output):
        head, _, self.text = output.partition("\r\n\r\n")
        while self.text.startswith("HTTP/1.1"):  # 100 Continue
            head, _, self.text = self.text.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def json(self):
        return json.loads(self.text)


class CurlTest(ServerTest):
    def curl(self, path, *arguments, data=None):
        command = ["curl", "--silent", "--show-error", "--include", "--max-time", "120", *arguments]
        if data is not None:
            command += ["--header", "Content-Type: application/json", "--data-binary", "@-"]
        run = subprocess.run([*command, self.server.url + path], capture_output=True, check=True,
                             input=None if data is None else
                             data if isinstance(data, bytes) else json.dumps(data).encode())
        return Answer(run.stdout.decode())

    def get(self, path, *arguments):
        answer = self.curl(path, *arguments)
        self.assertEqual(answer.status, 200, answer.text)
        return answer

    def post(self, path, data, *arguments):
        answer = self.curl(path, *arguments, data=data)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def refused(self, status, path, *arguments, data=None):
        answer = self.curl(path, *arguments, data=data)
        self.assertEqual(answer.status, status, answer.text)
        error = answer.json["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        return answer


class Status(CurlTest):
    def test_health(self):
        for path in ("/health", "/v1/health"):
            self.assertEqual(self.get(path).json, {"status": "ok"})

    def test_request_ids(self):
        answer = self.get("/health", "--header", "X-Request-Id: mine-1")
        self.assertEqual(answer.headers["x-request-id"], "mine-1")
        self.assertRegex(self.refused(404, "/nothing").headers["x-request-id"], "^req-[0-9a-f]{32}$")

    def test_models(self):
        for path in ("/v1/models", "/models"):
            [model] = self.get(path).json["data"]
            self.assertEqual((model["id"], model["object"], model["max_model_len"]), ("model", "model", 8192))
        self.assertEqual(self.get("/v1/models/model").json["id"], "model")
        self.refused(404, "/v1/models/other")

    def test_props(self):
        props = self.get("/props").json
        self.assertEqual(props["n_ctx"], 8192)
        self.assertEqual(props["default_generation_settings"]["n_ctx"], 8192)
        self.assertEqual(props["model_alias"], "model")
        self.assertIn("<|im_start|>", props["chat_template"])
        self.assertEqual(props["total_slots"], 32)
        self.assertIn("keydiff", props["restkv"]["methods"])
        self.assertEqual(props["restkv"]["documents"]["kinds"][:2], ["text", "html"])

    def test_slots(self):
        self.post("/v1/chat/completions", HELLO)
        slots = self.get("/slots").json
        self.assertTrue(slots)
        self.assertEqual(slots[0]["state"], "kept")
        self.assertEqual(len(slots[0]["kept"]), self.get("/props").json["restkv"]["layers"])

    def test_metrics(self):
        before = self.server.metrics()
        self.post("/v1/chat/completions", HELLO)
        answer = self.get("/metrics")
        self.assertTrue(answer.headers["content-type"].startswith("text/plain; version=0.0.4"))
        for line in answer.text.splitlines():
            self.assertRegex(line, r"^(# (HELP|TYPE) restkv_\w+ .+|restkv_\w+ [0-9.e+-]+)$")
        kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.M))
        for name, kind in kinds.items():
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
        after = self.server.metrics()
        self.assertEqual(after["restkv_requests_completed_total"],
                         before["restkv_requests_completed_total"] + 1)
        self.assertEqual(after["restkv_tokens_generated_total"], before["restkv_tokens_generated_total"] + 4)

    def test_page(self):
        page = self.get("/")
        self.assertTrue(page.headers["content-type"].startswith("text/html"))
        self.assertIn("content-security-policy", page.headers)
        self.assertNotRegex(page.text, r"(src|href)=\"https?://")

    def test_head_and_options(self):
        for path in ("/health", "/v1/models", "/props", "/slots", "/metrics", "/", "/v1/documents"):
            whole = self.get(path)
            head = self.curl(path, "--head")
            self.assertEqual((head.status, head.text), (200, ""))
            self.assertEqual(head.headers["content-type"], whole.headers["content-type"])
            options = self.curl(path, "--request", "OPTIONS")
            self.assertEqual(options.status, 204)
            self.assertIn("GET", options.headers["allow"])
        self.assertEqual(self.refused(405, "/health", "--request", "POST").headers["allow"],
                         "GET, HEAD, OPTIONS")
        self.refused(405, "/v1/chat/completions")
        self.refused(404, "/v2/models")
        self.refused(404, "/v1/embeddings", data={"input": "x"})


class Texts(CurlTest):
    def test_tokenize(self):
        tokens = self.post("/tokenize", {"content": "Hello world"})
        self.assertEqual(tokens["count"], len(tokens["tokens"]))
        vllm = self.post("/tokenize", {"prompt": "Hello world", "add_special_tokens": False})
        self.assertEqual(vllm["tokens"], tokens["tokens"])
        pieces = self.post("/tokenize", {"content": "Hello <|im_end|>\u2603", "with_pieces": True})["tokens"]
        self.assertIn({"id": 2, "piece": "<|im_end|>"}, pieces)
        text = b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode()
                        for p in pieces)
        self.assertEqual(text.decode(), "Hello <|im_end|>\u2603")
        self.assertNotIn(2, self.post("/tokenize", {"content": "<|im_end|>", "parse_special": False})["tokens"])
        self.refused(400, "/tokenize", data={})

    def test_detokenize(self):
        tokens = self.post("/tokenize", {"content": "caf\u00e9 \U0001f600"})["tokens"]
        self.assertEqual(self.post("/detokenize", {"tokens": tokens})["content"], "caf\u00e9 \U0001f600")
        self.assertEqual(self.post("/detokenize", {"tokens": []})["content"], "")
        self.refused(400, "/detokenize", data={"tokens": [-1]})

    def test_template(self):
        text = self.post("/apply-template", HELLO)["prompt"]
        self.assertTrue(text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"))
        # What /completion says to it is what a chat says.
        chat = self.post("/v1/chat/completions", {**HELLO, "temperature": 0})
        native = self.post("/completion", {"prompt": text, "n_predict": 4, "temperature": 0})
        self.assertEqual(native["content"], chat["choices"][0]["message"]["content"])

    def test_tokenizer_info(self):
        info = self.get("/tokenizer_info").json
        self.assertEqual(info["eos_token"], "<|im_end|>")
        self.assertIn("chat_template", info)

    def test_native(self):
        answer = self.post("/completion", {"prompt": "The sky is", "n_predict": 5, "n_probs": 2,
                                           "return_tokens": True, "temperature": 0})
        self.assertEqual((answer["tokens_predicted"], answer["stop_type"]), (5, "limit"))
        self.assertEqual(len(answer["tokens"]), 5)
        self.assertEqual(len(answer["completion_probabilities"]), 5)
        self.assertEqual(self.post("/detokenize", {"tokens": answer["tokens"]})["content"], answer["content"])
        stream = self.curl("/completion", "--no-buffer", data={"prompt": "The sky is", "n_predict": 5,
                                                               "temperature": 0, "stream": True})
        parts = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
        self.assertEqual("".join(p["content"] for p in parts), answer["content"])
        self.assertEqual([p["stop"] for p in parts], [False] * (len(parts) - 1) + [True])
        grammar = self.post("/completion", {"prompt": "Is it?", "grammar": 'root ::= "yes" | "no"'})
        self.assertIn(grammar["content"], ("yes", "no"))
        schema = self.post("/completion", {"prompt": "x", "json_schema": {"enum": ["red", "blue"]}})
        self.assertIn(json.loads(schema["content"]), ("red", "blue"))
        self.refused(400, "/completion", data={"prompt": "x", "grammar": "root ::= ("})


class Documents(CurlTest):
    model = staticmethod(lambda: MODEL)  # of which one needs sense
    text = ("The harbour of Turku was opened in 1890. " * 12 + "The secret number is 4711. " +
            "Ships bring timber, paper and wine. " * 12)

    def ask(self, document, **more):
        body = {"document": document, "max_tokens": 16, "temperature": 0,
                "messages": [{"role": "user", "content": "What is the secret number?"}], **more}
        return self.post("/v1/chat/completions", body)

    def test_json(self):
        document = self.post("/v1/documents", {"text": self.text, "name": "harbour"})
        self.assertEqual((document["object"], document["name"], document["status"], document["progress"]),
                         ("document", "harbour", "ready", 1))
        self.assertIsNone(document["error"])
        path = "/v1/documents/" + document["id"]
        self.assertEqual(self.get(path).json, document)
        self.assertIn(document, self.get("/v1/documents").json["data"])

        first = self.ask(document["id"])
        self.assertIn("4711", first["choices"][0]["message"]["content"])
        self.assertGreaterEqual(first["usage"]["prompt_tokens_details"]["cached_tokens"], document["tokens"])
        second = self.ask(document["id"], stream=False)
        self.assertEqual(second["choices"], first["choices"])
        completion = self.post("/v1/completions", {"document": document["id"], "prompt": " It is",
                                                   "max_tokens": 2})
        self.assertTrue(completion["choices"][0]["text"])

        self.assertEqual(self.curl(path, "--request", "DELETE").json,
                         {"id": document["id"], "object": "document", "deleted": True})
        for again in (self.refused(404, path), self.refused(404, path, "--request", "DELETE")):
            self.assertEqual(again.json["error"]["code"], "document_not_found")
        gone = self.refused(404, "/v1/chat/completions", data={**HELLO, "document": document["id"]})
        self.assertEqual(gone.json["error"]["param"], "document")

    def test_multipart_and_waiting(self):
        file = scratch() / "harbour.txt"
        file.write_text(self.text)
        begun = self.curl("/v1/documents?wait=false", "--form", f"file=@{file}",
                          "--form", 'restkv={"method": "knorm", "budget": 64}')
        self.assertEqual(begun.status, 202)
        document = begun.json
        self.assertEqual(document["name"], "harbour.txt")
        self.assertEqual(document["restkv"], {"method": "knorm", "budget": 64})
        self.assertIn(document["status"], ("waiting", "reading", "ready"))
        answer = self.ask(document["id"])  # waits until it has been read
        self.assertGreater(answer["usage"]["prompt_tokens"], document["tokens"])
        ready = self.get("/v1/documents/" + document["id"]).json
        self.assertEqual(ready["status"], "ready")
        self.assertLessEqual(ready["kept"], 64)
        self.assertLess(ready["kv_bytes"], ready["full_kv_bytes"] / 2)
        named = self.curl("/v1/documents", "--form", f"file=@{file}", "--form", "name=../../etc/passwd")
        self.assertEqual((named.status, named.json["name"]), (200, "../../etc/passwd"))

    def test_refusals(self):
        image = scratch() / "image.png"
        image.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
        self.refused(415, "/v1/documents", "--form", f"file=@{image}")
        self.refused(400, "/v1/documents", "--form", "name=nothing")
        for body in ({}, {"text": ""}, {"text": 5}, {"text": "x", "id": "mine"},
                     {"text": "x", "restkv": {"method": "magic"}}, {"text": "x", "name": "n" * 257}):
            with self.subTest(body):
                self.refused(400, "/v1/documents", data=body)
        self.refused(400, "/v1/documents?wait=perhaps", data={"text": "x"})
        long = self.refused(400, "/v1/documents", data={"text": "word " * 10000})
        self.assertEqual(long.json["error"]["code"], "context_length_exceeded")
        document = self.post("/v1/documents", {"text": "The secret number is 4711."})["id"]
        for more in ({"restkv": {"budget": 64}}, {"messages": [{"role": "assistant", "content": "x"}]}):
            with self.subTest(more):
                self.refused(400, "/v1/chat/completions", data={**HELLO, "document": document, **more})
        self.refused(400, "/v1/completions", data={"document": document, "prompt": "x", "echo": True})

    def test_system_message_and_turns(self):
        document = self.post("/v1/documents", {"text": self.text})["id"]
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it about?"}]
        first = self.post("/v1/chat/completions", {"document": document, "messages": turns, "max_tokens": 8,
                                                   "temperature": 0})
        turns += [first["choices"][0]["message"], {"role": "user", "content": "And the number?"}]
        second = self.post("/v1/chat/completions", {"document": document, "messages": turns, "max_tokens": 8})
        self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"],
                           first["usage"]["prompt_tokens_details"]["cached_tokens"])


class Bodies(CurlTest):
    arguments = ("--max-body", "100KiB")

    def test_broken_bodies(self):
        for body in (b"", b"{", b"[]", b"null", b'"x"', b"{\"messages\": \xff}", b"[" * 100000,
                     b'{"messages":[{"role":"user","content":"\\ud800"}]}', b"{} {}", b"NaN", b"\x00"):
            with self.subTest(body[:20]):
                self.refused(400, "/v1/chat/completions", data=body)

    def test_large_bodies(self):
        self.refused(413, "/v1/chat/completions", data=b" " * (101 << 10))
        chunked = self.curl("/v1/chat/completions", "--header", "Transfer-Encoding: chunked",
                            data=b" " * (101 << 10))
        self.assertEqual(chunked.status, 413)
        self.assertEqual(self.curl("/v1/chat/completions", "--header", "Transfer-Encoding: chunked",
                                   data=HELLO).status, 200)
        expecting = self.curl("/v1/chat/completions", "--header", "Expect: 100-continue", data=HELLO)
        self.assertEqual(expecting.status, 200)
        self.refused(431, "/health", "--header", "X-Long: " + "x" * (17 << 10))
        self.refused(415, "/v1/chat/completions", "--header", "Content-Encoding: gzip", data=HELLO)

    def test_http_1_0_and_reused_connections(self):
        self.assertEqual(self.get("/health", "--http1.0").json, {"status": "ok"})
        url = self.server.url + "/health"
        run = subprocess.run(["curl", "--silent", "--write-out", "%{num_connects} ", url, url, url],
                             capture_output=True, text=True, check=True)
        self.assertEqual(re.findall(r"\}(\d)", run.stdout.replace(" ", "")), ["1", "0", "0"])


class Keys(CurlTest):
    @classmethod
    def setUpClass(cls):
        file = scratch() / "keys"
        file.write_text("# the second one\nfrom-a-file\n\n")
        cls.arguments = ("--api-key", "by-option", "--api-key-file", str(file))
        super().setUpClass()

    def test_keys(self):
        for path in ("/health", "/v1/health", "/"):
            self.get(path)
        for path in ("/v1/models", "/metrics", "/slots", "/props", "/v1/documents", "/tokenizer_info"):
            wrong = self.refused(401, path)
            self.assertEqual(wrong.headers["www-authenticate"], "Bearer")
            self.assertEqual(wrong.json["error"]["code"], "invalid_api_key")
            self.refused(401, path, "--header", "Authorization: Bearer wrong")
            self.refused(401, path, "--header", "Authorization: Basic by-option")
            self.refused(401, path, "--header", "Authorization: Bearer ")
            self.refused(401, path, "--header", "Authorization: Bearer # the second one")
            for key in ("by-option", "from-a-file"):
                self.get(path, "--header", f"Authorization: Bearer {key}")
                self.get(path, "--header", f"x-api-key: {key}")
        self.refused(401, "/v1/chat/completions", data=HELLO)


class Origins(CurlTest):
    arguments = ("--cors", "https://pages.example", "--host-name", "restkv.example")

    def test_cors(self):
        allowed = self.curl("/v1/chat/completions", "--request", "OPTIONS",
                            "--header", "Origin: https://pages.example",
                            "--header", "Access-Control-Request-Method: POST",
                            "--header", "Access-Control-Request-Headers: authorization, content-type")
        self.assertEqual(allowed.status, 204)
        self.assertEqual(allowed.headers["access-control-allow-origin"], "https://pages.example")
        self.assertIn("POST", allowed.headers["access-control-allow-methods"])
        self.assertIn("authorization", allowed.headers["access-control-allow-headers"])
        other = self.curl("/v1/chat/completions", "--request", "OPTIONS",
                          "--header", "Origin: https://evil.example",
                          "--header", "Access-Control-Request-Method: POST")
        self.assertNotIn("access-control-allow-origin", other.headers)
        answer = self.get("/v1/models", "--header", "Origin: https://pages.example")
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://pages.example")
        self.assertEqual(answer.headers["vary"], "Origin")
        missing = self.refused(404, "/v1/nothing", "--header", "Origin: https://pages.example")
        self.assertEqual(missing.headers["access-control-allow-origin"], "https://pages.example")
        self.refused(403, "/v1/chat/completions", "--header", "Origin: https://evil.example",
                     "--header", "Sec-Fetch-Site: cross-site", data=HELLO)

    def test_hosts(self):
        for host in ("localhost", "127.0.0.1", "restkv.example", "localhost:1"):
            self.get("/v1/models", "--header", f"Host: {host}")
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example"):
            self.assertEqual(self.refused(403, "/v1/models", "--header", f"Host: {host}").json["error"]["code"],
                             "host_not_allowed")


class Restarting(unittest.TestCase):
    def test_documents_and_chats_outlive_the_server(self):
        folder = scratch() / "cache"
        arguments = ("--no-log", "--cache-dir", str(folder), "--cache-size", "100MiB")
        question = {"messages": [{"role": "user", "content": "ship " * 50}], "max_tokens": 6, "temperature": 0}
        about = {"messages": [{"role": "user", "content": "And?"}], "max_tokens": 6, "temperature": 0}
        answers = []
        document = None
        for _ in range(2):
            server = Server(*arguments, model=first_layers())
            if document is None:
                document = server.json("POST", "/v1/documents", {"text": "harbour " * 200, "name": "harbour"})
                turn = server.json("POST", "/v1/chat/completions", question)["choices"][0]["message"]
            self.assertEqual(server.documents(), [document])
            more = {**question, "messages": question["messages"] + [turn, {"role": "user", "content": "More?"}]}
            answer = server.json("POST", "/v1/chat/completions", more)
            self.assertGreater(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 50)
            behind = server.json("POST", "/v1/chat/completions", {**about, "document": document["id"]})
            answers.append((answer["choices"], behind["choices"]))
            metrics = server.metrics()
            self.assertGreaterEqual(metrics["restkv_disk_files"], 1)
            self.assertGreater(metrics["restkv_disk_bytes"], 1000)
            self.assertEqual(metrics["restkv_disk_dropped_total"], 0)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(folder.stat().st_mode & 0o077, 0)
        self.assertEqual(*answers)


class Starting(unittest.TestCase):
    def test_log_and_end(self):
        server = Server("--log-format", "json", "--alias", "my-model", "--api-key", "hidden", model=first_layers())
        server.request("GET", "/v1/models?api_key=secret", headers={"Authorization": "Bearer hidden"})
        self.assertEqual(server.stop(), 0)
        text = "\n".join(server.log)
        self.assertIn("my-model is ready", text)
        self.assertNotIn("hidden", text)
        self.assertNotIn("secret", text)
        entries = [json.loads(line) for line in server.log if line.startswith("{")]
        self.assertEqual([entry["status"] for entry in entries], [200])

    def test_refused_options(self):
        for arguments in (["--cors", "example.org"], ["--log-format", "xml"], ["--port", "70000"],
                          ["--budget", "64", "--max-budget", "32"], ["--no-full", "--method", "full"],
                          ["--document-budget", "0%"], ["--document-budget", "2048", "--max-budget", "1024"],
                          ["--document-budget", "25%", "--document-method", "full"]):
            with self.subTest(arguments):
                run = subprocess.run([PROGRAM, "serve", "-m", first_layers(), *arguments],
                                     capture_output=True, text=True, timeout=60)
                self.assertEqual(run.returncode, 2)
                self.assertTrue(run.stderr.startswith("restkv: "), run.stderr)


if __name__ == "__main__":
    if not shutil.which("curl"):
        print("skipped: there is no curl")
        sys.exit(77)
    unittest.main()
