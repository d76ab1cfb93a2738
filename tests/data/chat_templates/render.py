"""Renders every *.jinja beside it as the Transformers library does and writes chat_templates.json.

    script/lock --print chat-templates | pip install --require-hashes --no-deps -r /dev/stdin
    python3 render.py        # only when a template or a conversation changes
"""

import json
import pathlib

import jinja2.sandbox

FOLDER = pathlib.Path(__file__).parent
# Beginning and end of text of the model that the template comes with.
TOKENS = {
    "gemma": ("<bos>", "<eos>"),
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral-v0.1": ("<s>", "</s>"),
    "mistral-v0.3": ("<s>", "</s>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "qwen2.5": ("", "<|im_end|>"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
}
TURNS = [
    {"role": "user", "content": "What is a cache?"},
    {"role": "assistant", "content": "A place to keep what is needed again."},
    {"role": "user", "content": "How small can it be?"},
]
SYSTEM = {"role": "system", "content": "Answer in one sentence."}
CONVERSATIONS = {
    "one question": TURNS[:1],
    "a system message": [SYSTEM, TURNS[0]],
    "three messages": TURNS,
    "three messages after a system message": [SYSTEM, *TURNS],
}


def raise_exception(message):
    raise jinja2.TemplateError(message)


def main():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    families = []
    for path in sorted(FOLDER.glob("*.jinja")):
        text = path.read_text().removesuffix("\n")
        begin, end = TOKENS[path.stem]
        template = environment.from_string(text)
        rendered = {
            name: template.render(messages=messages, add_generation_prompt=True, bos_token=begin, eos_token=end)
            for name, messages in CONVERSATIONS.items()
        }
        families.append({"family": path.stem, "bos": begin, "template": text, "rendered": rendered})
    document = {"conversations": CONVERSATIONS, "families": families}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (FOLDER / "chat_templates.json").write_text(text + "\n")


main()
