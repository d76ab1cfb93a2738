"""Answers compared with the published types of the clients, without their lenience."""

import typing

import pydantic

# What this server adds to OpenAI's answers, by the name of the type.
EXTENSIONS = {
    "ChatCompletion": {"restkv"},
    "ChatCompletionChunk": {"restkv"},
    "Completion": {"restkv"},
    "Response": {"restkv", "store"},  # "store" is in OpenAI's own answers, too
    "Model": {"max_model_len", "meta"},
    "ChatCompletionMessage": {"reasoning_content", "reasoning"},
    "ChoiceDelta": {"reasoning_content", "reasoning"},
}


def _unknown_fields(value, path):
    if isinstance(value, pydantic.BaseModel):
        known = EXTENSIONS.get(type(value).__name__, set())
        for name in value.model_extra or {}:
            if name not in known:
                yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from _unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _unknown_fields(item, f"{path}[{i}]")


def validate(kind, answer):
    """`answer` (JSON as Python has it) as `kind`, or an exception that names each wrong, missing or
    unknown field."""
    result = pydantic.TypeAdapter(kind).validate_python(answer, strict=True)
    name = typing.get_origin(kind) or getattr(kind, "__name__", str(kind))
    unknown = list(_unknown_fields(result, str(name)))
    if unknown:
        raise AssertionError(f"fields that no published type has: {', '.join(unknown)}")
    return result


def events(text):
    """The server-sent events of a stream: (name or None, data)."""
    for block in text.split("\n\n"):
        if not block:
            continue
        name, data = None, []
        for line in block.split("\n"):
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].strip())
            else:
                raise AssertionError(f"no line of an event: {line!r}")
        yield name, "\n".join(data)
