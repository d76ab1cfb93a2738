#include "bench/job.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv::bench {

std::string to_text(const Job& job) {
  nlohmann::json options = nlohmann::json::object();
  for (const CompressionOption& option : compression_options()) {
    options[std::string(option.name)] = option.get(job.compression);
  }
  std::string text =
      nlohmann::json{{"side", job.side},
                     {"model", job.model},
                     {"rope_scaling", job.model_options.rope_scaling},
                     {"rope_factor", job.model_options.rope_factor},
                     {"linear", linear_precision_name(job.model_options.linear)},
                     {"attention", attention_precision_name(job.model_options.attention)},
                     {"decode", job.decode},
                     {"threads", job.threads},
                     {"method", job.compression.method},
                     {"options", std::move(options)},
                     {"kv_type", kv_type_name(job.kv_type)},
                     {"sparse", job.sparse},
                     {"sparse_recall", job.sparse_recall},
                     {"synthetic", job.synthetic},
                     {"tail", job.tail}}
          .dump() +
      "\n";
  text.append(reinterpret_cast<const char*>(job.prompt.data()),
              job.prompt.size() * sizeof(int32_t));
  return text;
}

Job parse_job(std::string_view text) {
  std::string reason;
  try {
    const size_t end = std::min(text.find('\n'), text.size());
    const auto json = parse_json(text.substr(0, end));
    Job job{.side = json.at("side"),
            .model = json.at("model"),
            .model_options = {.rope_scaling = json.at("rope_scaling"),
                              .rope_factor = json.at("rope_factor"),
                              .linear = find_linear_precision(json.at("linear").get<std::string>()),
                              .attention = find_attention_precision(
                                  json.at("attention").get<std::string>())},
            .prompt = {},
            .decode = json.at("decode"),
            .threads = json.at("threads"),
            .compression = default_options(json.at("method").get<std::string>()),
            .kv_type = find_kv_type(json.at("kv_type").get<std::string>()),
            .sparse = json.at("sparse"),
            .sparse_recall = json.at("sparse_recall"),
            .synthetic = json.at("synthetic"),
            .tail = json.at("tail")};
    for (const auto& [name, value] : json.at("options").items()) {
      find_compression_option(name).set(job.compression, value.get<std::string>());
    }
    text.remove_prefix(std::min(end + 1, text.size()));
    job.prompt.resize(text.size() / sizeof(int32_t));
    std::copy_n(text.data(), job.prompt.size() * sizeof(int32_t),
                reinterpret_cast<char*>(job.prompt.data()));
    return job;
  } catch (const nlohmann::json::exception& e) {
    reason = e.what();
  } catch (const Error& e) {
    reason = e.what();
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("standard input describes no measurement ({}); this is how the program "
                          "starts itself, leave --job out",
                          reason));
}

}  // namespace restkv::bench
