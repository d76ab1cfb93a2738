#include "base/pages.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace restkv {

#ifdef __linux__
namespace {

/// Advises the system about the whole pages of some memory if they have at least `fewest` bytes. A
/// refusal is harmless.
void advise(const void* memory, size_t bytes, size_t fewest, int advice) {
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + page - 1) / page * page;
  const uintptr_t end = (address + bytes) / page * page;
  if (end < begin + fewest * page) return;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace
#endif

void prefer_large_pages(void* memory, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr size_t kLeast = size_t{4} << 20;  // two large pages of x86
  if (bytes >= kLeast) advise(memory, bytes, 1, MADV_HUGEPAGE);
#else
  (void)memory;
  (void)bytes;
#endif
}

void populate_pages(void* memory, size_t bytes) {
#if defined(__linux__) && defined(MADV_POPULATE_WRITE)
  advise(memory, bytes, 8, MADV_POPULATE_WRITE);
#else
  (void)memory;
  (void)bytes;
#endif
}

void release_pages(const void* file, size_t bytes) {
#ifdef __linux__
  advise(file, bytes, 1, MADV_DONTNEED);
#else
  (void)file;
  (void)bytes;
#endif
}

}  // namespace restkv
