"""Runs the program that the sandbox hands in on descriptor 4; says on descriptor 3 how it went."""
import os
import shutil
import subprocess
import sys


def take_away():
    """What the published harness replaces by None, so that the same programs pass here.

    It keeps nobody in: that is the work of the sandbox around this process.
    """
    for module, names in (
        (__builtins__, "exit help quit"),
        (os, "chdir chmod chown chroot fchdir fchmod fchown fork forkpty getcwd kill killpg lchflags "
             "lchmod lchown putenv remove removedirs rename renames replace rmdir setuid system "
             "truncate unlink"),
        (shutil, "chown move rmtree"),
        (subprocess, "Popen"),
    ):
        for name in names.split():
            setattr(module, name, None)
    for name in ("ipdb", "joblib", "psutil", "resource", "tkinter"):
        sys.modules[name] = None


def main(write=os.write, leave=os._exit):
    with open(4, "rb") as handed_in:
        token, _, program = handed_in.read().partition(b"\n")
    take_away()
    try:
        exec(compile(program, "<program>", "exec"), {})
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"[:500]
        write(3, text.encode("ascii", "backslashreplace"))
        leave(1)
    write(3, token)  # The last line was reached; whoever leaves earlier has to look for the token.
    leave(0)


main()
