#pragma once

#include <string>

#include "cli/argument_parser.h"
#include "restkv/model.h"

namespace restkv::cli {

inline constexpr const char* kLinearHelp =
    "precision in which prompts are multiplied with weights; auto: bf16 with AMX, int8 with AVX2, "
    "otherwise f32";

inline constexpr const char* kAttentionHelp =
    "precision in which prompts attend; auto: int8 with AVX2, otherwise f32";

/// `--rope-scaling`, `--rope-scale`, `--linear` and `--attention`: how far a model's positions
/// reach, and how exactly it computes prompts.
class ModelFlags {
 public:
  void declare(ArgumentParser& parser);
  /// Throws `Error` (kInvalidArgument) on values and combinations that cannot work.
  [[nodiscard]] ModelOptions resolve() const;
  /// Whether a precision is asked for.
  [[nodiscard]] bool precision_given() const { return linear_ != "auto" || attention_ != "auto"; }

 private:
  std::string rope_scaling_;
  double rope_scale_ = 1;
  std::string linear_ = "auto";
  std::string attention_ = "auto";
};

}  // namespace restkv::cli
