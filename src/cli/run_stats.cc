#include "cli/run_stats.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/system.h"

namespace restkv::cli {
namespace {

/// A share of all tiles or attention, and those of the layers that have least and most of it.
std::string share_text(const SparseReport& sparse, double (SparseReport::Head::*share)() const) {
  const auto percent = [&](const SparseReport::Head& counts) { return 100 * (counts.*share)(); };
  if (sparse.total().visible_tiles == 0) return "100.0% (no layer was sparse)";
  std::vector<std::pair<double, size_t>> layers;  // those that did not stay dense
  for (size_t layer = 0; layer < sparse.layers; ++layer) {
    if (sparse.layer(layer).visible_tiles > 0) {
      layers.emplace_back(percent(sparse.layer(layer)), layer);
    }
  }
  const auto [least, most] = std::ranges::minmax(layers);
  return fmt::format("{:.1f}% (layer {}: {:.1f}%, layer {}: {:.1f}%)", percent(sparse.total()),
                     least.second, least.first, most.second, most.first);
}

Json sparse_json(const SparseOptions& options, const SparseReport& sparse) {
  if (options.pattern == "dense") return "dense";
  const auto heads = [&](double (SparseReport::Head::*share)() const) {
    Json table = Json::array();
    for (size_t layer = 0; layer < sparse.layers; ++layer) {
      std::vector<double> row;
      for (size_t h = 0; h < sparse.query_heads; ++h) {
        row.push_back((sparse.head(layer, h).*share)());
      }
      table.push_back(row);
    }
    return table;
  };
  Json json{{"pattern", describe_sparse(options)},
            {"attention_seconds", sparse.attention_seconds},
            {"search_seconds", sparse.search_seconds},
            {"density", sparse.total().density()},
            {"density_of_layers_and_heads", heads(&SparseReport::Head::density)}};
  if (options.measure_recall) {
    json["recall_seconds"] = sparse.recall_seconds;
    json["recall"] = sparse.total().recall();
    json["recall_of_layers_and_heads"] = heads(&SparseReport::Head::recall);
  }
  return json;
}

}  // namespace

std::string kept_text(const std::vector<std::optional<double>>& layers) {
  double sum = 0;
  std::vector<std::string> each;
  for (const std::optional<double>& kept : layers) {
    if (!kept) continue;
    sum += *kept;
    each.push_back(fmt::format("{:.0f}", *kept));
  }
  if (each.empty()) return "none (all layers keep their window)";
  return fmt::format("{:.0f}; layer by layer {}", sum / static_cast<double>(each.size()),
                     fmt::join(each, " "));
}

std::string RunStats::text() const {
  std::string text;
  const auto row = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<22} {}\n", name, value);
  };
  const auto bytes = [](size_t count) { return human_bytes(static_cast<double>(count)); };
  row("method", method == "full" ? method : fmt::format("{} (budget {})", method, budget.text()));
  if (window_layers > 0) {
    row("sliding windows", fmt::format("{} of {} layers keep theirs; the budget is for the others",
                                       window_layers, layers));
  }
  row("prompt tokens", fmt::format("{}", prompt_tokens));
  row("model loaded in", fmt::format("{:.3f} s", load_seconds));
  if (cached_tokens > 0) {
    row("cache loaded in",
        fmt::format("{:.3f} s ({} tokens were read before)", cache_load_seconds, cached_tokens));
  }
  if (prefill_seconds > 0) {  // otherwise the prompt was not read to its end
    row("time to first token",
        fmt::format("{:.3f} s ({:.0f} tokens/s; compression {:.3f} s)", prefill_seconds,
                    prefill_tokens_per_second(), compress_seconds));
    if (sparse_options.pattern != "dense") {
      row("sparse prefill", describe_sparse(sparse_options));
      row("  attention", fmt::format("{:.3f} s, and {:.3f} s to choose its tiles",
                                     sparse.attention_seconds, sparse.search_seconds));
      row("  density", share_text(sparse, &SparseReport::Head::density));
      if (sparse_options.measure_recall) {
        row("  recall", share_text(sparse, &SparseReport::Head::recall));
        row("  recall measured in", fmt::format("{:.3f} s", sparse.recall_seconds));
      }
    }
    row("generated tokens",
        fmt::format("{} ({:.1f} tokens/s)", generated_tokens, decode_tokens_per_second));
    row("KV cache kept",
        fmt::format(
            "{} in {} of {} in f16 ({:.1f}%)", bytes(kv_bytes_kept), kv_type, bytes(kv_bytes_full),
            100.0 * static_cast<double>(kv_bytes_kept) / static_cast<double>(kv_bytes_full)));
    if (budget.tolerance > 0) row("tokens per KV head", kept_text(kept_of_layers));
    if (generated_tokens > 0) {
      row("KV cache at the end",
          fmt::format("{}, {:.0f} tokens per KV head{}", bytes(kv_bytes_at_end), kept_at_end,
                      cuts > 0 ? fmt::format("; cut {} time{} while the answer was written", cuts,
                                             cuts == 1 ? "" : "s")
                               : ""));
    }
  }
  row("peak resident memory", bytes(peak_resident_bytes()));
  if (interrupted) text += "interrupted; figures up to there\n";
  text.pop_back();
  return text;
}

std::string RunStats::json() const {
  Json kept = Json::array();
  for (const std::optional<double>& layer : kept_of_layers) {
    kept.push_back(layer ? Json(*layer) : Json(nullptr));
  }
  return Json{{"version", RESTKV_VERSION},
              {"model", model},
              {"model_name", model_name},
              {"method", method},
              {"budget", budget.tolerance > 0 ? Json(budget.text()) : Json(budget.tokens)},
              {"kept_of_layers", kept},
              {"kv_type", kv_type},
              {"layers", layers},
              {"window_layers", window_layers},
              {"prompt_tokens", prompt_tokens},
              {"cached_tokens", cached_tokens},
              {"load_seconds", load_seconds},
              {"cache_load_seconds", cache_load_seconds},
              {"time_to_first_token_seconds", prefill_seconds},
              {"prefill_tokens_per_second", prefill_tokens_per_second()},
              {"compress_seconds", compress_seconds},
              {"sparse", sparse_json(sparse_options, sparse)},
              {"generated_tokens", generated_tokens},
              {"finish_reason", finish_reason ? Json(*finish_reason) : Json(nullptr)},
              {"answer", answer},
              {"logprobs", logprobs ? *logprobs : Json(nullptr)},
              {"temperature", sampling.temperature},
              {"top_k", sampling.top_k},
              {"top_p", sampling.top_p},
              {"min_p", sampling.min_p},
              {"repeat_last_n", sampling.repeat_last_n},
              {"repeat_penalty", sampling.repeat_penalty},
              {"presence_penalty", sampling.presence_penalty},
              {"frequency_penalty", sampling.frequency_penalty},
              {"seed", sampling.seed},
              {"decode_tokens_per_second", decode_tokens_per_second},
              {"kv_bytes_full", kv_bytes_full},
              {"kv_bytes_kept", kv_bytes_kept},
              {"kv_bytes_at_end", kv_bytes_at_end},
              {"kept_at_end", kept_at_end},
              {"cuts", cuts},
              {"peak_resident_bytes", peak_resident_bytes()},
              {"interrupted", interrupted}}
             .dump(2) +
         "\n";
}

}  // namespace restkv::cli
