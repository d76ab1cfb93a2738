#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cli/argument_parser.h"
#include "cli/compression_flags.h"
#include "cli/model_flags.h"
#include "restkv/model.h"
#include "restkv/session.h"

namespace restkv::cli {

/// What `run` and `chat` share: how the cache is compressed and stored, when, how far positions
/// reach, and how exactly prompts are computed.
class SessionFlags {
 public:
  /// `interval`: the default of `--decode-interval`. `method`, `form`: as `CompressionFlags`.
  explicit SessionFlags(size_t interval = 0, const std::string& method = "restkv",
                        BudgetForm form = BudgetForm::kChosen)
      : compression_(method, form), interval_(interval) {}
  void declare(ArgumentParser& parser);
  /// As `CompressionFlags::prefer_method`.
  bool prefer_method(const std::string& method) { return compression_.prefer_method(method); }
  /// Throws `Error` (kInvalidArgument) on values and combinations that cannot work.
  [[nodiscard]] SessionOptions session() const;
  /// The same by `kMethodForLaterQuestions`. Nothing: a method was given, or the other options do
  /// not suit this one.
  [[nodiscard]] std::optional<SessionOptions> session_for_later_questions() const;
  [[nodiscard]] ModelOptions model() const { return model_.resolve(); }
  [[nodiscard]] bool measures_recall() const { return sparse_recall_; }
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> files() const {
    return compression_.files();
  }
  [[nodiscard]] bool budget_given() const {
    return compression_.budget() || share() || compression_.chooses();
  }
  [[nodiscard]] std::optional<Budget> share() const { return compression_.share(); }
  /// A session from a file has options of its own: only the budget and the sparse pattern may be
  /// others. Throws `Error` (kInvalidArgument) if anything else was given; before a file is read.
  void check_for_loading() const;
  /// Applies those two.
  void change(Session& loaded) const;

 private:
  [[nodiscard]] SparseOptions sparse() const;

  CompressionFlags compression_;
  std::vector<const Option*> saved_;  ///< Options that snapshots hold.
  std::string kv_type_ = "f16";
  std::string prefill_ = "whole";
  size_t chunk_ = 2048;
  const Option* chunk_option_ = nullptr;
  size_t interval_;
  int decode_budget_ = 0;
  std::string positions_ = "original";
  ModelFlags model_;
  std::string sparse_ = "dense";
  bool sparse_recall_ = false;
};

}  // namespace restkv::cli
