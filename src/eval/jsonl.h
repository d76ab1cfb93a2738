#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/suite.h"

struct gzFile_s;

/// JSON Lines, the form of nearly all benchmark files: one object per line, plain or .gz.
namespace restkv::eval {

/// Longer lines are no records: a .gz file of some megabytes can hold one of many gigabytes.
inline constexpr size_t kMostLineBytes = size_t{64} << 20U;

/// The lines of a text file, plain or .gz.
class LineReader {
 public:
  /// `offset`: where to begin, in bytes of the uncompressed text; line numbers count from there.
  /// Throws `Error` (kInput) if the file cannot be opened.
  explicit LineReader(std::filesystem::path file, uint64_t offset = 0);

  /// The next line without its "\n"; false at the end. Throws `Error` (kInput) where reading fails,
  /// for instance because a .gz file is damaged or was cut off, and instead of a line of more than
  /// `kMostLineBytes`, after which the next one can be read.
  bool next(std::string& line);

  [[nodiscard]] bool failed() const { return failed_; }  ///< No line will follow.

  [[nodiscard]] uint64_t offset() const { return line_begin_; }  ///< Of the line `next` gave.
  [[nodiscard]] size_t number() const { return number_; }        ///< Of that line, from 1.

 private:
  bool fill();  ///< Reads on; false at the end of the file.

  struct Close {
    void operator()(gzFile_s* file) const;
  };
  std::filesystem::path file_;
  std::unique_ptr<gzFile_s, Close> gz_;
  std::string buffer_;  ///< Read and not yet handed out from `used_` on.
  size_t used_ = 0;
  uint64_t line_begin_ = 0;
  uint64_t position_ = 0;  ///< Of the next line.
  size_t number_ = 0;
  bool failed_ = false;
};

/// One line as a JSON object. Throws `Error` (kInput) with the reason alone: not JSON, nested too
/// deeply, not UTF-8, not an object.
Json parse_record(std::string_view line);

/// Where a record stands in its file.
struct RecordPlace {
  uint64_t offset = 0;
  size_t line = 0;  ///< From 1.
};

/// Hands each record of a file to `use` until that returns false. Blank lines mean nothing; a byte
/// order mark at the start and "\r\n" are taken as they come. What is not a record, and what `use`
/// refuses with `Error` (kInput), goes to `skipped`. Throws `Error` (kInput) if the file cannot be
/// opened; a damaged .gz file gives what stands before the damage.
void read_jsonl(const std::filesystem::path& file,
                const std::function<bool(const Json& record, RecordPlace place)>& use,
                std::vector<SkippedLine>& skipped);

/// The record that `read_jsonl` found at `place`. Throws `Error` (kInput) if it is not there any
/// more.
Json read_record(const std::filesystem::path& file, RecordPlace place);

// Fields of a record that a metric needs. All throw `Error` (kInput) as `text_field` does.

/// Texts that something is compared with, or looked for: at least one, and none without a character
/// that is not white space, which would be found in everything or in nothing.
std::string filled_text_field(const Json& record, std::string_view name);
std::vector<std::string> filled_texts_field(const Json& record, std::string_view name);
/// The same where there is such a field and it is not null; otherwise none.
std::vector<std::string> filled_texts_if_any(const Json& record, std::string_view name);

}  // namespace restkv::eval
