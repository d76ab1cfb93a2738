#include "cli/model_argument.h"

#include <string_view>

#include "base/file.h"

namespace restkv::cli {
namespace {

bool looks_like_model(const std::string& word) {
  return word.ends_with(".gguf") || word.starts_with("hf:") || first_bytes(word, 4) == "GGUF";
}

}  // namespace

Option& declare_model(ArgumentParser& parser, std::string& model) {
  return parser.add("-m,--model", model, "GGUF model file; also the first word", "FILE")
      .first_word("model", looks_like_model);
}

}  // namespace restkv::cli
