#include "cli/model_argument.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "base/progress.h"
#include "base/system.h"
#include "cli/process.h"
#include "hub/environment.h"
#include "hub/hub.h"
#include "hub/hub_name.h"
#include "hub/model_store.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

bool looks_like_model(const std::string& word) {
  return word.ends_with(".gguf") || hub::is_hub_name(word) || first_bytes(word, 4) == "GGUF";
}

constexpr const char* kDefaultModel = "RESTKV_MODEL";
constexpr const char* kHelp = "GGUF file, or hf:owner/repository[:Q4_K_M] (default: $RESTKV_MODEL)";
constexpr const char* kValueName = "MODEL";

std::string default_model() {
  const char* value = std::getenv(kDefaultModel);
  return value == nullptr ? "" : value;
}

std::string download(const hub::ModelStore& store, const hub::HubName& name) {
  hub::Hub there({.endpoint = hub::hub_endpoint(), .token = hub::hub_token()});
  std::optional<Progress> progress;  // not drawn where nothing is missing
  const std::string path = store.fetch(
      name, there,
      {.tell = [](const std::string& what) { notice(what); },
       .progress =
           [&](size_t done, size_t all) {
             if (!progress) progress.emplace(stderr, "downloading " + name.text());
             progress->update(static_cast<double>(done) / static_cast<double>(all),
                              fmt::format("{} of {}", human_bytes(static_cast<double>(done)),
                                          human_bytes(static_cast<double>(all))));
           }});
  if (progress) progress->finish();
  return path;
}

/// A file of this name is meant before a model at a hub.
bool is_at_hub(const std::string& model) {
  std::error_code ignored;
  return hub::is_hub_name(model) && !std::filesystem::exists(model, ignored);
}

}  // namespace

Option& declare_model(ArgumentParser& parser, std::string& model, std::string_view names) {
  model = default_model();
  Option& option = parser.add(names, model, kHelp, kValueName);
  if (names == kModelNames) option.first_word("model", looks_like_model);
  return option;
}

void require_model(const std::string& model) {
  if (model.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--model is required: a GGUF file, or a name like hf:owner/repository:Q4_K_M; "
                "RESTKV_MODEL names the one of all commands");
  }
  if (is_at_hub(model)) {
    hub::parse_hub_name(model);
  } else if (std::error_code error;
             model == default_model() && !std::filesystem::exists(model, error)) {
    throw Error(ErrorCode::kInput,
                fmt::format("{} is {}, and there is no such file; correct it, or give --model",
                            kDefaultModel, model));
  }
}

std::string model_file(const std::string& model) {
  require_model(model);
  if (!is_at_hub(model)) return model;
  const hub::HubName name = hub::parse_hub_name(model);
  const hub::ModelStore store(hub::models_folder());
  if (const auto path = store.find(name)) return *path;
  return download(store, name);
}

std::string newest_model_file(const std::string& model) {
  return download(hub::ModelStore(hub::models_folder()), hub::parse_hub_name(model));
}

}  // namespace restkv::cli
