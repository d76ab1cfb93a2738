#include "eval/metrics/lcs.h"

#include <algorithm>
#include <bit>

namespace restkv::eval {
namespace {

constexpr size_t kWordBits = 64;

}  // namespace

LcsColumns::LcsColumns(std::span<const uint32_t> columns)
    : columns_(columns.begin(), columns.end()),
      words_((columns.size() + kWordBits - 1) / kWordBits) {
  for (size_t j = 0; j < columns_.size(); ++j) {
    auto& found = occurrences_[columns_[j]];
    const size_t word = j / kWordBits;
    if (found.empty() || found.back().word != word) found.push_back({word, 0});
    found.back().columns |= uint64_t{1} << (j % kWordBits);
  }
}

void LcsColumns::advance(uint32_t item, Row row) const {
  // row = (row + (row & columns)) | (row & ~columns), as one long number. Words without the item
  // change only by a carry, so they are skipped when there is none.
  const auto found = occurrences_.find(item);
  if (found == occurrences_.end()) return;
  bool carry = false;
  size_t next = 0;  // The first word that is not done.
  const auto add = [&](uint64_t columns) {
    const uint64_t old = row[next];
    const uint64_t taken = old & columns;
    const uint64_t sum = old + taken + (carry ? 1 : 0);
    carry = sum < old || (carry && sum == old);
    row[next++] = sum | (old & ~columns);
  };
  for (const Occurrences& here : found->second) {
    while (carry && next < here.word) add(0);
    next = here.word;
    add(here.columns);
  }
  while (carry && next < words_) add(0);
}

size_t LcsColumns::length(std::span<const uint32_t> rows) const {
  std::vector<uint64_t> row(words_, ~uint64_t{0});
  for (const uint32_t item : rows) advance(item, row);
  size_t clear = 0;
  for (const uint64_t word : row) clear += static_cast<size_t>(std::popcount(~word));
  return clear;
}

LcsColumns::Walk LcsColumns::walk(std::span<const uint32_t> rows) const {
  std::vector<uint64_t> table((rows.size() + 1) * words_, ~uint64_t{0});
  const auto row = [&](size_t i) { return Row(table).subspan(i * words_, words_); };
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(row(i).begin(), words_, row(i + 1).begin());
    advance(rows[i], row(i + 1));
  }
  Walk walk;
  size_t i = rows.size();
  size_t j = columns_.size();
  for (; i > 0 && j > 0; ++walk.steps) {
    if (rows[i - 1] == columns_[j - 1]) {
      walk.rows.push_back(--i);
      walk.columns.push_back(--j);
      continue;
    }
    // Here L[i][j] = max(L[i-1][j], L[i][j-1]), and neighbours differ by at most one: the row above
    // is larger than the column before exactly where L[i][j] > L[i][j-1], a clear bit.
    const bool clear = ((row(i)[(j - 1) / kWordBits] >> ((j - 1) % kWordBits)) & 1) == 0;
    if (clear) {
      --i;
    } else {
      --j;
    }
  }
  std::reverse(walk.rows.begin(), walk.rows.end());
  std::reverse(walk.columns.begin(), walk.columns.end());
  return walk;
}

}  // namespace restkv::eval
