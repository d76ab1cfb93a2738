#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace restkv {

/// Hash of a model's description and of 64 blocks spread evenly over each of its files, first and
/// last included. Fine-tunings of a model differ in some blocks, and large files need not be read
/// whole.
uint64_t fingerprint(std::string_view description, std::span<const std::string_view> files);

}  // namespace restkv
