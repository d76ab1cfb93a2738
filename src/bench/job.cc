#include "bench/job.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv::bench {

namespace {

/// A name for JSON, which would replace invalid UTF-8.
std::string_view known(std::string_view name) {
  if (const std::string shown_name = replace_invalid_utf8(name); shown_name != name) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the name {} is not UTF-8, and the process that measures is told names "
                            "in UTF-8 only; rename the file",
                            shown_name));
  }
  return name;
}

}  // namespace

std::string to_text(const Job& job) {
  Json options = Json::object();
  for (const CompressionOption& option : compression_options()) {
    if (!belongs_to(option, job.compression)) continue;
    options[option.name] = known(option.get(job.compression));
  }
  std::string text = Json{{"side", job.side},
                          {"model", known(job.model)},
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
    Job job{.side = json.at("side").text(),
            .model = json.at("model").text(),
            .model_options = {.rope_scaling = json.at("rope_scaling").text(),
                              .rope_factor = json.at("rope_factor").get<double>(),
                              .linear = find_linear_precision(json.at("linear").get<std::string>()),
                              .attention = find_attention_precision(
                                  json.at("attention").get<std::string>())},
            .prompt = {},
            .decode = json.at("decode").get<size_t>(),
            .threads = json.at("threads").get<int>(),
            .compression = default_options(json.at("method").get<std::string>()),
            .kv_type = find_kv_type(json.at("kv_type").get<std::string>()),
            .sparse = json.at("sparse").text(),
            .sparse_recall = json.at("sparse_recall").get<bool>(),
            .synthetic = json.at("synthetic").get<bool>(),
            .tail = json.at("tail").get<size_t>()};
    for (const auto& [name, value] : json.at("options").items()) {
      find_compression_option(name).set(job.compression, value.get<std::string>());
    }
    text.remove_prefix(std::min(end + 1, text.size()));
    job.prompt.resize(text.size() / sizeof(int32_t));
    std::copy_n(text.data(), job.prompt.size() * sizeof(int32_t),
                reinterpret_cast<char*>(job.prompt.data()));
    return job;
  } catch (const Error& e) {
    reason = e.what();
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("standard input describes no measurement ({}); only the program itself "
                          "starts such jobs",
                          reason));
}

namespace {

/// Calls `use` with name and value of each field.
template <class M, class F>
void each_field(M& m, F use) {
  use("compress_seconds", m.compress_seconds);
  use("decode_bytes", m.decode_bytes);
  use("decode_seconds", m.decode_seconds);
  use("decoded", m.decoded);
  use("kv_bytes", m.kv_bytes);
  use("output_factor_seconds", m.output_factor_seconds);
  use("peak_resident_bytes", m.peak_resident_bytes);
  use("prefill_flops", m.prefill_flops);
  use("prefill_seconds", m.prefill_seconds);
  use("sparse_density", m.sparse_density);
  use("sparse_recall", m.sparse_recall);
}

}  // namespace

Json to_json(const Measurement& measurement) {
  Json json = Json::object();
  each_field(measurement, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

Measurement parse_measurement(std::string_view text) {
  const Json json = parse_json(text);
  Measurement measurement;
  each_field(measurement,
             [&](const char* name, auto& value) { value = json.value(name, std::move(value)); });
  return measurement;
}

}  // namespace restkv::bench
