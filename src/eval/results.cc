#include "eval/results.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kRunFile = "run.json";

std::string reason(int error) { return std::generic_category().message(error); }

/// JSON has no infinity and no NaN: null stands for both.
double number(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::vector<double> numbers(const Json& list) {
  std::vector<double> result;
  for (const Json& value : list) result.push_back(number(value));
  return result;
}

/// Only what this kind of answer has.
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
  answer.text = json.value("text", "");
  answer.more_texts = json.value("more_texts", answer.more_texts);
  answer.turn_texts = json.value("turn_texts", answer.turn_texts);
  answer.turn_tokens = json.value("turn_tokens", answer.turn_tokens);
  answer.log_likelihoods = numbers(json.value("log_likelihoods", Json::array()));
  for (const int greedy : json.value("greedy", std::vector<int>())) {
    answer.greedy.push_back(greedy != 0 ? 1 : 0);
  }
  answer.token_losses = numbers(json.value("token_losses", Json::array()));
  return answer;
}

/// Where the last complete line of `content` ends.
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

/// "max_prompt: 4000 there, 2000 here" for the first few differences.
std::string differences(const Json& there, const Json& here) {
  constexpr size_t kShown = 4;
  // Unordered: the order of keys is no difference.
  const nlohmann::json a = there;
  const nlohmann::json b = here;
  const auto shown = [](const nlohmann::json& all, const std::string& path) {
    const nlohmann::json::json_pointer at(path);
    if (!all.contains(at)) return std::string("nothing");
    std::string text = all.at(at).dump();
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    return text;
  };
  std::string text;
  const nlohmann::json patch = nlohmann::json::diff(a, b);
  for (size_t i = 0; i < patch.size() && i < kShown; ++i) {
    const auto path = patch[i].at("path").get<std::string>();
    text +=
        fmt::format("\n  {}: {} there, {} here", path.substr(1), shown(a, path), shown(b, path));
  }
  if (patch.size() > kShown) text += fmt::format("\n  and {} more", patch.size() - kShown);
  return text;
}

}  // namespace

Json to_json(const SampleResult& result) {
  Json line = {{"task", result.task}, {"index", result.index}, {"id", result.id}};
  if (result.length) line["length"] = *result.length;
  if (result.depth) line["depth"] = *result.depth;
  line["prompt_tokens"] = result.prompt_tokens;
  if (result.cut_from > 0) line["cut_from"] = result.cut_from;
  line["prefill_seconds"] = result.prefill_seconds;
  line["seconds"] = result.seconds;
  line["peak_bytes"] = result.peak_bytes;
  if (!result.error.empty()) line["error"] = result.error;
  if (!result.reference.is_null()) line["reference"] = result.reference;
  Json& cells = line["cells"] = Json::array();
  for (const CellResult& cell : result.cells) {
    Json scores = Json::object();
    for (const auto& [name, value] : cell.scores) scores[name] = value;
    cells.push_back({{"cell", cell.cell},
                     {"scores", std::move(scores)},
                     {"answer", answer_json(cell.answer)},
                     {"kv_bytes", cell.kv_bytes},
                     {"compress_seconds", cell.compress_seconds},
                     {"decode_seconds", cell.decode_seconds},
                     {"decode_steps", cell.decode_steps}});
  }
  return line;
}

SampleResult sample_result(const Json& line) {
  SampleResult result;
  line.at("task").get_to(result.task);
  line.at("index").get_to(result.index);
  line.at("id").get_to(result.id);
  if (line.contains("length")) result.length = line.at("length").get<size_t>();
  if (line.contains("depth")) result.depth = line.at("depth").get<double>();
  line.at("prompt_tokens").get_to(result.prompt_tokens);
  result.cut_from = line.value("cut_from", size_t{0});
  line.at("prefill_seconds").get_to(result.prefill_seconds);
  line.at("seconds").get_to(result.seconds);
  line.at("peak_bytes").get_to(result.peak_bytes);
  result.error = line.value("error", "");
  if (line.contains("reference")) result.reference = nlohmann::json(line.at("reference"));
  for (const Json& from : line.at("cells")) {
    CellResult& cell = result.cells.emplace_back();
    from.at("cell").get_to(cell.cell);
    for (const auto& [name, value] : from.at("scores").items()) {
      cell.scores.emplace_back(name, number(value));
    }
    cell.answer = answer_from(from.at("answer"));
    from.at("kv_bytes").get_to(cell.kv_bytes);
    from.at("compress_seconds").get_to(cell.compress_seconds);
    from.at("decode_seconds").get_to(cell.decode_seconds);
    from.at("decode_steps").get_to(cell.decode_steps);
  }
  return result;
}

std::vector<SampleResult> read_results(const fs::path& file_or_folder) {
  std::vector<SampleResult> results;
  std::set<std::pair<std::string, size_t>> seen;
  for (const fs::path& file : results_files(file_or_folder)) {
    const std::string content = read_file(file.string());
    const size_t end = complete_size(content);
    size_t line = 1;
    for (size_t begin = 0; begin < end; ++line) {
      const size_t newline = content.find('\n', begin);
      const std::string_view text(content.data() + begin, newline - begin);
      begin = newline + 1;
      try {
        SampleResult result = sample_result(Json::parse(text));
        if (seen.emplace(result.task, result.index).second) results.push_back(std::move(result));
      } catch (const nlohmann::json::exception& e) {
        throw Error(ErrorCode::kInput,
                    fmt::format("{}:{}: not the result of a sample ({}); remove this line and the "
                                "sample will be run again",
                                file.string(), line, e.what()));
      }
    }
  }
  return results;
}

ResultsFile::ResultsFile(const fs::path& path) : path_(path) {
  const auto fail = [&](const std::string& why) -> Error {
    return {ErrorCode::kIo,
            fmt::format("cannot write {}: {}; choose a folder that exists and is writable",
                        path.string(), why)};
  };
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw fail(reason(errno));
  // The system gives the lock back however the process ends.
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is being written by another process; wait for its end, or share "
                            "the work with --shard",
                            path.string()));
  }
  const std::string content = read_file(path.string());
  const size_t size = complete_size(content);
  if (size < content.size() && ::ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    const int error = errno;
    ::close(fd_);
    throw fail(reason(error));
  }
  // The name of a new file is on the disk only once its folder is.
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd >= 0) {
    ::fsync(folder_fd);
    ::close(folder_fd);
  }
}

ResultsFile::~ResultsFile() { ::close(fd_); }

void ResultsFile::append(const SampleResult& result) {
  const std::string line =
      to_json(result).dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  int error = before < 0 ? errno : 0;
  for (size_t done = 0; error == 0 && done < line.size();) {
    const ssize_t written = ::write(fd_, line.data() + done, line.size() - done);
    if (written >= 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && ::fsync(fd_) != 0) error = errno;
  if (error == 0) return;
  // Whether this works or not: a line without its end does not count.
  const bool restored = before >= 0 && ::ftruncate(fd_, before) == 0;
  throw Error(ErrorCode::kIo,
              fmt::format("cannot write {}: {}; {}. Free {} bytes or more, then give the same "
                          "command again: it goes on with this sample",
                          path_.string(), reason(error),
                          restored ? "the samples before are complete"
                                   : "its last line is incomplete and will be ignored",
                          line.size()));
}

void open_run(const fs::path& folder, const Json& settings, const Json& circumstances) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || ::access(folder.c_str(), W_OK) != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot use it as the folder of a run: {}; choose another with -o",
                            folder.string(), error ? error.message() : std::strerror(errno)));
  }
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
  write_file_atomically((folder / kRunFile).string(),
                        run.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
}

Json read_run(const fs::path& folder) {
  const fs::path path = folder / kRunFile;
  const std::string content = read_file(path.string());
  try {
    Json run = Json::parse(content);
    if (run.at("settings").is_object()) return run;
  } catch (const nlohmann::json::exception&) {
  }
  throw Error(ErrorCode::kInput, fmt::format("{}: not the description of a run; is {} the folder "
                                             "that an evaluation wrote?",
                                             path.string(), folder.string()));
}

}  // namespace restkv::eval
