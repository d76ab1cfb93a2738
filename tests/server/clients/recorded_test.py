"""Requests of lm-evaluation-harness 0.4.13 as they were recorded, and what it reads from the answers.

The harness itself is large; script/nightly runs it (lm_eval_test.py)."""

import json
import math
import unittest

from server import ROOT, ServerTest

RECORDED = ROOT / "tests/data/lm_eval/requests.jsonl"


class Recorded(ServerTest):
    def test_tokenizer_routes(self):
        info = self.server.json("GET", "/tokenizer_info")
        self.assertIsInstance(info["eos_token"], str)
        text = "Linguistics is the study of P\u0101\u1e47ini's language.\nAnswer: True"
        ids = self.server.json("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
        self.assertEqual(self.server.json("POST", "/detokenize", {"tokens": ids})["prompt"], text)
        [end] = self.server.json("POST", "/tokenize",
                                 {"prompt": info["eos_token"], "add_special_tokens": False})["tokens"]
        self.assertEqual(end, 2)

    def test_log_likelihoods(self):
        requests = [json.loads(line) for line in RECORDED.read_text().splitlines()]
        self.assertTrue(requests)
        for request in requests:
            body = {**request["body"], "model": "model"}
            answer = self.server.json("POST", request["path"], body,
                                      headers={"Authorization": request["authorization"] or ""})
            self.assertEqual([c["index"] for c in answer["choices"]], list(range(len(body["prompt"]))))
            for prompt, choice in zip(body["prompt"], answer["choices"]):
                logprobs = choice["logprobs"]
                values, likely = logprobs["token_logprobs"], logprobs["top_logprobs"]
                # The harness leaves out the last entry without a look: it must be the answer's token.
                self.assertEqual(len(values), len(prompt) + 1)
                self.assertEqual(len(likely), len(values))
                for value, entry in list(zip(values, likely))[1:]:
                    self.assertTrue(math.isfinite(value) and value <= 0)
                    # Greedy is what equals the largest, compared as floats.
                    self.assertGreaterEqual(max(entry.values()), value)
                    self.assertGreaterEqual(len(entry), 1)

    def test_batches_say_what_single_prompts_say(self):
        [first, second] = [json.loads(line)["body"]["prompt"][0][-40:]
                           for line in RECORDED.read_text().splitlines()][:2]
        body = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}

        def values(prompt):
            answer = self.server.json("POST", "/v1/completions", {**body, "prompt": prompt})
            return [choice["logprobs"]["token_logprobs"] for choice in answer["choices"]]
        alone = values([first]) + values([second])
        for a, b in zip(alone, values([first, second])):
            self.assertEqual(a[0], b[0])
            for x, y in zip(a[1:], b[1:]):
                self.assertAlmostEqual(x, y, places=5)

    def test_the_whole_text_counts(self):
        """The sum of a text's log-probabilities is that of its tokens one by one."""
        ids = self.server.json("POST", "/tokenize", {"content": "The harbour of Turku was opened."})["tokens"]

        def last(prompt, top):
            answer = self.server.json("POST", "/v1/completions", {
                "prompt": [prompt], "max_tokens": 1, "temperature": 0, "logprobs": top, "echo": False})
            return answer["choices"][0]["logprobs"]["top_logprobs"][0]
        echoed = self.server.json("POST", "/v1/completions", {
            "prompt": [ids], "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True})
        logprobs = echoed["choices"][0]["logprobs"]
        for i in range(1, len(ids)):
            step = last(ids[:i], 1)
            self.assertAlmostEqual(max(step.values()), max(logprobs["top_logprobs"][i].values()), delta=0.1)


if __name__ == "__main__":
    unittest.main()
