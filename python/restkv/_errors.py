"""The exceptions of the package: every one is a `restkv.Error`, and what Python calls such an error."""

from __future__ import annotations


class Error(Exception):
    """What the library refuses or fails at. The message names the object, its value and the remedy."""


class ArgumentError(Error, ValueError):
    """An argument or option cannot be used."""


class InputError(Error, ValueError):
    """A file or an array is missing, truncated, malformed, or holds NaN or infinity."""


class UnsupportedError(Error, NotImplementedError):
    """Well-formed, but not supported by this version or processor."""


class FileError(Error, OSError):
    """Reading or writing failed."""


class InternalError(Error, RuntimeError):
    """A fault of the library; please report it."""


_OF_CODE = {1: ArgumentError, 2: InputError, 3: UnsupportedError, 4: FileError, 5: KeyboardInterrupt, 6: MemoryError}


def of_code(code: int, message: str) -> BaseException:
    """The exception of an error code of the library."""
    return _OF_CODE.get(code, InternalError)(message)
