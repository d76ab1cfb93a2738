#pragma once

#include <memory>
#include <string>

#include "model/communicator.h"
#include "restkv/model.h"

/// A model that the processes of one start share: each computes some of its heads.
namespace restkv::cli {

/// Throws `Error` (kUnsupported) for several processes. `what` they cannot share: "restkv chat".
void require_one_process(const Communicator& all, const std::string& what);

/// The model of `model_file`; with several processes, this one's part of it. Throws `Error` as both
/// do; on rank 0 also if another process cannot open the model, or has another version or file.
std::unique_ptr<Model> open_model(Communicator& all, const std::string& model,
                                  const ModelOptions& options);

/// The end of what rank 0 does with a shared model. Other processes wait for it; after an error,
/// they are ended as the process ends.
class Leading {
 public:
  explicit Leading(const Model& model) : model_(model) {}
  ~Leading();
  Leading(const Leading&) = delete;
  Leading& operator=(const Leading&) = delete;

 private:
  const Model& model_;
};

/// What all processes but rank 0 do. Returns their exit code.
int follow_rank_0(Communicator& all, const std::string& model, const ModelOptions& options);

}  // namespace restkv::cli
