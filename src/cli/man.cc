#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/command.h"
#include "cli/output_file.h"
#include "cli/process.h"

namespace restkv::cli {
namespace {

/// Text for roff: what it would take for its own is spelled.
std::string roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_begins = c == '\n';
  }
  return out;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string header(const std::string& name, std::string_view summary) {
  return fmt::format(".TH {} 1 \"\" \"restkv {}\" \"restkv\"\n.SH NAME\n{} \\- {}\n",
                     upper(roff(name)), RESTKV_VERSION, roff(name), roff(summary));
}

/// What the help ends with: examples as they are, then sentences.
std::string footer(const std::string& text) {
  std::string out;
  bool in_examples = false;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line == "Examples:" || line == "Example:") {
      out += ".SH EXAMPLES\n.nf\n";
      in_examples = true;
      continue;
    }
    if (in_examples && !line.starts_with("  ")) {
      out += ".fi\n.SH NOTES\n";
      in_examples = false;
    } else if (out.empty()) {
      out += ".SH NOTES\n";
    }
    out += roff(line.substr(in_examples ? 2 : 0)) + "\n";
  }
  if (in_examples) out += ".fi\n";
  return out;
}

std::string option_entry(const Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.names()) names.push_back("\\fB" + roff(name) + "\\fR");
  if (names.empty()) names.push_back("\\fI" + roff(option.position_name()) + "\\fR");
  std::string entry = fmt::format(".TP\n{}", fmt::join(names, ", "));
  if (option.takes_value() && !option.is_positional()) {
    entry += fmt::format(" \\fI{}\\fR", roff(option.value_name()));
  }
  entry += "\n" + roff(option.help());
  if (!option.default_value().empty()) {
    entry += fmt::format(" (default: {})", roff(option.default_value()));
  }
  return entry + "\n";
}

std::string command_page(const ArgumentParser& command) {
  std::string page = header("restkv-" + command.name(), command.summary());
  page += fmt::format(".SH SYNOPSIS\n\\fBrestkv {}\\fR [\\fIoptions\\fR]", roff(command.name()));
  for (const Option* option : command.options()) {
    const std::string name = option->position_name();
    if (name.empty() || option->is_hidden()) continue;
    page += fmt::format(" {}\\fI{}\\fR{}", option->is_required() ? "" : "[", roff(name),
                        option->is_required() ? "" : "]");
  }
  page += "\n.SH OPTIONS\n";
  std::string group = "Options";
  for (const Option* option : command.options()) {
    if (option->is_hidden()) continue;
    if (option->group() != group) {
      group = option->group();
      page += fmt::format(".SS {}\n", roff(group));
    }
    page += option_entry(*option);
  }
  return page + footer(command.footer()) + ".SH SEE ALSO\n.BR restkv (1)\n";
}

std::string program_page(const ArgumentParser& program) {
  std::string page = header(program.name(), kDescription);
  page += ".SH SYNOPSIS\n\\fBrestkv\\fR \\fIcommand\\fR [\\fIoptions\\fR]\n.SH COMMANDS\n";
  std::vector<std::string> pages;
  for (const auto& command : program.commands()) {
    page += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(command->name()), roff(command->summary()));
    pages.push_back(fmt::format(".BR {} (1)", roff("restkv-" + command->name())));
  }
  page += footer(program.footer());
  return page + fmt::format(".SH SEE ALSO\n{}\n", fmt::join(pages, ",\n"));
}

int write_pages(const std::string& folder) {
  refuse_standard_output("DIR", folder);
  ArgumentParser program(kProgram, kDescription);
  const auto actions = declare_all(program);
  require_writable_folder(folder, {"restkv.1"});
  make_folder(folder);
  const auto write = [&](const std::string& name, const std::string& page) {
    write_file_atomically((std::filesystem::path(folder) / (name + ".1")).string(), page);
  };
  write("restkv", program_page(program));
  for (const auto& command : program.commands()) {
    write("restkv-" + command->name(), command_page(*command));
  }
  return kSuccess;
}

}  // namespace

std::function<int()> declare_man(ArgumentParser& parser) {
  auto folder = std::make_shared<std::string>();
  parser.add("folder", *folder, "folder for the pages, restkv.1 and one for each command", "DIR")
      .required();
  parser.set_footer(
      "Examples:\n"
      "  restkv man ~/.local/share/man/man1\n"
      "cmake --install writes them, too.");
  return [folder] { return write_pages(*folder); };
}

}  // namespace restkv::cli
