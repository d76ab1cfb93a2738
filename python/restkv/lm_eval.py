"""restkv as a model of lm-evaluation-harness.

    python -m restkv.lm_eval run --model restkv --model_args path=model.gguf,budget=256 --tasks ...

Contexts are compressed before what follows them is scored or written. Besides `path`, `--model_args` takes
the options of caches (`method`, `budget`, `kv_type`, ...) and `threads`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from ._errors import ArgumentError
from ._model import Model, Tokens


@register_model("restkv")
class RestkvLM(TemplateLM):
    """Texts are scored token by token behind a compressed context, which is read once for all that follow it."""

    def __init__(self, path: str, threads: int = 0, batch_size: Any = 1, device: Any = None, max_batch_size: Any = None,
                 **options: Any) -> None:
        super().__init__()
        if str(device) not in ("None", "cpu"):
            raise ArgumentError(f"device is {device}; restkv computes on the CPU, leave it out")
        if str(batch_size) not in ("1", "auto"):
            raise ArgumentError(f"batch_size is {batch_size}; contexts are read one at a time, leave it out")
        self._model = Model(path, threads=threads)
        self._options = options
        self._context_length: int = self._model.info["context_length"]
        self._model.tokens(**options)  # refused now, not behind the first question

    @property
    def eot_token_id(self) -> int:
        return self._model.end_tokens[0]

    @property
    def prefix_token_id(self) -> int:
        return self._model.prefix_token

    @property
    def tokenizer_name(self) -> str:
        return repr(self._model)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._model.tokenize(string, add_special=add_special_tokens is not False, parse_special=True)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if not add_generation_prompt:
            raise NotImplementedError("restkv cannot leave the assistant's turn open; use no answer prefix")
        return self._model.format_chat(chat_history)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False,
                              **_: Any) -> list[tuple[float, bool]]:
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        read: tuple[list[int], Tokens] | None = None
        # Continuations of one context stand together.
        order = sorted(range(len(requests)), key=lambda i: requests[i][1])
        for i in tqdm(order, disable=disable_tqdm, desc="Running loglikelihood requests"):
            name, context, continuation = requests[i]
            if read is None or read[0] != context:
                read = (context, self._read(context))
            results[i] = self._score(read[1].fork(), continuation)
            if name is not None:
                self.cache_hook.add_partial("loglikelihood", name, results[i])
        return results

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        results = []
        for (text,) in tqdm([request.args for request in requests], disable=disable_tqdm):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False), prefix_token=self.prefix_token_id,
                max_seq_len=self._context_length - 1, context_len=1)
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            results.append(sum(logprob for logprob, _ in self._loglikelihood_tokens(pairs, disable_tqdm=True)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), results[-1])
        return results

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        results = []
        for context, given in tqdm([request.args for request in requests], disable=disable_tqdm):
            arguments = dict(given)
            stop = arguments.pop("until", [])
            max_tokens = arguments.pop("max_gen_toks", 256)
            temperature = arguments.pop("temperature", 0.0)
            if not arguments.pop("do_sample", False):
                temperature = 0.0
            text = self._read(self.tok_encode(context)).write(
                max_tokens=int(max_tokens), stop=stop, temperature=float(temperature), **arguments)
            results.append(text)
            self.cache_hook.add_partial("generate_until", (context, given), text)
        return results

    def _read(self, context: list[int]) -> Tokens:
        sequence = self._model.tokens(**self._options)
        sequence.append(context)
        return sequence

    @staticmethod
    def _score(sequence: Tokens, continuation: list[int]) -> tuple[float, bool]:
        logprob, greedy = 0.0, True
        for position, token in enumerate(continuation):
            logits = sequence.logits().astype(np.float64)
            highest = logits.max()
            logprob += float(logits[token] - highest - np.log(np.exp(logits - highest).sum()))
            greedy = greedy and int(logits.argmax()) == token
            if position + 1 < len(continuation):
                sequence.append([token])
        return logprob, greedy


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
