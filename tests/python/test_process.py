"""What concerns the whole process: Ctrl-C, fork, start, exit, and the command that comes along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import restkv
from conftest import numbers


def python(code: str, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, args)], capture_output=True,
                          text=True, timeout=300, env={**os.environ, **environment})


def test_ctrl_c_ends_a_prompt_and_nothing_is_lost(real_path: Path) -> None:
    model = restkv.Model(real_path)
    conversation = model.conversation()
    conversation.ask("Who are you?", max_tokens=2)
    tokens = conversation.stats["tokens"]
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        conversation.ask(numbers(1900))
        pytest.fail("the prompt was read before the signal came")
    assert time.monotonic() - began < 30
    assert conversation.stats["tokens"] == tokens
    conversation.ask("And who am I?", max_tokens=2)


def test_ctrl_c_ends_an_answer(tiny: restkv.Model) -> None:
    conversation = tiny.conversation()
    stream = conversation.ask("Count.", stream=True, max_tokens=100_000)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        list(stream)
    stream.close()
    conversation.ask("Go on.", max_tokens=2)
    document = tiny.read(numbers(20), method="full")
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while True:
            document.ask_all(["Who?"] * 3, max_tokens=200)


def test_forked_processes_are_told_to_open_their_own(tiny: restkv.Model, tiny_path: Path) -> None:
    conversation = tiny.conversation()
    conversation.ask("Who?", max_tokens=2)
    k = np.ones((2, 100, 8), np.float32)
    restkv.select(None, k, k, method="keydiff", budget=50)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (lambda: conversation.ask("When?"), lambda: tiny.chat("Who?"), conversation.fork):
                try:
                    call()
                except restkv.ArgumentError as error:
                    assert "after the fork" in str(error)
                else:
                    os._exit(2)
            restkv.select(None, k, k, method="keydiff", budget=50)
            own = restkv.Model(tiny_path, threads=2)
            assert own.chat("Who?", max_tokens=2) is not None
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_forked_processes_end_as_others_do(tiny_path: Path) -> None:
    done = python("""
        import os, sys, restkv
        model = restkv.Model(sys.argv[1], threads=2)
        document = model.read("A text.", method="full")
        if os.fork() == 0:
            del model, document   # the threads of the parent are not waited for
            sys.exit(0)
        sys.exit(os.wait()[1])
        """, tiny_path)
    assert done.returncode == 0, done.stderr


def test_the_end_of_a_process_may_come_in_the_middle(tiny_path: Path) -> None:
    done = python("""
        import sys, threading, time, restkv
        model = restkv.Model(sys.argv[1], threads=2)
        threading.Thread(target=lambda: model.chat("Count.", max_tokens=100000), daemon=True).start()
        stream = model.chat("Count.", stream=True, max_tokens=50)
        next(stream)
        time.sleep(0.3)
        """, tiny_path)
    assert done.returncode == 0, done.stderr


def test_import_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; began = time.perf_counter(); import restkv; print(time.perf_counter() - began)"
    times = [float(python(code).stdout) for _ in range(3)]
    assert min(times) < 0.3
    assert "numpy" not in python("import restkv, sys; print('numpy' in sys.modules and 'numpy')").stdout


def test_memory_of_the_interpreter_is_used_well(tiny_path: Path) -> None:
    done = python("""
        import sys, restkv, numpy as np
        model = restkv.Model(sys.argv[1], threads=2)
        document = model.read("A text.", method="full")
        for _ in range(3):
            document.ask("Who?", max_tokens=3)
            document.ask_all(["Who?", "When?"], max_tokens=3)
            k = np.ones((2, 100, 8), np.float32)
            restkv.select(None, k, k, method="keydiff", budget=50)
            try:
                restkv.select(None, [1], k)
            except TypeError:
                pass
        print("well")
        """, tiny_path, PYTHONMALLOC="debug")
    assert done.stdout == "well\n", done.stderr


def test_the_command_is_the_program() -> None:
    if not os.environ.get("RESTKV_PROGRAM"):
        pytest.skip("RESTKV_PROGRAM is not set")
    assert subprocess.run([os.environ["RESTKV_PROGRAM"], "--version"], capture_output=True,
                          text=True).stdout.strip().endswith(restkv.__version__)


def test_the_stub_is_that_of_the_module(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "restkv._restkv", "-o", tmp_path / "stub.pyi"],
                   check=True)
    current = Path(__file__).parents[2] / "python/restkv/_restkv.pyi"
    assert (tmp_path / "stub.pyi").read_text() == current.read_text(), \
        "renew it: python -m nanobind.stubgen -m restkv._restkv -o python/restkv/_restkv.pyi"
