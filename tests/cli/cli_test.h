#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/spawn.h"
#include "support/tiny_model.h"

/// What the tests of the command line have in common: a process to run, models and folders to run
/// it with, and matchers for what it says.
namespace restkv {

using ::restkv::testing::Outcome;
using ::restkv::testing::restkv_process;
using ::restkv::testing::Spawn;
using ::restkv::testing::TemporaryFolder;
using ::restkv::testing::test_model_path;
using ::restkv::testing::TinyModel;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

}  // namespace restkv
