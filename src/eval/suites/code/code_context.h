#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "eval/suites/code/code_problem.h"
#include "restkv/tokenizer.h"

/// Long contexts of code: whole files under a line "# file: NAME", as an editor might send them.
namespace restkv::eval {

struct CodeFile {
  std::string name;
  std::string text;
  std::string origin;  ///< The record of the file: "lcc/3", "HumanEval/12".

  /// The name for Python's import, "" if it is a file of another language.
  [[nodiscard]] std::string module() const;
};

/// The heading of a file in a context.
std::string file_heading(std::string_view name);

/// The context of a LongBench record as a file; `origin` is "SET/NUMBER". LongBench does not name
/// the language, so the file extension is a guess.
CodeFile longbench_file(std::string origin, std::string text);

/// Files for contexts.
class CodeFiles {
 public:
  /// Adds prompt and solution, without the test.
  void add_solved(std::span<const CodeProblem> problems);
  void add(CodeFile file) { files_.push_back(std::move(file)); }

  [[nodiscard]] std::span<const CodeFile> files() const { return files_; }

  struct Request {
    size_t limit = 0;  ///< Tokens of the whole prompt.
    /// The prompt with a context in it, to be counted.
    std::function<std::string(const std::string& context)> prompt;
    std::function<bool(const CodeFile&)> leave_out;
  };
  struct Choice {
    std::vector<const CodeFile*> files;
    size_t tokens = 0;      ///< Of the files, counted separately.
    bool all_used = false;  ///< All files together are shorter than the limit.
  };
  /// Files in random order, without those to be left out, up to the first one with which the prompt
  /// would exceed the limit. With the same random numbers, a larger limit extends the choice of a
  /// smaller one.
  [[nodiscard]] Choice choose(const Request& request, const Tokenizer& tokenizer,
                              Random& random) const;

 private:
  std::vector<CodeFile> files_;
};

/// The text of chosen files, each under its heading and ended by a newline.
std::string context_text(std::span<const CodeFile* const> files);

/// Whether a file must not be in the context of a problem: it is the problem's solution, or defines
/// its function.
bool gives_away(const CodeFile& file, const CodeProblem& problem);

}  // namespace restkv::eval
