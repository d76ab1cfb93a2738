#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/system.h"
#include "cli/command.h"
#include "cli/model_argument.h"
#include "cli/process.h"
#include "hub/environment.h"
#include "hub/hub_name.h"
#include "hub/model_store.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

struct ModelsFlags {
  std::string action = "list";
  std::vector<std::string> names;
};

std::string size_text(size_t bytes) { return human_bytes(static_cast<double>(bytes)); }

int list(const hub::ModelStore& store) {
  const std::vector<hub::StoredModel> models = store.list();
  size_t widest = 0;
  size_t bytes = 0;
  for (const hub::StoredModel& model : models) {
    widest = std::max(widest, model.name.text().size());
    bytes += model.bytes;
  }
  for (const hub::StoredModel& model : models) {
    print(fmt::format("{:<{}}  {:>10}{}\n", model.name.text(), widest, size_text(model.bytes),
                      model.complete ? "" : "  (unfinished)"));
  }
  say(models.empty() ? fmt::format("no models in {}", store.folder().string())
                     : fmt::format("{} in {}", size_text(bytes), store.folder().string()));
  return kSuccess;
}

int get(const std::vector<hub::HubName>& names) {
  for (const hub::HubName& name : names) print(newest_model_file(name.text()) + "\n");
  return kSuccess;
}

int remove(const hub::ModelStore& store, const std::vector<hub::HubName>& names) {
  for (const hub::HubName& name : names) {
    for (const hub::StoredModel& model : store.remove(name)) {
      say(fmt::format("removed {} ({})", model.name.text(), size_text(model.bytes)));
    }
  }
  return kSuccess;
}

int run(const ModelsFlags& flags) {
  if (flags.action == "list" && !flags.names.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "list takes no names; it shows all models");
  }
  if (flags.action != "list" && flags.names.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} needs a name like hf:owner/repository:Q4_K_M", flags.action));
  }
  std::vector<hub::HubName> names;  // all are read before anything is done
  for (const std::string& name : flags.names) names.push_back(hub::parse_hub_name(name));
  const hub::ModelStore store(hub::models_folder());
  if (flags.action == "get") return get(names);
  if (flags.action == "remove") return remove(store, names);
  return list(store);
}

}  // namespace

std::function<int()> declare_models(ArgumentParser& parser) {
  auto flags = std::make_shared<ModelsFlags>();
  parser
      .add("action", flags->action,
           "list what is here; get what a hub has, in its newest version, and print its path; "
           "remove",
           "list|get|remove")
      .choices({"list", "get", "remove"});
  parser.add_repeated("names", flags->names,
                      "hf:owner/repository, with :Q4_K_M or :model.gguf behind it for one model",
                      "NAME...");
  parser.set_footer(
      "Models are kept in RESTKV_MODELS, or ~/.cache/restkv/models. HF_TOKEN is a token for "
      "models\n"
      "that need permission, HF_ENDPOINT another hub than https://huggingface.co.\n"
      "Examples:\n"
      "  restkv models get hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M\n"
      "  restkv run -m hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M -p 'Hello'\n"
      "  restkv models\n"
      "  restkv models remove hf:bartowski/Llama-3.2-1B-Instruct-GGUF");
  return [flags] { return run(*flags); };
}

}  // namespace restkv::cli
