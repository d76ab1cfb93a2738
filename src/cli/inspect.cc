#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/system.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/model_argument.h"
#include "cli/process.h"
#include "engine/snapshot.h"
#include "model/split_name.h"
#include "restkv/budget.h"
#include "restkv/compression_options.h"
#include "restkv/model.h"

namespace restkv::cli {
namespace {

std::string in_billions(size_t count) {
  const double billions = static_cast<double>(count) * 1e-9;
  return fmt::format("{:.{}f} G", billions, billions < 1 ? 3 : 1);
}

std::string describe(const Model& model) {
  const ModelConfig& c = model.config();
  std::string text;
  const auto row = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<20} {}\n", name, value);
  };
  row("file", fmt::format("{} ({})", model.path(), human_bytes(static_cast<double>(c.file_bytes))));
  if (const size_t parts = model_files(model.path()).size(); parts > 1) {
    row("parts", fmt::format("{}, found by their names", parts));
  }
  if (!c.name.empty()) row("name", c.name);
  row("architecture", fmt::format("{}, weights {}", c.architecture, c.weight_types));
  row("parameters",
      in_billions(c.weights) + (c.experts.count > 0 ? fmt::format(", of which a token uses {}",
                                                                  in_billions(c.active_weights))
                                                    : ""));
  row("layers", fmt::format("{}", c.layers));
  if (c.experts.count == 0) {
    row("width", fmt::format("{} (feed-forward {})", c.width, c.ffn_width));
  } else {
    row("width", fmt::format("{} (experts {}{})", c.width, c.experts.width,
                             c.ffn_width > 0 ? fmt::format(", shared {}", c.ffn_width) : ""));
    row("experts", fmt::format("{} in every layer, {} for each token{}", c.experts.count,
                               c.experts.used, c.ffn_width > 0 ? " besides a shared one" : ""));
  }
  row("heads", fmt::format("{} query, {} KV ({}), {} channels each", c.query_heads, c.kv_heads,
                           c.query_heads == c.kv_heads ? "MHA" : "GQA", c.key_dim));
  row("vocabulary", fmt::format("{} tokens", c.vocabulary));
  row("native context", fmt::format("{} tokens", c.context_length));
  if (c.global_layers() < c.layers) {
    row("sliding window", fmt::format("{} tokens in {} of {} layers; budgets apply to the other {}",
                                      *std::max_element(c.windows.begin(), c.windows.end()),
                                      c.layers - c.global_layers(), c.layers, c.global_layers()));
  }
  row("KV per token",
      fmt::format("{} in half precision", human_bytes(static_cast<double>(c.kv_bytes(1)))));
  const auto full = static_cast<double>(c.kv_bytes(c.context_length));
  row("KV of full context", human_bytes(full));
  text += fmt::format("\n{:>8}  {:>12}  {:>22}\n", "budget", "KV cache", "of the full context");
  for (const size_t budget : {64UL, 128UL, 256UL, 512UL, 1024UL, 2048UL, 4096UL}) {
    if (budget >= c.context_length) break;
    const auto bytes = static_cast<double>(c.kv_bytes(c.context_length, budget));
    text += fmt::format("{:>8}  {:>12}  {:>21.1f}%\n", budget, human_bytes(bytes),
                        100.0 * bytes / full);
  }
  return text;
}

/// The beginning of a text on one line.
std::string beginning(const std::string& text) {
  constexpr size_t kMost = 60;
  std::string line = text.substr(0, complete_utf8(std::string_view(text).substr(0, kMost)));
  std::ranges::replace(line, '\n', ' ');
  return line.size() < text.size() ? line + " ..." : line;
}

std::string describe_snapshot(const std::string& path) {
  const SnapshotHead head = read_snapshot_head(path);
  const CompressionOptions& compression = head.options.compression;
  std::string text;
  const auto row = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<20} {}\n", name, value);
  };
  const auto bytes = static_cast<double>(std::filesystem::file_size(path));
  row("file", fmt::format("{} ({}), a saved session", path, human_bytes(bytes)));
  row("model", head.model);
  row("method", compression.method == "full" ? compression.method
                                             : fmt::format("{} (budget {})", compression.method,
                                                           budget_of(compression).text()));
  row("tokens", fmt::format("{} were read, {} per KV head are kept in {}", head.tokens, head.kept,
                            kv_type_name(head.options.kv_type)));
  const Json said = parse_json(head.note.empty() ? "{}" : head.note, path);
  size_t questions = 0;
  std::string last;
  for (const Json& message : said.value("messages", Json::array())) {
    if (message.value("role", "") != "user") continue;
    ++questions;
    last = message.value("content", "");
  }
  if (questions > 0) {
    row("conversation", fmt::format("{} turn{}, the last: {}", questions, questions == 1 ? "" : "s",
                                    beginning(last)));
  }
  const std::string opened = said.value("opened", "");
  if (!opened.empty()) {
    row("document", beginning(opened));
  }
  return text +
         "\nGo on: restkv run -m MODEL --load-cache FILE -p TEXT, or restkv chat "
         "--load-cache FILE.\n";
}

}  // namespace

std::function<int()> declare_inspect(ArgumentParser& parser) {
  auto path = std::make_shared<std::string>();
  declare_model(parser, *path, "-m,--model,model");
  parser.set_footer(
      "Examples:\n"
      "  restkv inspect model.gguf\n"
      "  restkv inspect report.rkv   # what --save-cache wrote");
  return [path] {
    print(is_snapshot(*path) ? describe_snapshot(*path) : describe(Model(model_file(*path))));
    return kSuccess;
  };
}

}  // namespace restkv::cli
