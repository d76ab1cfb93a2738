#include "support/small_vocabulary.h"

#include <fmt/format.h>
#include <gguf.h>

#include <bit>
#include <string>
#include <vector>

namespace restkv::testing {
namespace {

// Values of token_type.
constexpr uint32_t kNormal = 1;
constexpr uint32_t kUnknown = 2;
constexpr uint32_t kControl = 3;
constexpr uint32_t kByte = 6;

class Vocabulary {
 public:
  uint32_t add(const std::string& text, uint32_t type = kNormal) {
    tokens_.push_back(text);
    types_ += little_endian(type, 4);
    scores_ += little_endian(std::bit_cast<uint32_t>(-static_cast<float>(tokens_.size())), 4);
    return static_cast<uint32_t>(tokens_.size() - 1);
  }
  void write(RawGguf& gguf, const char* model) {
    while (tokens_.size() < kSmallVocabulary) add(fmt::format("word{}", tokens_.size()));
    gguf.set_string("tokenizer.ggml.model", model);
    gguf.set_strings("tokenizer.ggml.tokens", tokens_);
    gguf.set_array("tokenizer.ggml.token_type", GGUF_TYPE_INT32, tokens_.size(), types_);
    gguf.set_array("tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, tokens_.size(), scores_);
  }

 private:
  std::vector<std::string> tokens_;
  std::string types_;
  std::string scores_;
};

/// The letter of a byte in GPT-2's vocabulary: printable bytes are themselves, the others are
/// numbered from U+0100 on.
std::string byte_letter(unsigned byte) {
  const auto prints = [](unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  unsigned code = byte;
  if (!prints(byte)) {
    code = 256;
    for (unsigned b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  }
  if (code < 128) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0U | (code >> 6U)), static_cast<char>(0x80U | (code & 0x3FU))};
}

}  // namespace

void add_sentencepiece_vocabulary(RawGguf& gguf, const std::vector<std::string>& control) {
  Vocabulary vocabulary;
  vocabulary.add("<unk>", kUnknown);
  const uint32_t begin = vocabulary.add("<s>", kControl);
  const uint32_t end = vocabulary.add("</s>", kControl);
  for (unsigned b = 0; b < 256; ++b) vocabulary.add(fmt::format("<0x{:02X}>", b), kByte);
  for (const char* piece : {"\u2581", "t", "h", "e", "l", "o", "th", "\u2581the", "ll", "lo"}) {
    vocabulary.add(piece);
  }
  for (const std::string& text : control) vocabulary.add(text, kControl);
  vocabulary.write(gguf, "llama");
  gguf.set_number("tokenizer.ggml.bos_token_id", GGUF_TYPE_UINT32, begin);
  gguf.set_number("tokenizer.ggml.eos_token_id", GGUF_TYPE_UINT32, end);
  gguf.set_number("tokenizer.ggml.add_bos_token", GGUF_TYPE_BOOL, 1);
  gguf.set_string("tokenizer.chat_template",
                  "{% for message in messages %}[INST] {{ message['content'] }} [/INST]"
                  "{% endfor %}");
}

void add_bpe_vocabulary(RawGguf& gguf, const std::vector<std::string>& control) {
  Vocabulary vocabulary;
  for (unsigned b = 0; b < 256; ++b) vocabulary.add(byte_letter(b));
  const uint32_t end = vocabulary.add("<|endoftext|>", kControl);
  vocabulary.add("<|im_start|>", kControl);
  vocabulary.add("<|im_end|>", kControl);
  for (const char* word : {"th", "the", "he", "ll", "llo"}) vocabulary.add(word);
  for (const std::string& text : control) vocabulary.add(text, kControl);
  vocabulary.write(gguf, "gpt2");
  gguf.set_strings("tokenizer.ggml.merges", {"t h", "th e", "h e", "l l", "ll o"});
  gguf.set_string("tokenizer.ggml.pre", "default");
  gguf.set_number("tokenizer.ggml.bos_token_id", GGUF_TYPE_UINT32, end);
  gguf.set_number("tokenizer.ggml.eos_token_id", GGUF_TYPE_UINT32, end);
  gguf.set_number("tokenizer.ggml.add_bos_token", GGUF_TYPE_BOOL, 0);
  gguf.set_string("tokenizer.chat_template",
                  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
                  "{{ message['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n");
}

}  // namespace restkv::testing
