#include "support/statistics.h"

#include <cmath>
#include <fstream>

#include "base/json.h"

namespace restkv::testing {

StatisticsFile StatisticsFile::of(size_t layers, size_t heads, size_t pairs) {
  StatisticsFile file{.layers = layers, .heads = heads, .pairs = pairs};
  for (size_t i = 0; i < layers * heads * pairs; ++i) {
    const auto unit = [&](size_t step) {
      return static_cast<float>(i * step % 1009) / 504.5F - 1.0F;
    };
    file.real.push_back(unit(7919));
    file.imaginary.push_back(unit(104729));
    file.magnitude.push_back(std::hypot(file.real[i], file.imaginary[i]) + 1.0F + unit(1299709));
  }
  return file;
}

void StatisticsFile::write(const std::string& path) const {
  Json all = Json::array();
  for (size_t l = 0; l < layers; ++l) {
    Json layer = Json::array();
    for (size_t h = 0; h < heads; ++h) {
      const auto numbers = [&](const std::vector<float>& from) {
        const auto first = from.begin() + static_cast<ptrdiff_t>((l * heads + h) * pairs);
        return Json(std::vector<double>(first, first + static_cast<ptrdiff_t>(pairs)));
      };
      layer.push_back(Json::object({{"real", numbers(real)},
                                    {"imaginary", numbers(imaginary)},
                                    {"magnitude", numbers(magnitude)}}));
    }
    all.push_back(std::move(layer));
  }
  std::ofstream(path) << Json::object({{"layers", std::move(all)}}).dump();
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
