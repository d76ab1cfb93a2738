#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>

#include "cli/spawn.h"
#include "support/tiny_model.h"

/// What the tests of the command line have in common: a process to run, models and folders to run
/// it with, and matchers for what it says.
namespace restkv {

using ::restkv::testing::Outcome;
using ::restkv::testing::restkv_process;
using ::restkv::testing::restkv_program;
using ::restkv::testing::Spawn;
using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::test_model_path;
using ::restkv::testing::TinyModel;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

/// A tiny random model with a real tokenizer and its chat template: its words mean nothing, but it
/// is fast.
inline TinyModel chat_model(size_t context = 4096) {
  TinyModel model;
  model.tokenizer = test_model_path();
  model.vocabulary = 0;
  model.tied = true;
  model.type = GGML_TYPE_Q8_0;
  model.context = context;
  return model;
}

}  // namespace restkv
