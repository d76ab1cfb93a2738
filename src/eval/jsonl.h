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

/// JSON Lines, the format of most benchmark files: one object per line, plain or .gz.
namespace restkv::eval {

/// Limit of a line: a small .gz file can hold a line of many gigabytes.
inline constexpr size_t kMostLineBytes = size_t{64} << 20U;

/// The lines of a text file, plain or .gz.
class LineReader {
 public:
  /// Starts at `offset`, in bytes of the uncompressed text; line numbers count from there. Throws
  /// `Error` (kInput) if the file cannot be opened.
  explicit LineReader(std::filesystem::path file, uint64_t offset = 0);

  /// Reads the next line without its "\n"; returns false at the end. Throws `Error` (kInput) if
  /// reading fails, for instance on a damaged or truncated .gz file, or if a line is longer than
  /// `kMostLineBytes`; the next line can then be read.
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
  std::string buffer_;  ///< Bytes read; those from `used_` on are not returned yet.
  size_t used_ = 0;
  uint64_t line_begin_ = 0;
  uint64_t position_ = 0;  ///< Of the next line.
  size_t number_ = 0;
  bool failed_ = false;
};

/// One line as a JSON object. Throws `Error` (kInput) with the reason alone: not JSON, nested too
/// deeply, not UTF-8, not an object.
Json parse_record(std::string_view line);

/// Place of a record in its file.
struct RecordPlace {
  uint64_t offset = 0;
  size_t line = 0;  ///< From 1.
};

/// Passes each record of a file to `use` until that returns false. Blank lines, a byte order mark
/// at the start and "\r" at line ends are ignored. Lines that are no records, and records that
/// `use` refuses with `Error` (kInput), go to `skipped`. A damaged .gz file gives the records
/// before the damage. Throws `Error` (kInput) if the file cannot be opened.
void read_jsonl(const std::filesystem::path& file,
                const std::function<bool(const Json& record, RecordPlace place)>& use,
                std::vector<SkippedLine>& skipped);

/// Reads the record at `place` again. Throws `Error` (kInput) if it is no longer there.
Json read_record(const std::filesystem::path& file, RecordPlace place);

// Fields that metrics need. All throw `Error` (kInput) as `text_field` does.

/// Texts to compare with or to search for: at least one, and none blank, because a blank text would
/// match everything or nothing.
std::string filled_text_field(const Json& record, std::string_view name);
std::vector<std::string> filled_texts_field(const Json& record, std::string_view name);
/// The same, or none if the field is missing or null.
std::vector<std::string> filled_texts_if_any(const Json& record, std::string_view name);

}  // namespace restkv::eval
