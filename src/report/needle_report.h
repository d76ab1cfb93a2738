#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace restkv::eval {

/// One prompt answered by one method.
struct NeedleCell {
  std::string method;
  int budget = 0;      ///< Tokens kept per layer and KV head; 0 means all (the full cache).
  double depth = 0;    ///< Place of the needle, 0 (start of the text) to 1 (end).
  bool found = false;  ///< Whether `output` contains `answer`.
  std::string answer;  ///< The expected answer.
  std::string output;  ///< The model's answer.
  double kv_mib = 0;   ///< Key/value cache after prefill, in MiB.
  double prefill_seconds = 0;
  double compress_seconds = 0;
  double decode_tokens_per_second = 0;
};

/// Prompt tokens that a method kept.
struct KeptMap {
  std::string method;
  int budget = 0;
  size_t prompt_tokens = 0;
  size_t needle_begin = 0;  ///< The needle is the tokens [needle_begin, needle_end).
  size_t needle_end = 0;
  std::vector<std::vector<std::vector<int32_t>>> keep;  ///< [layer][cache head]: ascending.
  std::vector<std::string> needle_pieces = {};  ///< Texts of the needle's tokens; may be empty.
  std::string answer = {};                      ///< The number in them.
};

/// Contents of the report. Cells are grouped by budget in ascending order, with the full cache
/// (budget 0) first; methods are in the order of their first appearance. Cells of the same method,
/// budget and depth (with different seeds) are counted together.
struct NeedleReport {
  std::string model;
  std::string machine;  ///< CPU and number of threads.
  std::string version;
  std::string date;     ///< "2026-11-30"
  std::string command;  ///< Does the same again.
  size_t prompt_tokens = 0;
  std::vector<NeedleCell> cells;
  std::vector<KeptMap> maps;
  std::string example_prompt;
  std::string example_needle;  ///< Highlighted in `example_prompt`.
};

/// What came out, in sentences: found at the smallest and at the largest budget, and how much of it
/// the smoothing of scores brings, if methods with and without it were run.
std::vector<std::string> conclusion(const NeedleReport& report);

/// Aligned plain text for a terminal: one row per method and budget.
std::string table(const NeedleReport& report);

/// Panels (one per budget) of depth x method that show whether the needle was found.
std::string heatmap_svg(const NeedleReport& report);

/// For each of `maps`, how many heads kept each token of the needle, and tokens (columns) kept by
/// each layer and head (rows). Throws `Error`
/// (kInvalidArgument) if a position or the needle is outside the prompt.
std::string kept_map_svg(const NeedleReport& report);

/// Table with one column per depth.
std::string markdown(const NeedleReport& report);

/// All figures of the report, for other programs.
std::string json(const NeedleReport& report);

/// One self-contained page: pictures, table, answers, example prompt. Loads nothing.
std::string html(const NeedleReport& report);

}  // namespace restkv::eval
