#include "cli/model_flags.h"

#include <fmt/format.h>

#include "restkv/error.h"

namespace restkv::cli {

void ModelFlags::declare(ArgumentParser& parser) {
  parser.add("--rope-scaling", rope_scaling_, "stretch the model's context", "linear|ntk|yarn")
      .rare();
  parser.add("--rope-scale", rope_scale_, "so many times", "X").rare();
  parser.add("--linear", linear_, kLinearHelp, "f32|bf16|int8|auto").rare();
  parser.add("--attention", attention_, kAttentionHelp, "f32|bf16|int8|auto").rare();
}

ModelOptions ModelFlags::resolve() const {
  if (rope_scaling_.empty() && rope_scale_ != 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "--rope-scale needs --rope-scaling linear, ntk or yarn");
  }
  if (!rope_scaling_.empty() && rope_scale_ == 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--rope-scaling {} needs --rope-scale X, how many times the context is "
                            "stretched; X is above 1",
                            rope_scaling_));
  }
  return {.rope_scaling = rope_scaling_,
          .rope_factor = rope_scale_,
          .linear = find_linear_precision(linear_),
          .attention = find_attention_precision(attention_)};
}

}  // namespace restkv::cli
