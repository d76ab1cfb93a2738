#include "base/pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace restkv {
namespace {

TEST(PagesTest, WhatIsThereStays) {
  // Neither end lies on a page: what shares one with them belongs to somebody else.
  std::vector<unsigned char> memory((size_t{9} << 20) + 123);
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<unsigned char>(i % 251);
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{5000}, memory.size() - 100}) {
    prefer_large_pages(memory.data() + 77, bytes);
    populate_pages(memory.data() + 77, bytes);
  }
  for (size_t i = 0; i < memory.size(); ++i) ASSERT_EQ(memory[i], i % 251) << i;
}

/// Pages of this process that are in memory.
size_t resident_pages() {
  size_t all = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident;
}

TEST(PagesTest, ReleasedPagesOfAFileAreReadAgain) {
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  std::string content(size_t{16} << 20, ' ');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>('a' + i % 23);
  ASSERT_EQ(std::fwrite(content.data(), 1, content.size(), file), content.size());
  ASSERT_EQ(std::fflush(file), 0);
  void* const mapped =
      mmap(nullptr, content.size(), PROT_READ, MAP_PRIVATE | MAP_POPULATE, fileno(file), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const std::string_view seen(static_cast<const char*>(mapped), content.size());
  const size_t before = resident_pages();
  release_pages(seen.data() + 10, content.size() - 20);
  const size_t released = content.size() / static_cast<size_t>(sysconf(_SC_PAGESIZE)) - 2;
  EXPECT_LE(resident_pages() + released / 2, before);
  EXPECT_TRUE(seen == content);
  munmap(mapped, content.size());
  std::fclose(file);
}

}  // namespace
}  // namespace restkv
