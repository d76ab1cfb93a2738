#include "report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "cli/command.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

/// A name for files: nothing that a folder's name could be hidden in.
std::string file_name(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return std::isalnum(c) == 0 && c != '-' && c != '_'; }, '-');
  return text;
}

struct ReportFlags {
  std::vector<std::string> runs;
  std::string output;
};

int report(const ReportFlags& flags) {
  refuse_standard_output("--output", flags.output);
  const std::vector<fs::path> folders(flags.runs.begin(), flags.runs.end());
  const fs::path output =
      flags.output.empty() ? folders.front() / "report" : fs::path(flags.output);
  for (const fs::path& folder : folders) {
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("{}: is no folder of a run; restkv eval makes them", folder.string()));
    }
  }
  require_writable_folder(output.string(),
                          {"report.md", "report.csv", "report.json", "index.html"});
  std::vector<eval::RunReport> reports;
  std::vector<std::vector<eval::Picture>> pictures;
  for (const eval::Run& run : eval::load_runs(folders)) {
    reports.push_back(eval::report_of(run));
    if (reports.back().finished == 0) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: holds no results yet; restkv eval puts them there",
                              run.folders.front().string()));
    }
    pictures.push_back(eval::pictures(
        reports.back(), fmt::format("{}-{}", reports.size(),
                                    file_name(run.settings.at("benchmark").get<std::string>()))));
  }
  make_folder(output.string());
  const auto write = [&](const std::string& name, const std::string& content) {
    write_file_atomically((output / name).string(), content);
  };
  for (const auto& of_run : pictures) {
    for (const eval::Picture& picture : of_run) write(picture.file, picture.svg);
  }
  write("report.md", eval::markdown(reports, pictures));
  write("report.csv", eval::csv(reports));
  write("report.json", eval::report_json(reports).dump(2) + "\n");
  write("index.html", eval::page(reports, pictures));
  for (const eval::RunReport& each : reports) {
    print(eval::terminal_table(each) + "\n");
  }
  print(fmt::format("Report: {}\n", (output / "index.html").string()));
  int code = kSuccess;
  for (const eval::RunReport& each : reports) {
    if (each.failures.size() < each.finished) continue;
    notice(fmt::format("{}, {}: all {} samples failed, so there is no figure", each.title(),
                       each.model(), each.finished));
    code = kFailure;
  }
  return code;
}

}  // namespace

std::function<int()> declare_report(ArgumentParser& parser) {
  auto flags = std::make_shared<ReportFlags>();
  parser
      .add_repeated("runs", flags->runs, "folders that restkv eval wrote; shards are put together",
                    "RUN_DIR...")
      .required();
  parser.add("-o,--output", flags->output, "folder of the report; RUN_DIR/report if not given",
             "DIR");
  parser.set_footer(
      "Examples:\n"
      "  restkv report runs/ruler\n"
      "  restkv report runs/longbench-1 runs/longbench-2 runs/niah -o report");
  return [flags] { return report(*flags); };
}

}  // namespace restkv::cli
