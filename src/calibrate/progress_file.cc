#include "calibrate/progress_file.h"

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "base/bytes.h"
#include "base/file.h"
#include "restkv/error.h"
#include "restkv/precision.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv {
namespace {

constexpr std::string_view kMagic = "rkv-cali";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 24;
constexpr size_t kChecksumBytes = sizeof(uint64_t);

}  // namespace

uint64_t calibration_plan(const Model& model, std::span<const std::vector<int32_t>> texts) {
  const std::string precision =
      fmt::format("{} {}", linear_precision_name(model.linear_precision()),
                  attention_precision_name(model.attention_precision()));
  uint64_t hash =
      XXH3_64bits_withSeed(precision.data(), precision.size(), model.config().fingerprint);
  for (const std::vector<int32_t>& text : texts) {
    hash = XXH3_64bits_withSeed(text.data(), text.size() * sizeof(int32_t), hash);
  }
  return hash;
}

void save_progress(const Calibrator& calibrator, uint64_t plan, const std::string& path) {
  std::string bytes(kMagic);
  ByteWriter out([&](std::string_view part) { bytes += part; });
  out.number(kVersion);
  out.number<uint32_t>(0);
  out.number(plan);
  calibrator.save(out);
  out.number<uint64_t>(XXH3_64bits(bytes.data(), bytes.size()));
  write_file_atomically(path, bytes);
}

bool load_progress(Calibrator& calibrator, uint64_t plan, const std::string& path) {
  std::error_code unknown;
  if (!std::filesystem::exists(path, unknown)) return false;
  const std::string bytes = read_file(path);
  const auto refuse = [&](ErrorCode code, std::string_view why) {
    throw Error(code, fmt::format("{}: {}", path, why));
  };
  if (!std::string_view(bytes).starts_with(kMagic)) {
    refuse(ErrorCode::kInput, "is no unfinished calibration; choose another name for the output");
  }
  if (bytes.size() < kHeaderBytes + kChecksumBytes) {
    refuse(ErrorCode::kInput, "ends early; remove it to begin anew");
  }
  ByteReader in(path, std::string_view(bytes).substr(kMagic.size()));
  if (const auto version = in.number<uint32_t>(); version != kVersion) {
    refuse(
        ErrorCode::kUnsupported,
        fmt::format("has format {}, and this version of restkv reads {}; remove it to begin anew",
                    version, kVersion));
  }
  (void)in.number<uint32_t>();
  const std::string_view content(bytes.data(), bytes.size() - kChecksumBytes);
  ByteReader checksum(path, std::string_view(bytes).substr(content.size()));
  if (XXH3_64bits(content.data(), content.size()) != checksum.number<uint64_t>()) {
    refuse(ErrorCode::kInput, "is damaged: its checksum does not match; remove it to begin anew");
  }
  if (in.number<uint64_t>() != plan) {
    refuse(ErrorCode::kInvalidArgument,
           "was begun with another model, precision, length or other texts; repeat those, choose "
           "another output, or remove it to begin anew");
  }
  calibrator.load(in);
  (void)in.number<uint64_t>();
  in.expect(in.at_end(), "it has bytes after its end");
  return true;
}

}  // namespace restkv
