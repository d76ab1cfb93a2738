#include "base/big_stack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <stdexcept>

#include "base/memory.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

/// Uses more than `depth` * 4000 bytes of stack. Few large frames: ThreadSanitizer counts calls and
/// ends a program at 65,536 of them.
size_t descend(size_t depth) {
  volatile char frame[4000];
  frame[depth % sizeof frame] = 1;
  return depth == 0 ? 0
                    : 1 + descend(depth - 1) + static_cast<size_t>(frame[depth % sizeof frame] - 1);
}

TEST(BigStack, HoldsWhatAnOrdinaryStackDoesNot) {
  size_t reached = 0;
  run_on_big_stack(size_t{1} << 30U, [&] { reached = descend(10'000); });
  EXPECT_EQ(reached, 10'000U);  // 40 MB; a thread usually has 8
}

TEST(BigStack, HandsOnWhatIsThrown) {
  EXPECT_THROW(run_on_big_stack(1U << 20U, [] { throw std::out_of_range("found"); }),
               std::out_of_range);
}

TEST(BigStack, SaysThatThereIsNoSuchStack) {
  EXPECT_THAT(
      testing::refusal(ErrorCode::kInput, [] { run_on_big_stack(size_t{1} << 60U, [] {}); }),
      ::testing::HasSubstr("break up long lines"));
}

}  // namespace
}  // namespace restkv
