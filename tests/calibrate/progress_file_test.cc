// The file that an interrupted calibration goes on with.

#include "calibrate/progress_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/repeat_sinks.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::refusal;
using testing::text;

class ProgressFileTest : public ::testing::Test {
 protected:
  ProgressFileTest() { testing::TinyModel().write(folder_.file("tiny.gguf")); }
  testing::TemporaryFolder folder_;
};

TEST_F(ProgressFileTest, HoldsWhatWasGathered) {
  const Model model(folder_.file("tiny.gguf"));
  const std::string path = folder_.file("sums");
  Calibrator calibrator(model, {});
  EXPECT_FALSE(load_progress(calibrator, 1, path));
  calibrator.add(text(90, 1));
  save_progress(calibrator, 1, path);
  Calibrator other(model, {});
  EXPECT_TRUE(load_progress(other, 1, path));
  EXPECT_EQ(calibration_text(other.result()), calibration_text(calibrator.result()));
}

TEST_F(ProgressFileTest, PlansDifferInModelPrecisionAndTexts) {
  const Model model(folder_.file("tiny.gguf"));
  testing::TinyModel changed;
  changed.seed = 2;
  changed.write(folder_.file("other.gguf"));
  const Model other(folder_.file("other.gguf"));
  ModelOptions coarse;
  coarse.linear = LinearPrecision::kInt8;
  const Model in_8_bits(folder_.file("tiny.gguf"), coarse);
  const std::vector<std::vector<int32_t>> texts{{1, 2, 3}, {4}};
  const uint64_t plan = calibration_plan(model, texts);
  EXPECT_EQ(calibration_plan(model, texts), plan);
  EXPECT_NE(calibration_plan(other, texts), plan);
  EXPECT_NE(calibration_plan(in_8_bits, texts), plan);
  EXPECT_NE(calibration_plan(model, std::vector<std::vector<int32_t>>{{1, 2, 3, 4}}), plan);
  EXPECT_NE(calibration_plan(model, std::vector<std::vector<int32_t>>{{4}, {1, 2, 3}}), plan);
}

TEST_F(ProgressFileTest, RefusesFilesThatItCannotGoOnWith) {
  const Model model(folder_.file("tiny.gguf"));
  const std::string path = folder_.file("sums");
  Calibrator calibrator(model, {});
  calibrator.add(text(90, 1));
  save_progress(calibrator, 1, path);
  const std::string bytes = read_file(path);
  const auto refused = [&](ErrorCode code, const std::string& content, uint64_t plan = 1) {
    std::ofstream(path, std::ios::binary) << content;
    Calibrator fresh(model, {});
    const std::string message = refusal(code, [&] { (void)load_progress(fresh, plan, path); });
    EXPECT_THAT(message, HasSubstr(path));
    return message;
  };
  EXPECT_THAT(refused(ErrorCode::kInvalidArgument, bytes, 2), HasSubstr("other texts"));
  EXPECT_THAT(refused(ErrorCode::kInput, "{}"), HasSubstr("no unfinished calibration"));
  EXPECT_THAT(refused(ErrorCode::kInput, bytes.substr(0, 20)), HasSubstr("ends early"));
  EXPECT_THAT(refused(ErrorCode::kInput, bytes.substr(0, bytes.size() / 2)), HasSubstr("checksum"));
  std::string flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  EXPECT_THAT(refused(ErrorCode::kInput, flipped), HasSubstr("checksum"));
  std::string newer = bytes;
  newer[8] = 9;
  EXPECT_THAT(refused(ErrorCode::kUnsupported, newer), HasSubstr("format 9"));
}

}  // namespace
}  // namespace restkv
