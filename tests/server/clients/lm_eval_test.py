"""lm-evaluation-harness (package lm-eval), unchanged: local-completions and local-chat-completions.

Its figures for small tasks are those of `restkv eval`, and those computed here from single tokens."""

import json
import os
import subprocess
import unittest

from server import MODEL, PROGRAM, ServerTest, scratch

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"
os.environ["HF_HOME"] = str(scratch() / "huggingface")

import lm_eval
from lm_eval.tasks import TaskManager

QUESTIONS = [
    ("The capital of France is", [" Paris", " Rome", " a loud bell"], 0),
    ("Two plus two is", [" five", " four"], 1),
    ("Water freezes at a temperature of zero", [" bananas", " degrees Celsius"], 1),
    ("The sun rises in the", [" east", " evening of the week", " soup"], 0),
    ("Cats like to chase", [" thermodynamics", " mice"], 1),
]

PASSAGES = [
    ("Water freezes at zero degrees Celsius. Ice is frozen water.", "is ice made of water", True),
    ("The harbour of Turku was opened in 1890. It closed in 1950.", "is the harbour still open", False),
    ("Cats are mammals. They feed their young with milk.", "are cats mammals", True),
    ("The bridge was built of wood. No stone was used.", "is the bridge made of stone", False),
    ("Bread is baked from flour, water and salt.", "is there salt in bread", True),
]

# The prompt of the harness's own task, on other data.
BOOLQ = """
task: passages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{passage}}}}\\nQuestion: {{{{question}}}}?\\nAnswer:"
doc_to_target: label
doc_to_choice: ["no", "yes"]
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

CHOICE = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
GENERATE = """
task: generate
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n", "."], max_gen_toks: 8, temperature: 0}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


class Harness(ServerTest):
    model = staticmethod(lambda: MODEL)
    arguments = ("--method", "full", "--linear", "f32", "--attention", "f32")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        file = scratch() / "questions.jsonl"
        file.write_text("".join(json.dumps({"question": q, "choices": c, "answer": a}) + "\n"
                                for q, c, a in QUESTIONS))
        folder = scratch() / "tasks"
        folder.mkdir()
        (folder / "choices.yaml").write_text(CHOICE.format(file=file))
        cls.passages = scratch() / "data/superglue/BoolQ/val.jsonl"
        cls.passages.parent.mkdir(parents=True)
        cls.passages.write_text("".join(
            json.dumps({"passage": p, "question": q, "idx": i, "label": label}) + "\n"
            for i, (p, q, label) in enumerate(PASSAGES)))
        (folder / "passages.yaml").write_text(BOOLQ.format(file=cls.passages))
        (folder / "generate.yaml").write_text(GENERATE.format(file=file))
        cls.tasks = TaskManager(include_path=str(folder), include_defaults=False)

    def evaluate(self, kind, route, task, chat=False, **arguments):
        return lm_eval.simple_evaluate(
            model=kind, tasks=[task], task_manager=self.tasks, apply_chat_template=chat, bootstrap_iters=0,
            model_args={"model": "model", "base_url": self.server.api + route, "max_length": 2048, **arguments})

    def log_likelihood(self, context, continuation):
        """The sum over tokens, each asked for as the next one behind all before it, and their number. Next
        tokens are computed with other roundings than those of a prompt."""
        ids = self.server.json("POST", "/tokenize", {"content": context + continuation})["tokens"]
        begin = len(self.server.json("POST", "/tokenize", {"content": context})["tokens"])
        total = 0.0
        for i in range(begin, len(ids)):
            answer = self.server.json("POST", "/completion", {
                "prompt": ids[:i], "n_predict": 1, "temperature": 0, "n_probs": 1, "cache_prompt": False,
                "logit_bias": [[ids[i], 100]]})
            token = answer["completion_probabilities"][0]
            self.assertEqual(token["id"], ids[i])
            total += token["logprob"]
        return total, len(ids) - begin

    def test_log_likelihoods(self):
        for arguments in ({}, {"batch_size": 4}, {"num_concurrent": 3}):
            with self.subTest(arguments):
                found = self.evaluate("local-completions", "/completions", "choices", **arguments)
                self.check_log_likelihoods(found["samples"]["choices"])

    def check_log_likelihoods(self, samples):
        right = 0
        for sample, (question, choices, answer) in zip(sorted(samples, key=lambda s: s["doc_id"]), QUESTIONS):
            own = [self.expected(question, choice) for choice in choices]
            for (value, _), (expected, tokens) in zip(sample["filtered_resps"], own):
                self.assertAlmostEqual(float(value), expected, delta=0.15 * tokens)
            best = own.index(max(own))
            self.assertEqual(sample["acc"], float(best == answer))
            right += best == answer
        self.assertGreaterEqual(right, 3)  # the model knows this much

    known = {}

    def expected(self, question, choice):
        if (question, choice) not in self.known:
            self.known[question, choice] = self.log_likelihood(question, choice)
        return self.known[question, choice]

    def test_figures_of_restkv_eval(self):
        found = self.evaluate("local-completions", "/completions", "passages", batch_size=2)
        samples = sorted(found["samples"]["passages"], key=lambda s: s["doc_id"])
        run = scratch() / "run"
        subprocess.run([PROGRAM, "eval", "superglue", "--tasks", "boolq", "-m", MODEL, "--data",
                        str(scratch() / "data"), "--method", "full", "--choices", "joint", "-o", str(run)],
                       check=True, capture_output=True)
        results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        self.assertEqual(len(results), len(samples))
        for sample, result in zip(samples, results):
            [cell] = result["cells"]
            self.assertEqual(sample["acc"], cell["scores"]["acc"])
            for (value, greedy), own, own_greedy in zip(
                    sample["filtered_resps"], cell["answer"]["log_likelihoods"], cell["answer"]["greedy"]):
                self.assertAlmostEqual(float(value), own, delta=0.01)
                self.assertEqual(str(greedy) == "True", bool(own_greedy))

    def test_generation(self):
        found = self.evaluate("local-completions", "/completions", "generate")["samples"]["generate"]
        for sample, (question, _, _) in zip(sorted(found, key=lambda s: s["doc_id"]), QUESTIONS):
            answer = self.server.json("POST", "/v1/completions", {
                "prompt": question, "max_tokens": 8, "temperature": 0, "stop": ["\n", ".", "<|im_end|>"]})
            self.assertEqual(sample["resps"][0][0], answer["choices"][0]["text"])

    def test_chats(self):
        found = self.evaluate("local-chat-completions", "/chat/completions", "generate", chat=True)
        for sample, (question, _, _) in zip(sorted(found["samples"]["generate"], key=lambda s: s["doc_id"]), QUESTIONS):
            answer = self.server.json("POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": question}], "max_tokens": 8, "temperature": 0,
                "stop": ["\n", "."]})
            self.assertEqual(sample["resps"][0][0], answer["choices"][0]["message"]["content"])


if __name__ == "__main__":
    unittest.main()
