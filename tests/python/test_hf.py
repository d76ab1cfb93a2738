"""restkv.hf beside kvpress 0.5.5, and beside this library's own engine, on tiny random models.

script/bootstrap --with-hf installs what this needs; script/nightly runs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
kvpress = pytest.importorskip("kvpress")

import restkv
from restkv.hf import Press

N = 300


def tiny_model(family: str) -> Any:
    torch.manual_seed(1)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 1024, "head_dim": 16}
    config = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config,
              "qwen3": transformers.Qwen3Config}[family](**shape, initializer_range=0.3)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            # Norms that are 1 everywhere give all keys of Qwen 3 one length, which knorm cannot choose by.
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    # All different: keys of one token have one length wherever it stands, and knorm could keep either.
    return torch.randperm(N, generator=torch.Generator().manual_seed(2))[None]


def cache_of(model: Any, tokens: torch.Tensor, press: Any) -> Any:
    cache = transformers.DynamicCache()
    with torch.no_grad(), press(model):
        # The masks of eager attention would be rounded otherwise.
        model.model(tokens, past_key_values=cache)
    return cache


def kept_by(model: Any, tokens: torch.Tensor, press: Any) -> list[list[set[int]]]:
    """Positions per layer and head, found by their keys."""
    whole = cache_of(model, tokens, kvpress.KnormPress(0.0))
    cut = cache_of(model, tokens, press)
    layers = []
    for full, some in zip(whole.layers, cut.layers, strict=True):
        heads = []
        for all_keys, kept in zip(full.keys[0], some.keys[0], strict=True):
            rows = {tuple(row.tolist()): position for position, row in enumerate(all_keys)}
            heads.append({rows[tuple(row.tolist())] for row in kept})
        layers.append(heads)
    return layers


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(("ours", "theirs"), [
    ("snapkv:window=64:kernel=5:pooling=average", lambda r: kvpress.SnapKVPress(r, window_size=64, kernel_size=5)),
    ("tova:window=1", lambda r: kvpress.TOVAPress(r)),
    ("keydiff", lambda r: kvpress.KeyDiffPress(r)),
    ("knorm", lambda r: kvpress.KnormPress(r)),
    ("expected-attention", lambda r: kvpress.ExpectedAttentionPress(r)),
])
def test_the_same_positions_as_kvpress(model: Any, tokens: torch.Tensor, ours: str, theirs: Any, ratio: float) -> None:
    if ours.startswith("snapkv") and N * (1 - ratio) <= 64:
        pytest.skip("kvpress keeps less than its window")
    assert kept_by(model, tokens, Press(ours, compression_ratio=ratio)) == kept_by(model, tokens, theirs(ratio))


def test_restkv_writes_what_our_engine_writes(tiny_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "model.gguf").symlink_to(tiny_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager").eval()
    engine = restkv.Model(tiny_path, linear="f32", attention="f32")
    ids = engine.tokenize("Story:" + "".join(f" {(i * 7919) % 997}" for i in range(100)))
    sequence = engine.tokens(method="restkv", budget=64, kv_type="f32")
    sequence.append(ids)
    answer = sequence.write(stream=True, max_tokens=8)
    list(answer)

    prompt = torch.tensor([ids])
    cache = transformers.DynamicCache()
    written = []
    with torch.no_grad():
        with Press("restkv", budget=64)(theirs):
            logits = theirs(prompt, past_key_values=cache).logits[:, -1]
        assert cache.layers[0].keys.shape[2] == 64
        for step in range(8):
            token = int(logits.argmax())
            written.append(token)
            position = torch.tensor([[len(ids) + step]])
            logits = theirs(torch.tensor([[token]]), past_key_values=cache, position_ids=position).logits[:, -1]
    assert written == answer.tokens


def test_generate_goes_on_behind_the_cut(model: Any, tokens: torch.Tensor) -> None:
    with torch.no_grad(), Press("restkv", budget=100)(model):
        out = model.generate(tokens, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert out.shape == (1, N + 5)
    with torch.no_grad(), Press("restkv", compression_ratio=0.0)(model):
        whole = model.generate(tokens, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert (whole == model.generate(tokens, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)).all()


def test_what_caches_of_transformers_cannot_hold_is_refused(model: Any, tokens: torch.Tensor) -> None:
    with pytest.raises(restkv.UnsupportedError, match="one length"):
        cache_of(model, tokens, Press("snapkv:allocation=ada", budget=100))
    with pytest.raises(restkv.UnsupportedError, match="repeat"):
        Press("kvzip", budget=100)
    with pytest.raises(restkv.ArgumentError, match="either"):
        Press("restkv")
    with pytest.raises(restkv.ArgumentError, match="compression_ratio"):
        Press("restkv", compression_ratio=1.0)
    with pytest.raises(restkv.ArgumentError, match="none"):
        Press("none", budget=10)


def test_presses_are_those_of_kvpress() -> None:
    press = Press("restkv", budget=100)
    assert isinstance(press, kvpress.BasePress)
    assert "restkv" in str(press)


def test_the_pipeline_of_kvpress_runs_ours_beside_theirs(tmp_path: Path) -> None:
    """A file data set of questions about contexts, answered with both."""
    model = tiny_model("llama")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(299)} | {"<unk>": 299}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_split_by_space(Tokenizer(models.WordLevel(words, unk_token="<unk>")), pre_tokenizers),
        unk_token="<unk>", eos_token="w0", pad_token="w0", bos_token="w1")
    data = tmp_path / "questions.jsonl"
    with data.open("w") as out:
        for i in range(3):
            context = " ".join(f"w{(j * 31 + i * 7) % 290}" for j in range(200))
            out.write(json.dumps({"context": context, "question": f"w{i + 5} w9"}) + "\n")
    pipe = transformers.pipeline("kv-press-text-generation", model=model, tokenizer=tokenizer, device="cpu")
    answers: dict[str, list[str]] = {}
    for press in (kvpress.KnormPress(0.5), Press("knorm", compression_ratio=0.5), Press("restkv", compression_ratio=0.5)):
        for line in data.read_text().splitlines():
            record = json.loads(line)
            answers.setdefault(str(press), []).append(
                pipe(record["context"], question=record["question"], press=press, max_new_tokens=4)["answer"])
    theirs, ours, restkv_answers = answers.values()
    assert ours == theirs
    assert len(restkv_answers) == 3


def _split_by_space(tokenizer: Any, pre_tokenizers: Any) -> Any:
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
