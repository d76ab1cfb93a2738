"""--memory is never passed: what the server holds in memory beside the model, measured, under many clients with
long prompts, conversations, documents and answers that are given up.

  memory_test.py           a few layers of the model, some seconds
  memory_test.py --long    the whole model, 10 minutes"""

import collections
import http.client
import json
import random
import sys
import threading
import time
import unittest

from server import MODEL, Server, first_layers

LONG = "--long" in sys.argv
SECONDS = 600 if LONG else 4
CLIENTS = 24 if LONG else 12
MEMORY = (1024 if LONG else 160) << 20
# Of connections, requests that are being parsed, and what the allocator keeps between its blocks.
BESIDE = (64 if LONG else 24) << 20
BODY_ROOM = 24 << 20  # that large bodies may leave behind
LONGEST = 5500 if LONG else 5000  # words of a prompt
WORDS = ("harbour ship timber paper wine winter bridge letter stone garden river candle ledger captain market "
         "cellar window lantern copper anchor").split()
METHODS = ("restkv", "snapkv", "h2o", "full", "keydiff", "tova", "knorm", "expected-attention")


def resident(pid):
    """Bytes beside mapped files: the model's, libraries."""
    with open(f"/proc/{pid}/status") as lines:
        kib = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines)
               if name in ("VmRSS", "RssFile")}
    return (kib["VmRSS"] - kib["RssFile"]) << 10


class Watch(threading.Thread):
    """Looks at the memory of a process all the time."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, resident(self.pid))

    def stop(self):
        self.over.set()
        self.join()
        return self.peak


class Load:
    def __init__(self, server, seconds):
        self.server, self.end = server, time.monotonic() + seconds
        self.done, self.wrong = collections.Counter(), collections.Counter()
        self.documents, self.lock = [], threading.Lock()
        self.runs = 0  # each with other words

    def words(self, luck, most=LONGEST):
        return " ".join(luck.choices(WORDS, k=luck.randrange(20, most)))

    def options(self, luck):
        options = {"method": luck.choice(METHODS), "kv_type": luck.choice(("f16", "f16", "q8", "f32"))}
        if options["method"] != "full":
            options |= {"budget": luck.choice((64, 300, 1024, 3000)), "interval": luck.choice((0, 64, 256))}
        return options

    def ask(self, method, path, body=None):
        """The answer; None if the server has no room, now or ever."""
        status, _, text = self.server.request(method, path, body, timeout=600)
        if status == 503 or (status == 400 and "but the memory limit is" in text):
            self.done[f"no room ({status})"] += 1
            time.sleep(0.05)
            return None
        if status != 200:
            raise AssertionError(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text)

    def do_chat(self, luck):
        self.ask("POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": self.words(luck)}], "n": luck.choice((1, 1, 2, 4)),
            "max_tokens": luck.choice((4, 30, 100)), "ignore_eos": True, "restkv": self.options(luck)})

    def do_conversation(self, luck):
        messages = []
        for _ in range(luck.randrange(2, 4)):
            messages.append({"role": "user", "content": self.words(luck, LONGEST // 4)})
            answer = self.ask("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 10})
            if answer is None:
                return
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})

    def do_scores(self, luck):
        self.ask("POST", "/v1/completions", {"prompt": [self.words(luck, 800) for _ in range(luck.choice((1, 3)))],
                                             "max_tokens": 1, "echo": True, "logprobs": luck.choice((0, 5))})

    def do_document(self, luck):
        method = luck.choice(("kvzip", "keydiff", "full"))
        options = {"method": method} | ({} if method == "full" else {"budget": luck.choice((100, 500, "25%"))})
        document = self.ask("POST", "/v1/documents", {"text": self.words(luck, LONGEST // 2), "restkv": options})
        if document is None:
            return
        with self.lock:
            self.documents.append(document["id"])
            gone = self.documents.pop(0) if len(self.documents) > 3 else None
        if gone:
            self.ask("DELETE", f"/v1/documents/{gone}")

    def do_question(self, luck):
        with self.lock:
            if not self.documents:
                return
            document = luck.choice(self.documents)
        status, _, text = self.server.request("POST", "/v1/chat/completions", {
            "document": document, "max_tokens": 20,
            "messages": [{"role": "user", "content": self.words(luck, 300)}]}, timeout=600)
        gone = "there is no document" in text or "has been removed" in text
        if status not in (200, 503) and not gone:
            raise AssertionError(f"a question: {status} {text[:300]}")

    def do_vanish(self, luck):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.request("POST", "/v1/chat/completions", json.dumps({
            "messages": [{"role": "user", "content": self.words(luck)}], "stream": True, "n": 2, "max_tokens": 2000,
            "ignore_eos": True, "restkv": self.options(luck)}))
        time.sleep(luck.random())
        connection.close()

    def client(self, seed):
        luck = random.Random(seed)
        kinds = [name for name in dir(self) if name.startswith("do_")]
        while time.monotonic() < self.end:
            kind = luck.choice(kinds)
            try:
                getattr(self, kind)(luck)
                self.done[kind] += 1
            except (AssertionError, OSError, http.client.HTTPException, ValueError) as fault:
                self.wrong[f"{kind}: {type(fault).__name__} {fault}"[:400]] += 1

    def run(self):
        self.runs += 1
        threads = [threading.Thread(target=self.client, args=(self.runs * CLIENTS + i,)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class MemoryTest(unittest.TestCase):
    def test_memory_is_never_passed(self):
        server = Server("--no-log", "--memory", str(MEMORY), "--queue", "200", model=MODEL if LONG else first_layers())
        try:
            self.check(server)
        except BaseException:
            server.process.kill()
            raise
        self.assertEqual(server.stop(), 0)

    def check(self, server):
        # Weights that prompts and methods need in another form belong to the model. A short prompt makes them.
        for method in METHODS:
            server.json("POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": " ".join(WORDS * 10)}], "max_tokens": 1,
                "restkv": {"method": method} | ({} if method == "full" else {"budget": 64})}, timeout=300)
        server.wait_until_idle()
        at_first, account = resident(server.pid), server.metrics()["restkv_memory_used_bytes"]
        watch = Watch(server.pid)
        watch.start()
        load = Load(server, SECONDS)
        load.run()
        for _ in range(10):  # a slow machine needs longer to fill it
            if server.metrics()["restkv_evictions_total"] > 0:
                break
            load.end = time.monotonic() + SECONDS
            load.run()
        server.wait_until_idle(300)
        peak = watch.stop()
        metrics = server.metrics()
        mib = 1 << 20
        print(f"{dict(load.done)}; memory {MEMORY / mib:.0f} MiB; beside files {at_first / mib:.0f} MiB at first "
              f"(account {account / mib:.0f}), {peak / mib:.0f} at most, {resident(server.pid) / mib:.0f} at last "
              f"(account {metrics['restkv_memory_used_bytes'] / mib:.0f}); "
              f"{metrics['restkv_evictions_total']:.0f} evictions", flush=True)
        self.assertEqual(dict(load.wrong), {})
        self.assertGreater(sum(load.done.values()), CLIENTS)
        self.assertGreater(metrics["restkv_evictions_total"], 0, "there was room for everything")
        self.assertGreater(peak - at_first, MEMORY / 3, "hardly anything was held")
        self.assertLess(peak - at_first, MEMORY + BESIDE)
        self.assertLessEqual(metrics["restkv_memory_used_bytes"], MEMORY)

    def test_what_large_bodies_leave_goes_back(self):
        server = Server("--no-log", model=first_layers())
        try:
            server.json("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 1})
            server.wait_until_idle()
            before = resident(server.pid)
            watch = Watch(server.pid)
            watch.start()
            message = {"role": "user", "content": "x" * 64}
            body = json.dumps({"messages": [message] * 300_000}).encode()

            refused = []

            def send():
                status, _, text = server.request("POST", "/v1/chat/completions", body)
                refused.append((status, "300000 items" in text))
            together = [threading.Thread(target=send) for _ in range(4)]
            for thread in together:
                thread.start()
            for thread in together:
                thread.join()
            self.assertEqual(refused, [(400, True)] * 4)
            end = time.monotonic() + 10
            while (left := resident(server.pid) - before) > BODY_ROOM and time.monotonic() < end:
                time.sleep(0.05)
            peak = watch.stop() - before
            print(f"4 bodies of {len(body) >> 20} MiB: {peak >> 20} MiB more at most, {left >> 20} at last",
                  flush=True)
            self.assertGreater(peak, len(body), "the bodies were never there")
            self.assertLess(left, BODY_ROOM)
        except BaseException:
            server.process.kill()
            raise
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main(argv=[arg for arg in sys.argv if arg != "--long"])
