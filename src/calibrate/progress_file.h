#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calibrate/calibrator.h"
#include "restkv/model.h"

/// What a calibration has gathered so far, in a file beside its output, so that a later start goes
/// on with it. The file, little-endian:
///
///     magic "rkv-cali" | version u32 | 0 u32 | plan u64
///     the calibrator's sums
///     XXH3 (64 bits) of all bytes before it
namespace restkv {

/// Tells calibrations apart: a hash of the model, its precision, and the texts.
uint64_t calibration_plan(const Model& model, std::span<const std::vector<int32_t>> texts);

void save_progress(const Calibrator& calibrator, uint64_t plan, const std::string& path);

/// Goes on where `save_progress` has stopped. False: there is no file. Throws `Error`: kInput if
/// the file is damaged or something else, kInvalidArgument if it is of another plan.
bool load_progress(Calibrator& calibrator, uint64_t plan, const std::string& path);

}  // namespace restkv
