#include "eval/suites/find_file.h"

#include <gtest/gtest.h>

#include <fstream>

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

TEST(FindFile, LooksBelowTheDataFolderAndTheSuitesOwn) {
  const fs::path data = fs::path(::testing::TempDir()) / "find_file";
  fs::remove_all(data);
  fs::create_directories(data / "ruler");
  for (const char* name : {"ruler/squad_b.json", "ruler/squad_a.json", "ruler/squad_a.txt"}) {
    std::ofstream(data / name) << "{}";
  }
  EXPECT_EQ(find_file(data, "ruler/squad_b.json"), data / "ruler/squad_b.json");
  EXPECT_EQ(find_file(data, "ruler/squad*.json"), data / "ruler/squad_a.json");
  EXPECT_EQ(find_file(data / "ruler", "ruler/squad*.json"), data / "ruler/squad_a.json");
  EXPECT_EQ(find_file(data, "ruler"), data / "ruler");
  EXPECT_EQ(find_file(data, "ruler/hotpotqa*.json"), std::nullopt);
  EXPECT_EQ(find_file(data, "niah/essays"), std::nullopt);
  EXPECT_EQ(find_file("", "ruler/squad*.json"), std::nullopt);
  fs::remove_all(data);
}

}  // namespace
}  // namespace restkv::eval
