#include "eval/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "restkv/error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRunFile = "run.json";

constexpr std::string_view kChecksumBegin = R"(,"checksum":")";
constexpr size_t kChecksumDigits = 16;
constexpr size_t kChecksumBytes = kChecksumBegin.size() + kChecksumDigits + 2;  // and "}

/// Adds a field with the checksum to the object `json`.
std::string with_checksum(std::string json) {
  json.pop_back();
  const uint64_t checksum = XXH3_64bits(json.data(), json.size());
  return fmt::format("{}{}{:0{}x}\"}}", json, kChecksumBegin, checksum, kChecksumDigits);
}

bool checksum_matches(std::string_view line) {
  if (line.size() < kChecksumBytes) return false;
  return line == with_checksum(std::string(line.substr(0, line.size() - kChecksumBytes)) + "}");
}

/// JSON has no infinity and no NaN: null stands for both.
double number(const Json& record, std::string_view name) {
  return field(record, name).is_null() ? std::numeric_limits<double>::quiet_NaN()
                                       : number_field(record, name);
}

// Fields of some kinds of answers.

std::vector<double> numbers(const Json& record, std::string_view name) {
  std::vector<double> result;
  if (!record.contains(name)) return result;
  for (const Json& value : list_field(record, name)) {
    if (!value.is_number() && !value.is_null()) {
      throw Error(ErrorCode::kInput, fmt::format("field '{}' must be a list of numbers", name));
    }
    result.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                     : value.get<double>());
  }
  return result;
}

template <class Number>
std::vector<Number> counts(const Json& record, std::string_view name) {
  std::vector<Number> result;
  for (const double value : numbers(record, name)) {
    if (!(value >= 0 && value <= static_cast<double>(std::numeric_limits<Number>::max()))) {
      throw Error(ErrorCode::kInput, fmt::format("field '{}' must be a list of counts", name));
    }
    result.push_back(static_cast<Number>(value));
  }
  return result;
}

std::vector<std::string> texts(const Json& record, std::string_view name) {
  return record.contains(name) ? texts_field(record, name) : std::vector<std::string>();
}

/// The fields of this kind of answer.
Json answer_json(const Answer& answer) {
  Json json = Json::object();
  const bool choices = !answer.log_likelihoods.empty();
  const bool losses = !answer.token_losses.empty();
  if (!choices && !losses) json["text"] = answer.text;
  if (!answer.more_texts.empty()) json["more_texts"] = answer.more_texts;
  if (!answer.turn_texts.empty()) json["turn_texts"] = answer.turn_texts;
  if (!answer.turn_tokens.empty()) json["turn_tokens"] = answer.turn_tokens;
  if (choices) {
    json["log_likelihoods"] = answer.log_likelihoods;
    json["greedy"] = std::vector<int>(answer.greedy.begin(), answer.greedy.end());
  }
  if (losses) json["token_losses"] = answer.token_losses;
  return json;
}

Answer answer_from(const Json& json) {
  Answer answer;
  if (json.contains("text")) answer.text = text_field(json, "text");
  answer.more_texts = texts(json, "more_texts");
  answer.turn_texts = texts(json, "turn_texts");
  answer.turn_tokens = counts<size_t>(json, "turn_tokens");
  answer.log_likelihoods = numbers(json, "log_likelihoods");
  for (const int greedy : counts<int>(json, "greedy")) answer.greedy.push_back(greedy != 0 ? 1 : 0);
  answer.token_losses = numbers(json, "token_losses");
  return answer;
}

CellResult cell_from(const Json& json) {
  CellResult cell;
  cell.cell = text_field(json, "cell");
  const Json& scores = object_field(json, "scores");
  if (scores.empty()) throw Error(ErrorCode::kInput, "field 'scores' is empty");
  for (const auto& [name, value] : scores.items()) {
    cell.scores.emplace_back(name, number(scores, name));
  }
  cell.answer = answer_from(object_field(json, "answer"));
  cell.kv_bytes = count_field(json, "kv_bytes");
  if (json.contains("kept")) cell.kept = number_field(json, "kept");
  cell.compress_seconds = number_field(json, "compress_seconds");
  cell.decode_seconds = number_field(json, "decode_seconds");
  cell.decode_steps = count_field(json, "decode_steps");
  return cell;
}

/// End of the last complete line of `content`.
size_t complete_size(std::string_view content) {
  const size_t newline = content.rfind('\n');
  return newline == std::string_view::npos ? 0 : newline + 1;
}

std::vector<fs::path> results_files(const fs::path& file_or_folder) {
  if (!fs::is_directory(file_or_folder)) return {file_or_folder};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(file_or_folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("results") && name.ends_with(".jsonl")) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

/// A value of two versions of JSON; null where one has none.
struct Difference {
  std::string path;  ///< "/tasks/0/samples"
  const Json* there = nullptr;
  const Json* here = nullptr;
};

void find_differences(const Difference& at, std::vector<Difference>& found) {
  const auto both = [&](bool (Json::*is_type)() const noexcept) {
    return at.there != nullptr && at.here != nullptr && (at.there->*is_type)() &&
           (at.here->*is_type)();
  };
  if (both(&Json::is_object)) {
    std::map<std::string_view, Difference> fields;
    for (const auto& [name, value] : at.there->items()) fields[name].there = &value;
    for (const auto& [name, value] : at.here->items()) fields[name].here = &value;
    for (auto& [name, field] : fields) {
      field.path = fmt::format("{}/{}", at.path, name);
      find_differences(field, found);
    }
  } else if (both(&Json::is_array)) {
    std::vector<Difference> items(std::max(at.there->size(), at.here->size()));
    for (size_t i = 0; i < at.there->size(); ++i) items[i].there = &at.there->at(i);
    for (size_t i = 0; i < at.here->size(); ++i) items[i].here = &at.here->at(i);
    for (size_t i = 0; i < items.size(); ++i) {
      items[i].path = fmt::format("{}/{}", at.path, i);
      find_differences(items[i], found);
    }
  } else if (at.there == nullptr || at.here == nullptr || *at.there != *at.here) {
    found.push_back(at);
  }
}

/// "max_prompt: 4000 there, 2000 here" for the first few differences.
std::string differences(const Json& there, const Json& here) {
  constexpr size_t kShown = 4;
  std::vector<Difference> all;
  find_differences({.path = {}, .there = &there, .here = &here}, all);
  const auto value = [](const Json* json) {
    return json == nullptr ? std::string("nothing") : shown(*json);
  };
  std::string text;
  for (size_t i = 0; i < std::min(all.size(), kShown); ++i) {
    text += fmt::format("\n  {}: {} there, {} here", all[i].path.substr(1), value(all[i].there),
                        value(all[i].here));
  }
  if (all.size() > kShown) text += fmt::format("\n  and {} more", all.size() - kShown);
  return text;
}

/// The complete lines of a results file.
std::vector<SampleResult> complete_results(const fs::path& file, std::string_view content) {
  std::vector<SampleResult> results;
  content = content.substr(0, complete_size(content));
  for (size_t line = 1; !content.empty(); ++line) {
    const size_t newline = content.find('\n');
    std::string place = fmt::format("{}:{}", file.string(), line);
    try {
      results.push_back(from_line(content.substr(0, newline)));
    } catch (const Error& e) {
      throw Error(ErrorCode::kInput, fmt::format("{}: not the result of a sample ({}); remove this "
                                                 "line and the sample will be run again",
                                                 place, e.what()));
    }
    results.back().place = std::move(place);
    content.remove_prefix(newline + 1);
  }
  return results;
}

/// Whether an incomplete last line can be the rest of a result after a crash: its beginning, or
/// zeros that a file system left in place of unwritten bytes.
bool is_torn_result(std::string_view text) {
  constexpr std::string_view kBegin = R"({"task":")";
  const size_t written = std::min(text.find('\0'), text.size());
  const size_t compared = std::min(written, kBegin.size());
  return text.substr(0, compared) == kBegin.substr(0, compared);
}

}  // namespace

Json to_json(const SampleResult& result) {
  Json line = {{"task", result.task}, {"index", result.index}, {"id", result.id}};
  if (result.length) line["length"] = *result.length;
  if (result.depth) line["depth"] = *result.depth;
  line["prompt_tokens"] = result.prompt_tokens;
  if (!result.prompt_end.empty()) line["prompt_end"] = result.prompt_end;
  if (result.cut_from > 0) line["cut_from"] = result.cut_from;
  line["prefill_seconds"] = result.prefill_seconds;
  line["seconds"] = result.seconds;
  line["peak_bytes"] = result.peak_bytes;
  if (!result.error.empty()) line["error"] = result.error;
  if (!result.reference.is_null()) line["reference"] = result.reference.sorted();
  Json& cells = line["cells"] = Json::array();
  for (const CellResult& cell : result.cells) {
    Json scores = Json::object();
    for (const auto& [name, value] : cell.scores) scores[name] = value;
    Json json = {{"cell", cell.cell},
                 {"scores", std::move(scores)},
                 {"answer", answer_json(cell.answer)},
                 {"kv_bytes", cell.kv_bytes},
                 {"compress_seconds", cell.compress_seconds},
                 {"decode_seconds", cell.decode_seconds},
                 {"decode_steps", cell.decode_steps}};
    if (cell.kept) json["kept"] = *cell.kept;
    cells.push_back(std::move(json));
  }
  return line;
}

std::string to_line(const SampleResult& result) { return with_checksum(to_json(result).dump()); }

SampleResult from_line(std::string_view text) {
  const Json line = parse_json(text);
  if (line.contains("checksum") && !checksum_matches(text)) {
    throw Error(ErrorCode::kInput,
                "its checksum does not match: the line is damaged or was edited");
  }
  SampleResult result;
  result.checked = line.contains("checksum");
  result.task = text_field(line, "task");
  result.index = count_field(line, "index");
  result.id = text_field(line, "id");
  if (line.contains("length")) result.length = count_field(line, "length");
  if (line.contains("depth")) result.depth = number_field(line, "depth");
  result.prompt_tokens = count_field(line, "prompt_tokens");
  if (line.contains("prompt_end")) result.prompt_end = text_field(line, "prompt_end");
  if (line.contains("cut_from")) result.cut_from = count_field(line, "cut_from");
  result.prefill_seconds = number_field(line, "prefill_seconds");
  result.seconds = number_field(line, "seconds");
  result.peak_bytes = count_field(line, "peak_bytes");
  if (line.contains("error")) result.error = text_field(line, "error");
  if (line.contains("reference")) result.reference = line.at("reference").sorted();
  for (const Json& cell : list_field(line, "cells")) result.cells.push_back(cell_from(cell));
  // A damaged name of the checksum field would make a line look like one without a checksum.
  constexpr std::array kFields{
      "task",          "index",      "id",        "length",          "depth",
      "prompt_tokens", "prompt_end", "cut_from",  "prefill_seconds", "seconds",
      "peak_bytes",    "error",      "reference", "cells",           "checksum"};
  for (const auto& [name, value] : line.items()) {
    if (std::ranges::find(kFields, name) != kFields.end()) continue;
    throw Error(ErrorCode::kInput, fmt::format("there is no field '{}'", name));
  }
  return result;
}

std::vector<SampleResult> read_results(const fs::path& file_or_folder) {
  std::vector<SampleResult> results;
  std::set<std::pair<std::string, size_t>> seen;
  for (const fs::path& file : results_files(file_or_folder)) {
    for (SampleResult& result : complete_results(file, read_file(file.string()))) {
      if (seen.emplace(result.task, result.index).second) results.push_back(std::move(result));
    }
  }
  return results;
}

ResultsFile::ResultsFile(const fs::path& path) : file_(path.string()) {
  // The file is changed only after it is known to hold results.
  const size_t lines = complete_results(path, file_.lines()).size();
  if (!is_torn_result(file_.torn_line())) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("{}:{}: not the beginning of a result; is the file one that restkv eval "
                    "wrote? Remove what is none, or choose another folder with -o",
                    path.string(), lines + 1));
  }
  file_.remove_torn_line();
}

void ResultsFile::append(const SampleResult& result) { file_.append(to_line(result)); }

Json budget_json(const Budget& budget) {
  const bool number = budget.share == 0 && budget.tolerance == 0;
  return number ? Json(budget.tokens) : Json(budget.text());
}

Budget budget_from_json(const Json& json) {
  Budget budget;
  try {
    if (json.is_string()) return parse_budget(json.text());
    if (json.is_number_integer()) budget.tokens = json.get<int>();
  } catch (const Error&) {
    budget.tokens = -1;
  }
  const bool usable = json.is_number_integer() && budget.tokens >= 0;
  if (!usable) {
    throw Error(
        ErrorCode::kInput,
        fmt::format(R"(field 'budget' is {}; expected a number, a share as "25%", or "auto")",
                    json.dump()));
  }
  return budget;
}

void open_run(const fs::path& folder, const Json& settings, const Json& circumstances) {
  make_folder(folder.string());
  if (fs::exists(folder / kRunFile)) {
    const Json there = read_run(folder).at("settings");
    const std::string differing = differences(there, settings);
    if (differing.empty()) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} holds a run with other settings:{}\nRepeat its settings to go on "
                            "with it, or choose another folder with -o",
                            folder.string(), differing));
  }
  if (!results_files(folder).empty()) {
    throw Error(ErrorCode::kInput,
                fmt::format("{} holds results but no {}; choose another folder with -o",
                            folder.string(), kRunFile));
  }
  const Json run = {{"settings", settings}, {"circumstances", circumstances}};
  write_file_atomically((folder / kRunFile).string(), run.dump(2) + '\n');
}

Json read_run(const fs::path& folder) {
  const fs::path path = folder / kRunFile;
  Json run = read_json(path.string());
  try {
    object_field(run, "settings");
    return run;
  } catch (const Error& e) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: not the description of a run ({}); is {} the folder that an "
                            "evaluation wrote?",
                            path.string(), e.what(), folder.string()));
  }
}

}  // namespace restkv::eval
