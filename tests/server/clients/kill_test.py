"""kill -9 while chats and documents are being written to --cache-dir: what was there is there again,
and so is every document whose upload was answered.

  kill_test.py           3 times
  kill_test.py --long    20 times"""

import http.client
import os
import random
import signal
import sys
import threading
import time
import unittest

from server import Server, first_layers, scratch

ROUNDS = 20 if "--long" in sys.argv else 3
GONE = (OSError, http.client.HTTPException)  # urllib's errors are OSErrors


class KillTest(unittest.TestCase):
    def traffic(self, server):
        """Until the server has gone."""
        def chats():
            try:
                while True:
                    text = f"{random.random()} " + "ship " * random.randrange(50, 400)
                    server.request("POST", "/v1/chat/completions",
                                   {"messages": [{"role": "user", "content": text}], "max_tokens": 3})
            except GONE:
                pass

        def uploads():
            try:
                for _ in range(3):
                    document = server.json("POST", "/v1/documents", {
                        "text": f"{random.random()} " + "harbour " * 300, "restkv": {"budget": 100}})
                    self.assertTrue(document["saved"])
                    self.answered.add(document["id"])
                    time.sleep(0.3)
            except GONE:
                pass
        return [threading.Thread(target=work) for work in (chats, chats, chats, uploads)]

    def test_nothing_is_lost(self):
        documents = {}  # id -> what is answered behind it
        self.answered = set()  # ids of uploads
        for round_number in range(ROUNDS + 1):
            # Too little memory for all chats: they are written while others run.
            server = Server("--cache-dir", str(scratch() / "cache"), "--memory", "90MiB", "--no-log",
                            model=first_layers())
            found = {d["id"]: d["status"] for d in server.documents()}
            lost = [d for d in self.answered.union(documents) if found.get(d) != "ready"]
            self.assertEqual(lost, [], "documents are lost")
            for document in found:
                answer = server.json("POST", "/v1/chat/completions", {
                    "document": document, "messages": [{"role": "user", "content": "And?"}], "max_tokens": 6,
                    "temperature": 0})["choices"]
                self.assertEqual(documents.setdefault(document, answer), answer)
            if round_number == ROUNDS:
                self.assertTrue(documents and self.answered)
                self.assertEqual(server.stop(), 0)
                return
            threads = self.traffic(server)
            for thread in threads:
                thread.start()
            time.sleep(1 + random.random())
            os.kill(server.pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
            self.assertEqual(server.stop(None), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main(argv=[arg for arg in sys.argv if arg != "--long"])
