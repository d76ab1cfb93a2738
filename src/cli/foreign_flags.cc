#include "cli/foreign_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// Whether a value follows the name of an option.
enum class Value { kNone, kOne, kPerhaps };

/// An option of another program.
struct Foreign {
  std::vector<std::string_view> names;
  Value value = Value::kNone;
  /// What it is called here; empty: it is nothing here.
  std::string_view here;
  /// Why it is left out; empty: it is refused.
  std::string_view left_out;
  /// What is to be had instead.
  std::string_view refusal = {};
};

const std::vector<Foreign>& foreign_flags() {
  static const std::vector<Foreign> kFlags{
      {{"--n-predict", "--predict", "--max-new-tokens"}, Value::kOne, "--max-tokens", ""},
      {{"-sys", "--system-prompt"}, Value::kOne, "--system", ""},
      {{"--temperature"}, Value::kOne, "--temp", ""},
      {{"--repetition-penalty"}, Value::kOne, "--repeat-penalty", ""},
      {{"-ctk", "--cache-type-k", "--kv-cache-dtype"}, Value::kOne, "--kv-type", ""},
      {{"-r", "--reverse-prompt"}, Value::kOne, "--stop", ""},
      {{"--load"}, Value::kOne, "--load-cache", ""},  // of chat, once
      {{"--grammar-file"}, Value::kOne, "--grammar", ""},
      {{"-j"}, Value::kOne, "--json-schema", ""},
      {{"--session", "--prompt-cache"},
       Value::kOne,
       "",
       "",
       "--save-cache FILE keeps what was read, --load-cache FILE goes on with it"},
      {{"-c", "--ctx-size", "--max-model-len", "--num-ctx"},
       Value::kOne,
       "",
       "a context needs no size, since the cache grows with the text and --budget limits it"},
      {{"-ngl", "--gpu-layers", "--n-gpu-layers"},
       Value::kOne,
       "",
       "models run on the processor alone"},
      {{"-ctv", "--cache-type-v"}, Value::kOne, "", "values are stored as keys are, by --kv-type"},
      {{"-fa", "--flash-attn"}, Value::kPerhaps, "", "attention never holds a matrix of all pairs"},
      {{"-b", "--batch-size", "-ub", "--ubatch-size"},
       Value::kOne,
       "",
       "prompts are read in blocks of 512 tokens"},
      {{"-tb", "--threads-batch"}, Value::kOne, "", "prompts are read with --threads, too"},
      {{"--mlock", "--no-mmap", "--mmap"},
       Value::kNone,
       "",
       "how a model is loaded is not to be chosen"},
      {{"--jinja", "--no-display-prompt", "-no-cnv", "--no-conversation", "-st", "--single-turn",
        "--simple-io"},
       Value::kNone,
       "",
       "it is so anyway"},
      {{"-cnv", "--conversation", "-i", "--interactive", "-if", "--interactive-first"},
       Value::kNone,
       "",
       "",
       "restkv chat talks at a terminal"},
      {{"--keep"}, Value::kOne, "", "", "--sinks N always keeps the first N tokens"},
      {{"-np"}, Value::kOne, "--parallel", ""},
      {{"-a"}, Value::kOne, "--alias", ""},
      {{"--lora", "--lora-scaled", "--control-vector"},
       Value::kOne,
       "",
       "",
       "adapters cannot be used; merge them into the model file"},
      {{"-md", "--model-draft", "--draft", "--draft-max"},
       Value::kOne,
       "",
       "",
       "there is no speculative decoding"},
      {{"--mmproj", "--image", "--audio"}, Value::kOne, "", "", "models read text only"},
      {{"--ignore-eos"}, Value::kNone, "", "", "an answer ends where the model ends it"},
  };
  return kFlags;
}

const Foreign* find_foreign(std::string_view name) {
  for (const Foreign& flag : foreign_flags()) {
    if (std::ranges::find(flag.names, name) != flag.names.end()) return &flag;
  }
  return nullptr;
}

/// Whether a word is the value of a flag that may stand without one: "on", but not "--temp".
bool may_be_value(std::string_view word) {
  return word == "on" || word == "off" || word == "auto" || word == "0" || word == "1";
}

}  // namespace

std::vector<std::string> translate_foreign_flags(std::vector<std::string> words,
                                                 ArgumentParser& command) {
  // Only commands that answer have what others call by other names.
  if (command.find_typed("--max-tokens") == nullptr) return words;
  std::vector<std::string> out;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      return out;
    }
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    std::string name = word.substr(0, equals);
    const std::string rest = equals == std::string::npos ? "" : word.substr(equals);
    Option* own = command.find_typed(name);
    if (own == nullptr && name.starts_with("--") && name.find('_') != std::string::npos) {
      std::ranges::replace(name, '_', '-');
      own = command.find_typed(name);
    }
    const Foreign* foreign = own == nullptr && name.starts_with('-') ? find_foreign(name) : nullptr;
    if (foreign != nullptr && !foreign->here.empty()) {
      own = command.find_typed(foreign->here);
      if (own != nullptr) name = foreign->here;
    }
    if (own != nullptr) {
      out.push_back(name + rest);
      if (own->takes_value() && rest.empty() && i + 1 < words.size()) {
        // An option may stand without its value; the next word may then be one of these.
        const bool certain = !own->may_lack_value() || !words[i + 1].starts_with('-');
        if (certain) out.push_back(words[++i]);
      }
      continue;
    }
    if (foreign == nullptr || !foreign->here.empty()) {
      out.push_back(word);
      continue;
    }
    const bool has_value = rest.empty() && i + 1 < words.size() &&
                           (foreign->value == Value::kOne ||
                            (foreign->value == Value::kPerhaps && may_be_value(words[i + 1])));
    const std::string given = has_value ? word + " " + words[i + 1] : word;
    if (foreign->left_out.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no option {}: {}", given, foreign->refusal));
    }
    notice(fmt::format("{} is left out: {}", given, foreign->left_out));
    if (has_value) ++i;
  }
  return out;
}

}  // namespace restkv::cli
