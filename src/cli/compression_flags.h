#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/argument_parser.h"
#include "restkv/budget.h"
#include "restkv/compress.h"

namespace restkv::cli {

/// What `--budget` may be besides a number.
enum class BudgetForm {
  kNumber,  ///< Nothing.
  kChosen,  ///< "auto": every layer chooses.
  kAny,     ///< That, or a share of a prompt.
};

/// `--tolerance` and `--max-budget`, which say more of `--budget auto`.
class ChosenBudgetFlags {
 public:
  void declare(ArgumentParser& parser);
  /// What `parse_budget` makes of the text, with these. Throws `Error` (kInvalidArgument) also for
  /// what the text says already.
  [[nodiscard]] Budget parse(std::string_view text) const;
  /// Throws `Error` (kInvalidArgument) if one was given, since no budget is "auto".
  void refuse() const;

 private:
  std::string tolerance_;
  int max_budget_ = 0;
};

/// The default of `--method` for texts that are compressed before anything is asked about them: it
/// keeps what the model needs to say all of them again.
inline constexpr const char* kMethodForLaterQuestions = "kvzip";

/// `--method`, `--preset` and one flag per compression option (`--drift-scale` for `drift_scale`).
/// What is not given has the value of the preset.
class CompressionFlags {
 public:
  /// `method`: the default of `--method`.
  explicit CompressionFlags(std::string method = "restkv", BudgetForm form = BudgetForm::kChosen)
      : method_(std::move(method)), form_(form) {}
  void declare(ArgumentParser& parser);
  /// Makes another method the default of `--method`; false: one was given.
  bool prefer_method(const std::string& method);
  /// The method's defaults with the given flags applied. Throws `Error` (kInvalidArgument) also for
  /// a flag that the method would ignore.
  [[nodiscard]] CompressionOptions resolve() const;
  /// Whether a compression option ("allocation") was given.
  [[nodiscard]] bool gives(const std::string& option) const { return values_.contains(option); }
  /// `--budget`, if it was given as a number.
  [[nodiscard]] std::optional<int> budget() const;
  /// `--budget`, if it was given as a share: `resolve` leaves it out, since it does not know the
  /// prompt.
  [[nodiscard]] std::optional<Budget> share() const;
  /// Whether `--budget` is "auto".
  [[nodiscard]] bool chooses() const;
  /// Flags that name a file to be read, and the files.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> files() const;

 private:
  std::string method_;
  const Option* method_option_ = nullptr;
  BudgetForm form_;
  ChosenBudgetFlags chosen_;
  std::map<std::string, std::string> values_;  // option name -> text from the command line
};

/// What `parse_compression` makes of "snapkv:kernel=21", saying its notices. Throws as that does,
/// also for a budget.
CompressionOptions parse_method(std::string_view text);

/// Refuses `--budget` where all methods are `full`, which has none. Throws `Error`
/// (kInvalidArgument).
void require_use_for_budget(const std::vector<std::string>& methods);

}  // namespace restkv::cli
