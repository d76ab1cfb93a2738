#include "support/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>

namespace restkv::testing {

MemoryFile::MemoryFile() : descriptor_(memfd_create("restkv-test", 0)) {
  if (descriptor_ < 0) throw std::runtime_error("cannot make a file in memory");
}

MemoryFile::~MemoryFile() { close(descriptor_); }

void MemoryFile::write(std::string_view bytes) const {
  if (ftruncate(descriptor_, 0) != 0 ||
      pwrite(descriptor_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("cannot write to a file in memory");
  }
}

std::string MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

}  // namespace restkv::testing
