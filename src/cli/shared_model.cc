#include "cli/shared_model.h"

#include <fmt/format.h>

#include <exception>
#include <optional>

#include "cli/model_argument.h"
#include "cli/process.h"
#include "cluster/cluster.h"
#include "engine/follow.h"
#include "restkv/engine.h"
#include "restkv/error.h"

namespace restkv::cli {

void require_one_process(const Communicator& all, const std::string& what) {
  if (all.size() == 1) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{} is for one process, and {} were started; start it without mpirun",
                          what, all.size()));
}

std::unique_ptr<Model> open_model(Communicator& all, const std::string& model,
                                  const ModelOptions& options) {
  std::unique_ptr<Model> opened;
  std::optional<Error> failure;
  std::string identity;
  try {
    ModelOptions of_all = options;
    if (all.size() > 1) of_all.communicator = &all;
    opened = std::make_unique<Model>(model_file(model), of_all);
    identity = fmt::format("restkv " RESTKV_VERSION " with model {:016x}, prompts in {} and {}",
                           opened->config().fingerprint, linear_precision_name(options.linear),
                           attention_precision_name(options.attention));
  } catch (const Error& e) {
    failure = e;
  }
  meet(all, identity, failure);
  return opened;
}

Leading::~Leading() {
  if (std::uncaught_exceptions() == 0) lead(model_, SessionCall::kStop, 0);
}

int follow_rank_0(Communicator& all, const std::string& model, const ModelOptions& options) {
  const std::unique_ptr<Model> own = open_model(all, model, options);
  follow(Engine(*own));
  return kSuccess;
}

}  // namespace restkv::cli
