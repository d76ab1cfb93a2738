#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Several clients at once: who gets which token when.
namespace restkv::bench {

/// Clients that send prompts of their own at the same time and read greedy answers.
struct StreamsJob {
  std::string side;  ///< "restkv", "restkv-full", "llama" or "llama-fa" (flash attention).
  std::string model;
  double rope_scale = 1;                      ///< Positions are divided by it.
  std::vector<std::vector<int32_t>> prompts;  ///< One for each client, of one length.
  size_t decode = 64;  ///< Tokens of every client that count: after all clients have begun.
  int budget = 512;    ///< restkv: tokens kept per KV head.
  int threads = 1;
};

/// In seconds since the prompts were sent.
struct StreamsTimes {
  std::vector<double> first_tokens;         ///< One for each client.
  std::vector<std::vector<double>> tokens;  ///< [clients, decode]: when each token came.
  size_t resident_bytes = 0;                ///< Of the process, behind the last of them.
};

/// By restkv's scheduler, as `restkv serve` uses it. Throws `Error`.
StreamsTimes restkv_streams(const StreamsJob& job);

/// By libllama with the loop of llama-server: every step decodes a token of each client that has
/// begun and fills the rest of the batch with tokens of prompts. Each client has a cache of its
/// own in half precision. Throws `Error`.
StreamsTimes llama_streams(const StreamsJob& job, bool flash_attention);

std::string to_text(const StreamsJob& job);
/// Runs what `to_text` says; the result as text for `parse_streams`.
std::string run_streams(std::string_view input);
StreamsTimes parse_streams(std::string_view text);

}  // namespace restkv::bench
