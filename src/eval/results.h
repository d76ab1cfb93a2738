#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/line_file.h"
#include "eval/suite.h"
#include "restkv/budget.h"

/// The files of a run's folder: run.json holds the settings, results*.jsonl one line per sample.
/// There is no other state, so a killed run continues after its last line. Each line ends with a
/// checksum (XXH3) of the text before it; lines of earlier versions have none.
namespace restkv::eval {

/// A number of tokens, 0 for all, or a text such as "25%" or "auto:0.05".
Json budget_json(const Budget& budget);
/// Throws `Error` (kInput) on anything else.
Budget budget_from_json(const Json& json);

/// Result of one cell of the grid (a method at a budget) for a sample.
struct CellResult {
  std::string cell;
  Answer answer;
  Scores scores;
  size_t kv_bytes = 0;  ///< Cache after the prefill.
  /// Its tokens per KV head, on average over the layers that are compressed; none in lines of
  /// earlier versions.
  std::optional<double> kept;
  double compress_seconds = 0;
  double decode_seconds = 0;
  size_t decode_steps = 0;
};

/// One line of a results file.
struct SampleResult {
  std::string task;
  size_t index = 0;  ///< Within the task; a continued run identifies samples by it.
  std::string id;
  std::optional<size_t> length;  ///< As in `Sample`.
  std::optional<double> depth;
  size_t prompt_tokens = 0;
  std::string prompt_end;      ///< Last characters of the prompt; none in earlier versions.
  size_t cut_from = 0;         ///< Number of tokens before the middle was cut out; 0: not cut.
  double prefill_seconds = 0;  ///< Without compression.
  double seconds = 0;          ///< Total of the sample.
  size_t peak_bytes = 0;       ///< Peak resident memory of the process so far.
  std::string error;           ///< Reason for missing cells; empty on success.
  Json reference;
  std::vector<CellResult> cells;
  bool checked = true;  ///< False if it was read from a line without a checksum.
  std::string place;    ///< "file:line" of its line, for messages.
};

/// The JSON of a line, without a checksum.
Json to_json(const SampleResult& result);
/// As a line of a results file, without its end.
std::string to_line(const SampleResult& result);
/// Throws `Error` (kInput) with the reason alone: the checksum does not match, or a field is
/// missing or has another type.
SampleResult from_line(std::string_view text);

/// The lines of one results file, or of all results*.jsonl in a folder. The first of several lines
/// for a sample counts. An incomplete last line (the process was killed or the disk was full) is
/// ignored. Throws `Error` (kInput) naming file and line of any other bad line.
std::vector<SampleResult> read_results(const std::filesystem::path& file_or_folder);

/// Appends to a results file. Removes an incomplete last line first.
class ResultsFile {
 public:
  /// Throws `Error` and leaves the file unchanged: kIo if it cannot be opened, kInvalidArgument if
  /// another process uses it, kInput if it holds anything but results.
  explicit ResultsFile(const std::filesystem::path& path);
  /// Returns when the line is on the disk. Throws `Error` (kIo) naming the reason; the file then
  /// ends as before.
  void append(const SampleResult& result);

 private:
  LineFile file_;
};

/// Creates a run with these settings in the folder, or checks that it is such a run.
/// `circumstances` (date, machine) are stored with the settings but may differ. Throws `Error`:
/// kInvalidArgument naming the settings that differ, kInput (run.json is damaged), kIo.
void open_run(const std::filesystem::path& folder, const Json& settings, const Json& circumstances);

/// {"settings": ..., "circumstances": ...} of a run's folder. Throws `Error` (kInput) if it is no
/// run.
Json read_run(const std::filesystem::path& folder);

}  // namespace restkv::eval
