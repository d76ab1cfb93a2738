#include "serving/streams.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/threads.h"
#include "restkv/error.h"

namespace restkv::bench {

std::string to_text(const StreamsJob& job) {
  Json prompts = Json::array();
  for (const auto& prompt : job.prompts) prompts.push_back(prompt);
  return Json::object({{"side", job.side},
                       {"model", job.model},
                       {"rope_scale", job.rope_scale},
                       {"prompts", prompts},
                       {"decode", job.decode},
                       {"budget", job.budget},
                       {"threads", job.threads}})
      .dump();
}

std::string run_streams(std::string_view input) {
  const Json json = parse_json(input);
  StreamsJob job;
  job.side = json.at("side").text();
  job.model = json.at("model").text();
  job.rope_scale = json.at("rope_scale").get<double>();
  for (const Json& prompt : json.at("prompts")) {
    job.prompts.push_back(prompt.get<std::vector<int32_t>>());
  }
  job.decode = json.at("decode").get<size_t>();
  job.budget = json.at("budget").get<int>();
  job.threads = json.at("threads").get<int>();
  set_num_threads(job.threads);
  const StreamsTimes times = job.side.starts_with("llama")
                                 ? llama_streams(job, job.side == "llama-fa")
                                 : restkv_streams(job);
  Json tokens = Json::array();
  for (const auto& client : times.tokens) tokens.push_back(client);
  return Json::object({{"first_tokens", times.first_tokens},
                       {"tokens", tokens},
                       {"resident_bytes", times.resident_bytes}})
      .dump();
}

StreamsTimes parse_streams(std::string_view text) {
  const Json json = parse_json(text);
  StreamsTimes times;
  times.first_tokens = json.at("first_tokens").get<std::vector<double>>();
  for (const Json& client : json.at("tokens")) {
    times.tokens.push_back(client.get<std::vector<double>>());
  }
  times.resident_bytes = json.at("resident_bytes").get<size_t>();
  return times;
}

}  // namespace restkv::bench
