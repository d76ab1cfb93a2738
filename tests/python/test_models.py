"""Models, conversations, documents: what they answer, and how wrong use is refused."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import restkv
from conftest import numbers


def test_a_document_is_read_once_and_asked_often(real_path: Path, tmp_path: Path) -> None:
    model = restkv.Model(real_path)
    text = "The meeting was moved to Thursday. It takes place in room 12. "
    document = model.read(text + "There will be tea and biscuits for everybody who comes. " * 12, budget=0.6)
    assert document.stats["kept"] < document.stats["tokens"]
    assert "Thursday" in document.ask("To which day was the meeting moved?", max_tokens=40)
    document.save(tmp_path / "note.rkv")
    again = model.load(tmp_path / "note.rkv")
    assert isinstance(again, restkv.Document)
    assert "12" in again.fork().ask("In which room is the meeting?", max_tokens=40)


def test_streams_give_the_same_text(tiny: restkv.Model) -> None:
    whole = tiny.chat(numbers(50), budget=40, max_tokens=12)
    stream = tiny.chat(numbers(50), budget=40, max_tokens=12, stream=True)
    assert stream.finish_reason is None
    pieces = list(stream)
    assert "".join(pieces) == whole == stream.text
    assert stream.finish_reason == "length"
    assert len(stream.tokens) == 12
    assert stream.seconds > 0
    messages = [{"role": "user", "content": numbers(50)}]
    assert tiny.chat(messages, budget=40, max_tokens=12) == whole


def test_options_of_caches_and_answers_are_used(tiny: restkv.Model) -> None:
    conversation = tiny.conversation(method="snapkv:kernel=7", budget=48, kv_type="q8", system="You are brief.")
    first = conversation.ask(numbers(100), max_tokens=5, temperature=1.0, seed=3)
    assert conversation.stats["kept"] == 48
    assert conversation.stats["kv_bytes"] < conversation.stats["full_kv_bytes"]
    other = tiny.conversation(method="snapkv:kernel=7", budget=48, kv_type="q8", system="You are brief.")
    assert other.ask(numbers(100), max_tokens=5, temperature=1.0, seed=3) == first
    assert other.ask(numbers(100), max_tokens=5, temperature=1.0, seed=4) != first
    stop = tiny.chat("Count.", max_tokens=20)[3:5]
    assert stop not in tiny.chat("Count.", max_tokens=20, stop=stop)


def test_questions_are_answered_together_as_alone(tiny: restkv.Model) -> None:
    document = tiny.read(numbers(200), budget="25%", method="snapkv")
    questions = ["Who?", "When was that?", "Why?"]
    alone = [document.ask(question, max_tokens=6) for question in questions]
    assert document.ask_all(questions, max_tokens=6) == alone
    assert document.ask_all([], max_tokens=6) == []


def test_conversations_are_saved_and_go_on(tiny: restkv.Model, tmp_path: Path) -> None:
    conversation = tiny.conversation(budget=64)
    conversation.ask("Who?", max_tokens=4)
    conversation.save(tmp_path / "chat.rkv")
    again = tiny.load(tmp_path / "chat.rkv")
    assert isinstance(again, restkv.Conversation)
    assert again.ask("When?", max_tokens=4) == conversation.ask("When?", max_tokens=4)


def test_bare_tokens(tiny: restkv.Model, tmp_path: Path) -> None:
    tokens = tiny.tokenize("A story of")
    assert tiny.detokenize(tokens) == "A story of"
    sequence = tiny.tokens(method="full")
    assert sequence.logits().shape == (0,)
    sequence.append(tokens)
    logits = sequence.logits()
    assert logits.dtype == np.float32 and logits.shape == (tiny.info["vocabulary"],)
    copied = sequence.fork()
    answer = sequence.write(max_tokens=1, stream=True)
    list(answer)
    assert answer.tokens == [int(logits.argmax())]
    copied.append(np.array([5, 6]))
    copied.save(tmp_path / "t.rkv")
    assert (tiny.load(tmp_path / "t.rkv").logits() == copied.logits()).all()


def test_templates(tiny: restkv.Model) -> None:
    assert tiny.has_chat_template
    assert "Be brief." in tiny.format_chat([{"role": "system", "content": "Be brief."},
                                            {"role": "user", "content": "Who?"}])


def test_streams_may_be_left(tiny: restkv.Model) -> None:
    conversation = tiny.conversation()
    for _ in conversation.ask("Count.", stream=True, max_tokens=50):
        break  # nobody refers to it any more
    conversation.ask("Go on.", max_tokens=2)
    stream = conversation.ask("Go on.", stream=True, max_tokens=50)
    next(stream)
    with pytest.raises(restkv.ArgumentError, match="being written"):
        conversation.ask("And?")
    with pytest.raises(restkv.ArgumentError, match="being written"):
        conversation.fork()
    stream.close()
    assert stream.finish_reason == "cancelled"
    assert list(stream) == []
    conversation.ask("And?", max_tokens=2)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda m: m.chat("x", method="none"), restkv.ArgumentError, "none"),
    (lambda m: m.chat("x", budgett=5), TypeError, "budgett"),
    (lambda m: m.chat("x", temperature=-1), restkv.ArgumentError, "temperature"),
    (lambda m: m.chat("x", temperature="warm"), restkv.ArgumentError, "warm"),
    (lambda m: m.chat("x", stop=""), restkv.ArgumentError, "stop"),
    (lambda m: m.chat("x", max_tokens=-1), TypeError, ""),
    (lambda m: m.chat("x", kv_type="q5"), restkv.ArgumentError, "q5"),
    (lambda m: m.chat("x", chunk=-1), TypeError, ""),
    (lambda m: m.chat("x", decode_budget=70), restkv.ArgumentError, "interval"),
    (lambda m: m.chat([]), restkv.ArgumentError, "no messages"),
    (lambda m: m.chat([{"role": "user"}]), restkv.ArgumentError, "message 0"),
    (lambda m: m.chat([{"role": "user", "content": "x", "name": "y"}]), restkv.ArgumentError, "name"),
    (lambda m: m.chat("a\0b"), restkv.Error, ""),
    (lambda m: m.chat(b"x"), Exception, ""),
    (lambda m: m.chat("x", max_tokens=3, system="\ud800"), Exception, ""),
    (lambda m: m.read("x", budget=0.0), restkv.ArgumentError, "share"),
    (lambda m: m.read("x", method="full", budget=5), restkv.ArgumentError, "full"),
    (lambda m: m.tokens().append([]), restkv.ArgumentError, ""),
    (lambda m: m.tokens().append([-1]), restkv.ArgumentError, "-1"),
    (lambda m: m.tokens().append([10**9]), restkv.ArgumentError, "1000000000"),
    (lambda m: m.tokens().append([10**12]), (TypeError, OverflowError), ""),
    (lambda m: m.tokens().write(), restkv.ArgumentError, "nothing has been read"),
    (lambda m: m.tokens().save("/tmp/x"), restkv.ArgumentError, "nothing has been read"),
    (lambda m: m.detokenize([-3]), restkv.ArgumentError, "-3"),
    (lambda m: m.load("/nowhere"), restkv.InputError, "/nowhere"),
    (lambda m: m.load(__file__), restkv.InputError, "test_models.py"),
    (lambda m: m.conversation(system="x" * 100_000).ask("y"), restkv.ArgumentError, "context"),
])
def test_wrong_use_is_refused_by_name(tiny: restkv.Model, call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        call(tiny)


def test_settings_without_effect_are_mentioned(tiny: restkv.Model) -> None:
    with pytest.warns(UserWarning, match="no effect on method full"):
        tiny.conversation(method="full", interval=4)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(restkv.InputError, match="nowhere"):
        restkv.Model("/nowhere.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(restkv.InputError, match="x.gguf"):
        restkv.Model(tmp_path / "x.gguf")
    with pytest.raises(restkv.ArgumentError, match="f17"):
        restkv.Model(tmp_path / "x.gguf", linear="f17")


def test_models_of_a_hub(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    with pytest.raises(restkv.ArgumentError, match="names no file"):
        restkv.Model("hf:owner/repository")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(restkv.ArgumentError, match="huggingface_hub"):
        restkv.Model("hf:owner/repository/model.gguf")
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = lambda repository, file: {("owner/repository", "a/model.gguf"): str(tiny_path)}[repository, file]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert restkv.Model("hf:owner/repository/a/model.gguf").info["layers"] > 0


def test_closed_models_are_refused_and_what_they_read_goes_on(tiny_path: Path) -> None:
    with restkv.Model(tiny_path, threads=1) as model:
        document = model.read(numbers(50), method="snapkv", budget=40)
        stream = document.ask("Who?", stream=True, max_tokens=5)
    with pytest.raises(restkv.ArgumentError, match="was closed"):
        model.chat("Who?")
    with pytest.raises(restkv.ArgumentError, match="was closed"):
        _ = model.info
    del model
    assert document.ask("Who?", max_tokens=5) == "".join(stream)


def test_pickling_is_refused(tiny: restkv.Model) -> None:
    for thing in (tiny, tiny.conversation(), tiny.read("x", method="full"), tiny.tokens()):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy.deepcopy(thing)


def test_threads_use_one_model(tiny: restkv.Model) -> None:
    document = tiny.read(numbers(60), method="snapkv", budget=48)
    expected = document.ask("Who?", max_tokens=5)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(document.ask("Who?", max_tokens=5))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 6


def test_two_threads_are_too_many_for_a_conversation(tiny: restkv.Model) -> None:
    conversation = tiny.conversation()
    refused: list[BaseException] = []

    def other() -> None:
        try:
            conversation.ask("When?")
        except restkv.Error as error:
            refused.append(error)

    def progress(_: float) -> None:
        if not refused:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    conversation.ask(numbers(50), progress=progress, max_tokens=1)
    assert "in use" in str(refused[0])


def test_what_progress_raises_ends_the_reading(tiny: restkv.Model) -> None:
    conversation = tiny.conversation()
    seen: list[float] = []

    def progress(done: float) -> None:
        seen.append(done)
        if done > 0.3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        conversation.ask(numbers(400), progress=progress)
    assert 0 < seen[0] <= seen[-1] < 1
    assert conversation.stats["tokens"] == 0
    conversation.ask("Who?", max_tokens=1)
