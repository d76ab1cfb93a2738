#include "cli/answer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "restkv/error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv::cli {

AnswerFile::AnswerFile(const std::string& path, const std::string& settings)
    : file_(path), run_(fmt::format("{:016x}", XXH3_64bits(settings.data(), settings.size()))) {
  size_t number = 0;
  for (std::string_view rest = file_.lines(); !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    ++number;
    const std::string place = fmt::format("{}:{}", path, number);
    std::string run;
    std::string id;
    try {
      const Json answer = parse_json(line);
      run = answer.at("run").text();
      id = answer.at("id").text();
    } catch (const Error&) {
      throw Error(ErrorCode::kInput, place +
                                         ": is no answer of restkv ask; remove the line, or "
                                         "write to another file");
    }
    if (run != run_) {
      throw Error(ErrorCode::kInvalidArgument,
                  place +
                      ": this answer was made with another document, model or option; repeat "
                      "those, or write to another file");
    }
    done_.insert(id);
  }
  if (!file_.torn_line().empty() && !file_.torn_line().starts_with(R"({"run":)") &&
      !std::string_view(R"({"run":)").starts_with(file_.torn_line())) {
    throw Error(ErrorCode::kInput, fmt::format("{}:{}: is no answer of restkv ask; write to "
                                               "another file",
                                               path, number + 1));
  }
  file_.remove_torn_line();
}

void AnswerFile::append(const Json& answer) {
  Json line = Json::object({{"run", run_}});
  for (const auto& [name, value] : answer.items()) line[name] = value;
  file_.append(line.dump());
}

}  // namespace restkv::cli
