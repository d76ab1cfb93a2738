#include "support/statistics.h"

#include <cmath>
#include <fstream>

#include "compress/calibration.h"

namespace restkv::testing {

namespace {

/// Numbers from -1 to 1 without a pattern.
float unit(size_t i, size_t step) { return static_cast<float>(i * step % 1009) / 504.5F - 1.0F; }

}  // namespace

StatisticsFile StatisticsFile::of(size_t layers, size_t heads, size_t pairs, size_t kv_heads,
                                  size_t width) {
  StatisticsFile file{.layers = layers, .heads = heads, .pairs = pairs};
  for (size_t i = 0; i < layers * heads * pairs; ++i) {
    file.real.push_back(unit(i, 7919));
    file.imaginary.push_back(unit(i, 104729));
    file.magnitude.push_back(std::hypot(file.real[i], file.imaginary[i]) + 1.0F + unit(i, 1299709));
  }
  file.kv_heads = kv_heads;
  file.width = width;
  return file;
}

void StatisticsFile::write(const std::string& path) const {
  Calibration calibration;
  for (size_t l = 0; l < layers; ++l) {
    auto& of_layer = calibration.queries.emplace_back();
    for (size_t h = 0; h < heads; ++h) {
      const auto numbers = [&](const std::vector<float>& from) {
        const auto first = from.begin() + static_cast<ptrdiff_t>((l * heads + h) * pairs);
        return std::vector<float>(first, first + static_cast<ptrdiff_t>(pairs));
      };
      of_layer.push_back({numbers(real), numbers(imaginary), numbers(magnitude)});
    }
    if (width == 0) continue;
    ScoreMap& map = calibration.scores.emplace_back();
    map.width = width;
    for (size_t h = 0; h < kv_heads; ++h) {
      for (size_t c = 0; c < width; ++c) {
        map.weights.push_back(unit((l * kv_heads + h) * width + c + 1, 15485863));
      }
      map.bias.push_back(-6.0F + static_cast<float>(h));
    }
  }
  std::ofstream(path) << calibration_text(calibration);
}

std::vector<MeanRotation> rotations_of(size_t pairs, double base,
                                       const std::vector<size_t>& positions) {
  std::vector<MeanRotation> rotations;
  for (const size_t position : positions) {
    MeanRotation& rotation = rotations.emplace_back();
    for (size_t f = 0; f < pairs; ++f) {
      const double angle = double(position) * std::pow(base, -double(f) / double(pairs));
      rotation.cosine.push_back(static_cast<float>(std::cos(angle)));
      rotation.sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return rotations;
}

}  // namespace restkv::testing
