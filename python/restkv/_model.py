"""Models and what is read with them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, Self, Unpack, overload

from . import _restkv
from ._errors import ArgumentError
from ._settings import AnswerOptions, SequenceOptions, answer_arguments, sequence_arguments, split

Progress = Callable[[float], object]
"""Receives the share of a prompt that has been read, 0 to 1. What it raises ends the reading."""


class _NotPickled:
    """Caches and threads are not data; a saved file is."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: it holds threads and memory of this process; open the "
            "model where it is needed, and hand over texts, or files that save() wrote"
        )


class Answer(_NotPickled):
    """An answer that is being written: an iterator of pieces of text, whole characters each.

    `text` is what was written so far. Leaving it (`close`, or the end of a `for` with `break` once nothing refers
    to it any more) ends the answer where it is.
    """

    def __init__(self, answer: _restkv.Answer) -> None:
        self._answer = answer

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        piece = self._answer.next()
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Ends it here."""
        self._answer.stop()

    @property
    def text(self) -> str:
        """All that was written; complete at the end."""
        return self._answer.text()

    @property
    def tokens(self) -> list[int]:
        """The same as token ids; complete at the end."""
        return self._answer.tokens()

    @property
    def finish_reason(self) -> Literal["stop", "length", "cancelled"] | None:
        """Why it ended: the model had finished or a stop came, `max_tokens`, or `close`. None: it goes on."""
        return self._answer.finish_reason() if self._answer.ended() else None

    @property
    def seconds(self) -> float:
        """Time of decoding, without the prompt."""
        return self._answer.seconds()

    def _written(self) -> str:
        for _ in self:
            pass
        return self.text


class _Read(_NotPickled):
    """What a model has read: a cache and what is kept in it."""

    def __init__(self, sequence: _restkv.Sequence) -> None:
        self._sequence = sequence

    @property
    def stats(self) -> dict[str, float]:
        """tokens, kept (per KV head), kv_bytes, full_kv_bytes, allocated_bytes, compress_seconds."""
        return self._sequence.stats()

    def logits(self) -> Any:
        """Logits after the last token: float32 [vocabulary], a NumPy array; empty before the first."""
        return self._sequence.logits()

    def fork(self) -> Self:
        """A copy with its own cache. Costs memory, no computation."""
        return type(self)(self._sequence.fork())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file for `Model.load`, which appears whole or not at all."""
        self._sequence.save(os.fspath(path))

    def _write(self, options: Mapping[str, Any], stream: bool) -> str | Answer:
        answer = Answer(self._sequence.write(**answer_arguments(dict(options))))
        return answer if stream else answer._written()


class Document(_Read):
    """A text that was read and compressed once. It stays as it is: every question is asked of a copy, also from several
    threads at a time."""

    def __init__(self, sequence: _restkv.Sequence) -> None:
        super().__init__(sequence)
        self._lock = threading.Lock()  # copies are made one at a time

    def fork(self) -> Self:
        """A copy with its own cache. Costs memory, no computation."""
        return type(self)(self._copy())

    def _copy(self) -> _restkv.Sequence:
        with self._lock:
            return self._sequence.fork()

    @overload
    def ask(self, question: str, *, stream: Literal[False] = False, progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> str: ...
    @overload
    def ask(self, question: str, *, stream: Literal[True], progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> Answer: ...
    def ask(self, question: str, *, stream: bool = False, progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> str | Answer:
        """The answer to a question about the document, as text or, with `stream`, as an iterator of pieces."""
        arguments = answer_arguments(dict(options))
        copy = self._copy()
        copy.ask(question, progress)
        answer = Answer(copy.write(**arguments))
        return answer if stream else answer._written()

    def ask_all(self, questions: Iterable[str], **options: Unpack[AnswerOptions]) -> list[str]:
        """Answers to several questions, written together: the model's weights are read once for all."""
        arguments = answer_arguments(dict(options))
        answers = []
        for question in questions:
            copy = self._copy()
            copy.ask(question, None)
            answers.append(copy.write(**arguments))
        _restkv.write_together(answers, None)
        return [answer.text() for answer in answers]


class Conversation(_Read):
    """A chat whose cache holds what was said: each turn costs only its own tokens."""

    @overload
    def ask(self, message: str, *, stream: Literal[False] = False, progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> str: ...
    @overload
    def ask(self, message: str, *, stream: Literal[True], progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> Answer: ...
    def ask(self, message: str, *, stream: bool = False, progress: Progress | None = None,
            **options: Unpack[AnswerOptions]) -> str | Answer:
        """Says something and returns the answer, as text or, with `stream`, as an iterator of pieces. The
        iterator has to end, or be closed, before the next message."""
        arguments = answer_arguments(dict(options))
        self._sequence.ask(message, progress)
        answer = Answer(self._sequence.write(**arguments))
        return answer if stream else answer._written()


class Tokens(_Read):
    """Bare tokens, for who makes prompts without a chat template."""

    def append(self, tokens: Iterable[int], *, progress: Progress | None = None) -> None:
        """Reads tokens behind those before."""
        self._sequence.append([int(token) for token in tokens], progress)

    @overload
    def write(self, *, stream: Literal[False] = False, **options: Unpack[AnswerOptions]) -> str: ...
    @overload
    def write(self, *, stream: Literal[True], **options: Unpack[AnswerOptions]) -> Answer: ...
    def write(self, *, stream: bool = False, **options: Unpack[AnswerOptions]) -> str | Answer:
        """What the model writes behind them, as text or, with `stream`, as an iterator of pieces."""
        return self._write(options, stream)


class Model(_NotPickled):
    """A model in a GGUF file.

    `path` may also be `hf:owner/repository/file.gguf`, which the package huggingface_hub fetches. `threads`: 0 is one
    per processor. `linear`, `attention`: precisions of prompts ("auto", "f32", "bf16", "int8"). `rope_scaling`
    ("linear", "ntk", "yarn") stretches the context `rope_factor` times.

    It may be used from several threads. What was read with it goes on after `close`. After `os.fork`, a child opens
    its own.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, linear: str = "auto",
                 attention: str = "auto", rope_scaling: str = "", rope_factor: float = 1.0) -> None:
        self._path = _fetched(os.fspath(path))
        self._open: _restkv.Model | None = _restkv.Model.open(
            self._path, threads, linear, attention, rope_scaling, rope_factor)

    @property
    def _model(self) -> _restkv.Model:
        if self._open is None:
            raise ArgumentError(f"{self._path} was closed; open it anew")
        return self._open

    def __repr__(self) -> str:
        return f"restkv.Model({self._path!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it. Its memory is free once nothing that was read with it is left."""
        self._open = None

    @property
    def info(self) -> dict[str, Any]:
        """architecture, name, layers, query_heads, kv_heads, key_dim, value_dim, width, vocabulary, context_length,
        threads."""
        return self._model.info()

    @property
    def has_chat_template(self) -> bool:
        """Whether it is an instruct model."""
        return self._model.has_chat_template()

    @property
    def end_tokens(self) -> list[int]:
        """Tokens that end an answer, ascending."""
        return self._model.end_tokens()

    @property
    def prefix_token(self) -> int:
        """The token before the first of a text."""
        return self._model.prefix_token()

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids. `add_special`: the token that begins a text, if the model has one. `parse_special`: control
        tokens in the text are such; not for untrusted text."""
        return self._model.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Iterable[int], *, render_special: bool = False) -> str:
        """The text of token ids; control tokens are left out unless `render_special`."""
        return self._model.detokenize([int(token) for token in tokens], render_special)

    def format_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Messages in the model's chat template, ready for the answer."""
        return self._model.format_chat(_messages(messages))

    @overload
    def chat(self, messages: str | Sequence[Mapping[str, str]], *, stream: Literal[False] = False,
             progress: Progress | None = None, **options: Any) -> str: ...
    @overload
    def chat(self, messages: str | Sequence[Mapping[str, str]], *, stream: Literal[True],
             progress: Progress | None = None, **options: Any) -> Answer: ...
    def chat(self, messages: str | Sequence[Mapping[str, str]], *, stream: bool = False,
             progress: Progress | None = None, **options: Any) -> str | Answer:
        """The answer to messages ({"role": "user", "content": "..."}), of which the last is the user's; a text is one
        such message. `options`: those of `SequenceOptions` and `AnswerOptions`. With `stream`, an iterator of
        pieces. Nothing is kept afterwards: `conversation` does that."""
        of_sequence, of_answer = split(options)
        arguments = answer_arguments(of_answer)
        sequence = self._model.begin(**sequence_arguments(of_sequence))
        if isinstance(messages, str):
            sequence.ask(messages, progress)
        else:
            sequence.read_chat(_messages(messages), progress)
        answer = Answer(sequence.write(**arguments))
        return answer if stream else answer._written()

    def conversation(self, **options: Unpack[SequenceOptions]) -> Conversation:
        """An empty conversation."""
        return Conversation(self._model.begin(**sequence_arguments(dict(options))))

    def read(self, text: str, *, progress: Progress | None = None, **options: Unpack[SequenceOptions]) -> Document:
        """Reads a document, about which questions are asked later. The method is kvzip unless given: it expects no
        particular question. The budget is a tenth unless given."""
        defaults: dict[str, Any] = {"method": "kvzip"}
        if "budget" not in options and options.get("method", "kvzip") != "full":
            defaults["budget"] = 0.1
        sequence = self._model.begin(**sequence_arguments(dict(options), **defaults))
        sequence.read_document(text, progress)
        return Document(sequence)

    def tokens(self, **options: Unpack[SequenceOptions]) -> Tokens:
        """An empty sequence of bare tokens."""
        return Tokens(self._model.begin(**sequence_arguments(dict(options))))

    def load(self, path: str | os.PathLike[str]) -> Document | Conversation | Tokens:
        """What `save` wrote, or `restkv run --save-cache` or `/save` in `restkv chat`."""
        sequence = self._model.load(os.fspath(path))
        if sequence.is_document():
            return Document(sequence)
        return Conversation(sequence) if sequence.is_conversation() else Tokens(sequence)


def _messages(messages: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    pairs = []
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) \
                or not isinstance(message.get("content"), str):
            raise ArgumentError(f'message {number} is {message!r}; expected {{"role": "user", "content": "..."}}')
        unknown = [name for name in message if name not in ("role", "content")]
        if unknown:
            raise ArgumentError(f"message {number} has {unknown[0]!r}, which has no effect; leave it out")
        pairs.append((message["role"], message["content"]))
    return pairs


def _fetched(path: str) -> str:
    """The file of a path that may name one on a hub."""
    if not path.startswith("hf:"):
        return path
    parts = path.removeprefix("hf:").split("/", 2)
    if len(parts) < 3 or not parts[2].endswith(".gguf"):
        raise ArgumentError(f"{path} names no file; expected hf:owner/repository/file.gguf")
    try:
        import huggingface_hub
    except ImportError as missing:
        raise ArgumentError(f"{path} needs the package huggingface_hub, which is not installed") from missing
    return huggingface_hub.hf_hub_download("/".join(parts[:2]), parts[2])
