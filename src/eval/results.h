#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "eval/suite.h"

/// The files of a run's folder: run.json says what was asked for, results*.jsonl what came out, one
/// line per sample. Nothing else is kept, so a run that was killed goes on where its lines end.
/// Each line ends with a checksum (XXH3) of what stands before it; lines of earlier versions have
/// none.
namespace restkv::eval {

/// What one cell of the grid (a method at a budget) made of a sample.
struct CellResult {
  std::string cell;
  Answer answer;
  Scores scores;
  size_t kv_bytes = 0;  ///< Cache after the prefill.
  double compress_seconds = 0;
  double decode_seconds = 0;
  size_t decode_steps = 0;
};

/// One line of a results file.
struct SampleResult {
  std::string task;
  size_t index = 0;  ///< Within the task; what a later start goes by.
  std::string id;
  std::optional<size_t> length;  ///< As in `Sample`.
  std::optional<double> depth;
  size_t prompt_tokens = 0;
  size_t cut_from = 0;         ///< Tokens before the middle was cut out; 0: nothing was.
  double prefill_seconds = 0;  ///< Without compression.
  double seconds = 0;          ///< All of the sample.
  size_t peak_bytes = 0;       ///< Largest resident memory of the process up to here.
  std::string error;           ///< Why there are no cells; empty: all went well.
  Json reference;
  std::vector<CellResult> cells;
  bool checked = true;  ///< False where it was read from a line that has no checksum.
  std::string place;    ///< "file:line" where it was read; for messages alone.
};

/// Without a checksum.
Json to_json(const SampleResult& result);
/// As a line of a results file, without its end.
std::string to_line(const SampleResult& result);
/// Throws `Error` (kInput) with the reason alone: the checksum does not match, something is missing
/// or of another type.
SampleResult from_line(std::string_view text);

/// The lines of one results file, or of all results*.jsonl in a folder; of several lines for the
/// same sample the first counts. A last line without its end (the process was killed or the disk
/// was full) is left out. Throws `Error` (kInput) naming file and line of any other bad line.
std::vector<SampleResult> read_results(const std::filesystem::path& file_or_folder);

/// A results file that is being written. Removes a torn last line first.
class ResultsFile {
 public:
  /// Throws `Error`: kIo if the file cannot be opened, kInvalidArgument if another process has it,
  /// kInput if it holds anything but results; it is then left as it was.
  explicit ResultsFile(const std::filesystem::path& path);
  /// Returns once the line is on the disk. Throws `Error` (kIo) naming the reason; the file then
  /// ends as it did before.
  void append(const SampleResult& result);

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

/// Makes the folder a run with these settings, or finds that it is one already. `circumstances`
/// (date, machine) are kept with the settings but may differ. Throws `Error`: kInvalidArgument
/// naming the settings that differ, kInput (run.json is damaged), kIo.
void open_run(const std::filesystem::path& folder, const Json& settings, const Json& circumstances);

/// {"settings": ..., "circumstances": ...} of a run's folder. Throws `Error` (kInput) if it is
/// none.
Json read_run(const std::filesystem::path& folder);

}  // namespace restkv::eval
