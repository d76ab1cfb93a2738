#pragma once

#include <string>
#include <string_view>

namespace restkv::testing {

/// A file in memory, for tests that write thousands of them.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  /// Replaces the contents. Throws std::runtime_error.
  void write(std::string_view bytes) const;
  /// Valid within this process while the object exists.
  [[nodiscard]] std::string path() const;

 private:
  int descriptor_;
};

}  // namespace restkv::testing
