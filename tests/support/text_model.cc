#include "support/text_model.h"

#include <fmt/format.h>

namespace restkv::testing {
namespace {

std::string write_model(const std::string& path, size_t context) {
  TinyModel tiny;
  tiny.tokenizer = test_model_path();
  tiny.vocabulary = 0;  // all of it
  tiny.tied = true;
  tiny.context = context;
  tiny.write(path);
  return path;
}

}  // namespace

TextModel::TextModel(size_t context)
    : path_(write_model(folder_.file("model.gguf"), context)), model(path_), tokenizer(path_) {}

std::string numbers_text(size_t count, size_t seed) {
  std::string text = "Story:";
  for (size_t i = 0; i < count; ++i) text += fmt::format(" {}", (i * 7919 + seed * 104729) % 997);
  return text;
}

}  // namespace restkv::testing
