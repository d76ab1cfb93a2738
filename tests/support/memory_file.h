#pragma once

#include <string>
#include <string_view>

namespace restkv::testing {

/// A file that is in memory only, for tests that write thousands of them.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  /// Replaces what is in it. Throws std::runtime_error.
  void write(std::string_view bytes) const;
  /// Good within this process, as long as the object lives.
  [[nodiscard]] std::string path() const;

 private:
  int descriptor_;
};

}  // namespace restkv::testing
