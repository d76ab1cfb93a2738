"""Clients that vanish, stall, lie and babble, and many that behave, all at the same time.

  load_test.py           a sample, some seconds
  load_test.py --long    10 minutes, at least 10,000 requests, 1,000 connections, 64 running streams

Each request gets a proper answer. Afterwards the server has no more open files, threads and memory
than after the first part of the load, and it answers as at the beginning."""

import asyncio
import collections
import json
import os
import random
import subprocess
import sys
import time
import unittest

from server import MAKE_MODEL, Server, scratch

LONG = "--long" in sys.argv
SECONDS = 600 if LONG else 4  # of load after the first part
LEAST_REQUESTS = 10_000 if LONG else 200
CONNECTIONS = 1000 if LONG else 150
STREAMS = 64 if LONG else 16
ROOM = (64 if LONG else 32) << 20  # that resident memory may grow by after the first part
BODY_LIMIT = 256 << 10

WORDS = "harbour ship timber paper wine winter bridge letter stone garden river candle".split()


def tiny_model():
    path = scratch() / "tiny.gguf"
    subprocess.run([MAKE_MODEL, "tiny-llama", str(path), "--type", "F32"], check=True, capture_output=True)
    return str(path)


class Improper(Exception):
    """An answer that is none."""


class Client:
    """One connection, byte by byte."""

    def __init__(self, server):
        self.port = server.port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    def send(self, data):
        self.writer.write(data)

    def vanish(self):
        """Without a goodbye."""
        self.writer.transport.abort()

    def post(self, path, body, *headers, length=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers,
                 f"Content-Length: {len(data) if length is None else length}"]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def get(self, path, method="GET"):
        self.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def head(self):
        text = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 120)
        first, *lines = text.decode("latin-1").split("\r\n")
        version, status = first.split()[:2]
        if version != "HTTP/1.1":
            raise Improper(first)
        return int(status), {n.lower(): v for n, v in (x.split(": ", 1) for x in lines if x)}

    async def part(self):
        """One of a body in chunks; b"" at its end."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 120), 16)
        data = await self.reader.readexactly(size + 2)
        if not data.endswith(b"\r\n"):
            raise Improper(data)
        return data[:-2]

    async def answer(self, *expected):
        """(status, text); anything but these statuses is improper."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            text = b""
            while data := await self.part():
                text += data
        else:
            text = await self.reader.readexactly(int(headers["content-length"]))
        if status not in expected:
            raise Improper(f"{status} {text[:300]}")
        if status >= 400:
            error = json.loads(text)["error"]
            if not error["message"] or "0x" in error["message"] or status == 500:
                raise Improper(f"{status} {text[:300]}")
        return status, text.decode()


class Load:
    def __init__(self, server, seed=1):
        self.server = server
        self.random = random.Random(seed)
        self.done = collections.Counter()
        self.wrong = collections.Counter()
        self.kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    def words(self, n):
        return " ".join(self.random.choice(WORDS) for _ in range(n))

    def chat(self, tokens=6, **more):
        return {"messages": [{"role": "user", "content": self.words(self.random.randrange(1, 60))}],
                "max_tokens": tokens, **more}

    # ---- Clients that behave ----

    async def do_chat(self, client):
        client.post("/v1/chat/completions", self.chat(restkv={"budget": self.random.choice([48, 64, 1024])}))
        status, text = await client.answer(200, 503)
        if status == 200 and json.loads(text)["usage"]["completion_tokens"] not in range(1, 7):
            raise Improper(text)

    async def do_stream(self, client):
        client.post("/v1/chat/completions", self.chat(20, stream=True, ignore_eos=True))
        status, text = await client.answer(200, 503)
        if status == 200 and not text.endswith("data: [DONE]\n\n"):
            raise Improper(text[-200:])

    async def do_completions(self, client):
        prompts = [self.words(5) for _ in range(self.random.randrange(1, 9))]
        client.post("/v1/completions", {"prompt": prompts, "max_tokens": 3, "n": self.random.choice([1, 2, 8]),
                                        "echo": True, "logprobs": 3})
        await client.answer(200, 503)

    async def do_reuse(self, client):
        for path in ("/health", "/v1/models", "/slots", "/metrics", "/"):
            client.get(path)
            await client.answer(200)
        for i in range(3):
            client.post("/tokenize", {"content": self.words(20)})
            await client.answer(200)
            self.done["reused"] += 1

    async def do_pipeline(self, client):
        for _ in range(4):
            client.get("/health")
            client.post("/detokenize", {"tokens": [1, 2, 3]})
        for _ in range(8):
            await client.answer(200)

    async def do_document(self, client):
        client.post("/v1/documents", {"text": self.words(self.random.randrange(50, 600))})
        status, text = await client.answer(200, 503)
        if status == 503:
            return
        name = json.loads(text)["id"]
        client.post("/v1/chat/completions", self.chat(document=name))
        await client.answer(200, 503)
        client.get(f"/v1/documents/{name}", "DELETE")
        await client.answer(200)

    async def do_grammar(self, client):
        client.post("/completion", {"prompt": "x", "n_predict": 8, "grammar": 'root ::= "a" | "b"'})
        await client.answer(200, 503)

    # ---- Clients that vanish ----

    async def do_vanish_in_stream(self, client):
        client.post("/v1/chat/completions", self.chat(2000, stream=True, ignore_eos=True, n=self.random.choice([1, 4])))
        status, _ = await client.head()
        if status == 200:
            for _ in range(self.random.randrange(0, 4)):
                await client.part()
        client.vanish()

    async def do_vanish_while_waiting(self, client):
        client.post("/v1/chat/completions", self.chat(500, ignore_eos=True))
        await asyncio.sleep(self.random.random() * 0.05)
        client.vanish()

    async def do_vanish_in_body(self, client):
        client.post("/v1/chat/completions", b'{"messages": [', length=5000)
        await client.writer.drain()
        client.vanish()

    async def do_vanish_in_head(self, client):
        client.send(b"POST /v1/chat/completions HTT")
        await client.writer.drain()
        client.vanish()

    async def do_vanish_in_document(self, client):
        client.post("/v1/documents", {"text": self.words(600)})
        await asyncio.sleep(self.random.random() * 0.05)
        client.vanish()

    async def do_half_close(self, client):
        client.post("/v1/chat/completions", self.chat())
        client.writer.write_eof()
        try:
            await client.answer(200, 503)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who does not listen is not told

    async def do_no_reader(self, client):
        client.post("/v1/chat/completions", self.chat(300, stream=True, ignore_eos=True))
        await asyncio.sleep(0.5)
        client.vanish()

    # ---- Clients that lie and babble ----

    async def do_short_length(self, client):
        client.post("/v1/chat/completions", self.chat(), length=10)
        await client.answer(400)

    async def do_wrong_lengths(self, client):
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
        lie = self.random.choice([b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2",
                                  b"Content-Length: 9x", b"Content-Length: 99999999999999999999999",
                                  b"Content-Length: 2\r\nTransfer-Encoding: chunked",
                                  b"Transfer-Encoding: gzip, chunked"])
        client.send(head + lie + b"\r\n\r\n{}")
        await client.answer(400, 413, 501)

    async def do_huge(self, client):
        client.post("/v1/chat/completions", b"", length=10 << 30)
        await client.answer(413)

    async def do_too_large(self, client):
        client.post("/v1/chat/completions", b" " * (BODY_LIMIT + 1))
        try:
            await client.answer(413)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # closed while it was still being sent

    async def do_broken_chunks(self, client):
        client.send(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
                    self.random.choice([b"zz\r\n", b"-5\r\nhello\r\n", b"5\r\nhelloworld\r\n",
                                        b"ffffffffffffffff\r\nx\r\n"]))
        await client.answer(400, 413)

    async def do_broken_json(self, client):
        body = self.random.choice([b"{", b"[" * 5000, b'{"messages": 5}', b"\xff\xfe", b'{"messages": [{}]}',
                                   b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
                                   b'{"messages":[{"role":"user","content":"x"}],"n":-1}'])
        client.post("/v1/chat/completions", body)
        await client.answer(400)

    async def do_wrong_values(self, client):
        client.post("/completion", {"prompt": "x", "grammar": self.random.choice(
            ["root ::= (", "root ::= root", "root ::= x", 'a ::= "b"', "root ::= [a-z]{1,100000}"])})
        await client.answer(400)

    async def do_noise(self, client):
        client.send(self.random.randbytes(200).replace(b"\n", b"x") + b"\r\n\r\n")
        try:
            await client.answer(400, 431, 505)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def do_large_head(self, client):
        client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (17 << 10) + b"\r\n\r\n")
        try:
            await client.answer(431)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def do_other_words(self, client):
        client.get(self.random.choice(["/v1/../../etc/passwd", "/%2e%2e/%00", "/v1/documents/..%2f..", "/x" * 500]),
                   self.random.choice(["GET", "DELETE", "PATCH", "BREW"]))
        await client.answer(400, 404, 405, 501)

    # ---- All together ----

    async def one(self):
        kind = self.random.choice(self.kinds)
        try:
            async with Client(self.server) as client:
                await kind(client)
        except (Improper, KeyError, ValueError) as fault:
            self.wrong[f"{kind.__name__}: {fault}"[:500]] += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as fault:
            self.wrong[f"{kind.__name__}: {type(fault).__name__} {fault}"[:500]] += 1
        self.done[kind.__name__] += 1

    async def mixed(self, seconds, least=0, together=24):
        end = time.monotonic() + seconds

        async def worker():
            while time.monotonic() < end or sum(self.done.values()) < least:
                await self.one()
        await asyncio.gather(*(worker() for _ in range(together)))

    async def crowd(self, connections, streams):
        """So many connections; some of them stall, `streams` of them are being answered."""
        clients = []
        for i in range(connections - streams):
            client = await Client(self.server).__aenter__()
            clients.append(client)
            if i % 3 == 0:
                client.send(b"POST /v1/chat/comp")  # and nothing more
            elif i % 3 == 1:
                client.get("/health")
                await client.answer(200)

        async def stream():
            async with Client(self.server) as client:
                client.post("/v1/chat/completions", self.chat(60, stream=True, ignore_eos=True))
                _, text = await client.answer(200)
                if not text.endswith("data: [DONE]\n\n"):
                    raise Improper(text[-200:])
        results = await asyncio.gather(*(stream() for _ in range(streams)), return_exceptions=True)
        for fault in results:
            if isinstance(fault, BaseException):
                self.wrong[f"crowd: {type(fault).__name__} {fault}"[:500]] += 1
        for client in clients:
            await client.__aexit__()
        self.done["crowd"] += connections


def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(pid, name):
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


class LoadTest(unittest.TestCase):
    def test_load(self):
        server = Server("--no-log", "--memory", "64MiB", "--max-body", str(BODY_LIMIT), "--queue", "200",
                        "--parallel", str(STREAMS), "--connections", str(CONNECTIONS + 100), "--no-full",
                        model=tiny_model())
        try:
            self.check(server)
        except BaseException:
            server.process.kill()
            raise
        self.assertEqual(server.stop(), 0)

    def check(self, server):
        def measure():
            server.wait_until_idle(60)
            end = time.monotonic() + 20
            while files(server.pid) > at_first and time.monotonic() < end:
                time.sleep(0.2)  # connections of those who vanished are noticed one by one
            return {"files": files(server.pid), "threads": status(server.pid, "Threads"),
                    "resident": status(server.pid, "VmRSS") << 10}

        question = {"messages": [{"role": "user", "content": "harbour"}], "max_tokens": 8, "temperature": 0}
        before = server.json("POST", "/v1/chat/completions", question)["choices"]
        time.sleep(0.2)
        at_first = files(server.pid)
        load = Load(server)
        began = time.monotonic()
        asyncio.run(load.mixed(SECONDS / 4))
        asyncio.run(load.crowd(CONNECTIONS, STREAMS))
        first = measure()
        report = [f"after {sum(load.done.values()):6} requests: {first}"]
        rounds = 4 if LONG else 1
        for i in range(rounds):
            asyncio.run(load.mixed(SECONDS / rounds, LEAST_REQUESTS if i == rounds - 1 else 0))
            asyncio.run(load.crowd(CONNECTIONS, STREAMS))
            last = measure()
            report.append(f"after {sum(load.done.values()):6} requests: {last}")
        metrics = server.metrics()
        print(f"{time.monotonic() - began:.0f} s", dict(load.done), *report, sep="\n", flush=True)
        print({name: metrics[f"restkv_{name}"] for name in (
            "requests_accepted_total", "requests_completed_total", "requests_failed_total",
            "requests_cancelled_total", "requests_refused_total", "tokens_generated_total", "sequences",
            "memory_used_bytes")}, flush=True)

        self.assertEqual(dict(load.wrong), {})
        self.assertGreaterEqual(sum(load.done.values()), LEAST_REQUESTS)
        self.assertEqual(last["files"], at_first)
        self.assertEqual(last["threads"], first["threads"])
        self.assertLess(last["resident"], first["resident"] + ROOM)
        self.assertEqual(metrics["restkv_requests_accepted_total"],
                         sum(metrics[f"restkv_requests_{end}_total"] for end in ("completed", "failed", "cancelled")))
        self.assertEqual(server.json("GET", "/v1/documents")["data"], [])
        self.assertLessEqual(metrics["restkv_memory_used_bytes"], metrics["restkv_memory_limit_bytes"])
        self.assertEqual(server.json("POST", "/v1/chat/completions", question)["choices"], before)


if __name__ == "__main__":
    unittest.main(argv=[arg for arg in sys.argv if arg != "--long"])
