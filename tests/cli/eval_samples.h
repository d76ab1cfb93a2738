#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/results.h"

/// Samples for `restkv eval prompts`, and what a run says of them.
namespace restkv {

/// Writes samples of two tasks, "even" and "odd". Each text has `more_words` words more than the
/// one before.
inline void write_samples(const std::string& path, size_t count, size_t more_words) {
  std::ofstream data(path);
  for (size_t i = 0; i < count; ++i) {
    std::string text;
    for (size_t w = 0; w < 150 + more_words * i; ++w) {
      text += fmt::format("{} ", (w * 7919 + i) % 997);
    }
    data << Json{{"id", fmt::format("s{}", i)},
                 {"task", i % 2 == 0 ? "even" : "odd"},
                 {"text", text},
                 {"answers", {"1"}},
                 {"max_new_tokens", 8}}
                .dump()
         << '\n';
  }
}

/// All results of a run but times and memory, in the order of the samples.
inline std::vector<std::string> results_of_run(const std::string& folder) {
  std::vector<std::string> list;
  for (const eval::SampleResult& result : eval::read_results(folder)) {
    Json line = eval::to_json(result);
    for (const char* name : {"prefill_seconds", "seconds", "peak_bytes"}) line.erase(name);
    for (Json& cell : line["cells"]) {
      for (const char* name : {"compress_seconds", "decode_seconds"}) cell.erase(name);
    }
    list.push_back(line.dump());
  }
  std::ranges::sort(list);
  return list;
}

}  // namespace restkv
