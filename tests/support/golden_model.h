#pragma once

#include <optional>
#include <string>

#include "restkv/model.h"
#include "support/golden.h"
#include "support/llama_checkpoint.h"
#include "support/tiny_model.h"

namespace restkv::testing {

/// The reference's model as a GGUF file.
class GoldenModel {
 public:
  explicit GoldenModel(const GoldenCase& golden) {
    const std::string gguf = folder_.file("golden.gguf");
    write_checkpoint_as_gguf(golden.input("config.json"), golden.input(".safetensors"), gguf);
    model_.emplace(gguf);
  }
  [[nodiscard]] const Model& operator*() const { return *model_; }

 private:
  TemporaryFolder folder_;
  std::optional<Model> model_;
};

}  // namespace restkv::testing
