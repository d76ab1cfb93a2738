#include "eval/jsonl.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr size_t kBlock = size_t{1} << 18U;

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorCode::kInput, reason); }

}  // namespace

void LineReader::Close::operator()(gzFile_s* file) const { gzclose_r(file); }

LineReader::LineReader(std::filesystem::path file, uint64_t offset)
    : file_(std::move(file)), line_begin_(offset), position_(offset) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file_, ignored)) {
    refuse(fmt::format("cannot read {}: it is a folder", file_.string()));
  }
  gz_.reset(gzopen(file_.c_str(), "rb"));
  if (!gz_) {
    refuse(fmt::format("cannot read {}: {}; check the path and its permissions", file_.string(),
                       std::generic_category().message(errno)));
  }
  gzbuffer(gz_.get(), kBlock);
  if (offset == 0) {
    fill();
    require_text_file(buffer_, file_.string());
  }
  if (offset > 0 && gzseek(gz_.get(), static_cast<z_off_t>(offset), SEEK_SET) < 0) {
    refuse(fmt::format("{}: ends before byte {}; has the file changed?", file_.string(), offset));
  }
}

bool LineReader::fill() {
  buffer_.erase(0, used_);
  used_ = 0;
  const size_t before = buffer_.size();
  buffer_.resize(before + kBlock);
  const int got = gzread(gz_.get(), buffer_.data() + before, kBlock);
  buffer_.resize(before + static_cast<size_t>(std::max(got, 0)));
  int code = Z_OK;
  const std::string_view message = gzerror(gz_.get(), &code);
  if (code != Z_OK && code != Z_STREAM_END) {
    failed_ = true;
    refuse(fmt::format("{}: reading fails after {} bytes: {}", file_.string(),
                       position_ + buffer_.size(),
                       code == Z_BUF_ERROR ? "the compressed file ends too early"
                       : code == Z_ERRNO   ? std::generic_category().message(errno)
                                           : std::string(message)));
  }
  return got > 0;
}

bool LineReader::next(std::string& line) {
  size_t searched = used_;
  size_t end = std::string::npos;
  size_t dropped = 0;  // of the beginning of a line that is too long
  while ((end = buffer_.find('\n', searched)) == std::string::npos) {
    if (buffer_.size() - used_ > kMostLineBytes) {
      dropped += buffer_.size() - used_;
      used_ = buffer_.size();
    }
    searched = buffer_.size() - used_;  // `fill` moves what is unused to the front
    if (!fill()) break;
  }
  const bool has_end = end != std::string::npos;
  if (!has_end && buffer_.size() == used_ && dropped == 0) return false;
  const size_t size = (has_end ? end : buffer_.size()) - used_;
  const bool fits = dropped + size <= kMostLineBytes;
  if (fits) line.assign(buffer_, used_, size);
  used_ += size + (has_end ? 1 : 0);
  line_begin_ = position_;
  position_ += dropped + size + (has_end ? 1 : 0);
  ++number_;
  if (!fits) {
    refuse(
        fmt::format("{}:{}: the line has {} bytes, and a record has at most {} MiB; is it a file "
                    "of one record per line?",
                    file_.string(), number_, dropped + size, kMostLineBytes >> 20U));
  }
  return true;
}

Json parse_record(std::string_view line) {
  Json record = parse_json(line);
  require_no_zero_byte_in_json(line);
  if (!record.is_object()) refuse(fmt::format("not a JSON object but {}", record.type_name()));
  return record;
}

void read_jsonl(const std::filesystem::path& file,
                const std::function<bool(const Json& record, RecordPlace place)>& use,
                std::vector<SkippedLine>& skipped) {
  LineReader reader(file);
  std::string line;
  for (;;) {
    try {
      if (!reader.next(line)) return;
    } catch (const Error& error) {
      skipped.push_back({file, reader.number() + (reader.failed() ? 1 : 0), error.what()});
      if (reader.failed()) return;
      continue;
    }
    const RecordPlace place{reader.offset(), reader.number()};
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      if (!use(parse_record(line), place)) return;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInput) throw;
      skipped.push_back({file, place.line, error.what()});
    }
  }
}

Json read_record(const std::filesystem::path& file, RecordPlace place) {
  LineReader reader(file, place.offset);
  std::string line;
  try {
    if (reader.next(line)) return parse_record(line);
  } catch (const Error& error) {
    refuse(fmt::format("{}:{}: {}", file.string(), place.line, error.what()));
  }
  refuse(fmt::format("{}:{}: the line is gone; has the file changed?", file.string(), place.line));
}

std::string filled_text_field(const Json& record, std::string_view name) {
  const std::string& value = text_field(record, name);
  if (text::is_blank(value)) refuse(fmt::format("field '{}' is empty", name));
  return value;
}

std::vector<std::string> filled_texts_field(const Json& record, std::string_view name) {
  std::vector<std::string> texts = texts_field(record, name);
  if (texts.empty()) refuse(fmt::format("field '{}' is an empty list", name));
  const auto blank = std::ranges::find_if(texts, text::is_blank);
  if (blank != texts.end()) {
    refuse(fmt::format("item {} of field '{}' is empty", blank - texts.begin() + 1, name));
  }
  return texts;
}

std::vector<std::string> filled_texts_if_any(const Json& record, std::string_view name) {
  const Json* found = record.find(name);
  if (found == nullptr || found->is_null()) return {};
  return filled_texts_field(record, name);
}

}  // namespace restkv::eval
