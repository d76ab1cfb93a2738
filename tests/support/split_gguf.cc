#include "support/split_gguf.h"

#include <fmt/format.h>
#include <gguf.h>

#include "base/file.h"

namespace restkv::testing {

std::vector<RawGguf> split_gguf(const RawGguf& whole, size_t parts) {
  std::vector<RawGguf> split(parts);
  split.front().values = whole.values;
  for (size_t i = 0; i < parts; ++i) {
    RawGguf& part = split[i];
    part.version = whole.version;
    part.alignment = whole.alignment;
    part.set_number("split.no", GGUF_TYPE_UINT16, i);
    part.set_number("split.count", GGUF_TYPE_UINT16, parts);
    part.set_number("split.tensors.count", GGUF_TYPE_INT32, whole.tensors.size());
  }
  for (size_t t = 0; t < whole.tensors.size(); ++t) {
    const size_t begin = whole.tensors[t].offset;
    const size_t end =
        t + 1 < whole.tensors.size() ? whole.tensors[t + 1].offset : whole.data.size();
    RawGguf& part = split[t * parts / whole.tensors.size()];
    part.tensors.push_back(whole.tensors[t]);
    part.tensors.back().offset = part.data.size();
    part.data += whole.data.substr(begin, end - begin);
  }
  return split;
}

std::vector<std::string> write_split(const std::string& path, size_t parts,
                                     const std::string& stem) {
  std::vector<std::string> paths;
  for (const RawGguf& part : split_gguf(RawGguf::parse(read_file(path)), parts)) {
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", stem, paths.size() + 1, parts));
    write_file_atomically(paths.back(), part.bytes());
  }
  return paths;
}

}  // namespace restkv::testing
