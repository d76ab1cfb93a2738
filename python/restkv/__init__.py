"""Long-context language models on ordinary CPUs with a small, compressed key/value cache.

    import restkv
    model = restkv.Model("model.gguf")
    for piece in model.chat("Who are you?", budget=512, stream=True):
        print(piece, end="")
    document = model.read(open("report.txt").read(), budget=0.1)
    print(document.ask("What was decided?"))
    keep = restkv.select(q, k, v, wo, method="restkv", budget=128)   # arrays of NumPy or PyTorch

docs/python.md has more.
"""

from . import _errors  # before the extension, which raises them
from ._errors import ArgumentError, Error, FileError, InputError, InternalError, UnsupportedError
from ._arrays import OutputFactor, select
from ._methods import method
from ._model import Answer, Conversation, Document, Model, Tokens
from ._restkv import methods, set_threads, threads, version as __version__

for _class in (ArgumentError, Error, FileError, InputError, InternalError, UnsupportedError, Answer, Conversation,
               Document, Model, Tokens):
    _class.__module__ = "restkv"  # as people know them
del _class

__all__ = ["Answer", "ArgumentError", "Conversation", "Document", "Error", "FileError", "InputError", "InternalError",
           "Model", "OutputFactor", "Tokens", "UnsupportedError", "method", "methods", "select", "set_threads", "threads"]
