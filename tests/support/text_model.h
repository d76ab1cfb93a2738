#pragma once

#include <cstddef>
#include <string>

#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "support/tiny_model.h"

namespace restkv::testing {

/// A random model with the real tokenizer and its chat template, for tests of what becomes of
/// texts. It takes a moment: once for a suite of tests.
struct TextModel {
  explicit TextModel(size_t context);

 private:
  TemporaryFolder folder_;
  std::string path_;

 public:
  const Model model;
  const Tokenizer tokenizer;
};

/// "Story:" and `count` numbers, which the seed decides.
std::string numbers_text(size_t count, size_t seed);

}  // namespace restkv::testing
