#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace restkv {

/// Means of a model's queries before rotary embedding, over a text. Each rotated pair of channels
/// counts as a complex number q_f.
struct QueryMeans {
  struct Head {
    std::vector<float> real, imaginary;  ///< Mean of q_f, [pairs].
    std::vector<float> magnitude;        ///< Mean of |q_f|, [pairs].
  };
  std::vector<std::vector<Head>> layers;  ///< [layers whose cache is compressed][query heads].
};

/// Reads the file of the option `statistics`; docs/methods.md describes it. A file that has not
/// changed is read once. Throws `Error`: kInvalidArgument without a path, kInput naming the file
/// and what is wrong in it.
std::shared_ptr<const QueryMeans> read_query_means(const std::string& path);

}  // namespace restkv
