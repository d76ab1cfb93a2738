#pragma once

#include "support/golden.h"

namespace restkv {

/// Whether golden_baselines_test.cc compares the case.
bool is_golden_baseline(const testing::GoldenCase& golden);

// Comparisons of the methods whose cases have forms of their own.
void run_cake(testing::GoldenCase& golden);
void run_compactor(testing::GoldenCase& golden);
void run_chunkkv(testing::GoldenCase& golden);
void run_finch(testing::GoldenCase& golden);
void run_dropkv(testing::GoldenCase& golden);
void run_rkv(testing::GoldenCase& golden);
void run_leverage(testing::GoldenCase& golden);
void run_merging(testing::GoldenCase& golden);
void run_attention_matching(testing::GoldenCase& golden);
void run_refit(testing::GoldenCase& golden);
void run_triattention(testing::GoldenCase& golden);

}  // namespace restkv
