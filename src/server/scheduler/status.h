#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/scheduler/request.h"

/// What a `Scheduler` is doing and has done: for /metrics, /slots and /v1/documents.
namespace restkv::server {

struct DocumentInfo {
  enum class State { kWaiting, kReading, kReady, kFailed };

  DocumentId id;
  State state = State::kWaiting;
  double done = 0;  ///< Share that has been read.
  size_t tokens = 0;
  size_t kept = 0;           ///< Tokens per KV head, on average; once it is ready.
  size_t kv_bytes = 0;       ///< Of the kept rows.
  size_t full_kv_bytes = 0;  ///< Of all tokens, in half precision.
  std::string error = {};    ///< Why it failed.
  bool saved = false;        ///< It is in `SchedulerOptions::cache_dir`, whole.
  SessionOptions session;
  std::string label = {};  ///< As it was given to `add_document`.
};

/// A sequence in memory.
struct SlotInfo {
  enum class State { kReading, kWriting, kKept, kDocument };

  State state = State::kReading;
  RequestId request = 0;  ///< Whose it is, or was; of documents, which read them.
  size_t answer = 0;
  size_t tokens = 0;  ///< Read so far, answers included.
  size_t prompt_tokens = 0;
  std::vector<size_t> kept = {};  ///< Tokens in the cache per layer, on average over its heads.
  size_t kv_bytes = 0;            ///< Of the kept rows.
  size_t full_kv_bytes = 0;       ///< Of all tokens, in half precision.
  std::string method;
  int budget = 0;
};

/// What a sequence still knows of the tokens that it has read.
struct KeptTokens {
  std::vector<int32_t> tokens;  ///< All that it has read, in order.
  /// For each of them, how many heads of layers that see the whole context hold it, 0 to
  /// `layers` x `heads`.
  std::vector<uint32_t> kept;
  size_t layers = 0;  ///< That see the whole context.
  size_t heads = 0;   ///< Of a layer's cache: KV heads, or query heads if each has its own.
};
/// None: there is no such sequence, or nobody knows.
using HearsKept = std::function<void(std::optional<KeptTokens>)>;

/// The folder of `SchedulerOptions::cache_dir`.
struct DiskStatus {
  size_t files = 0;
  size_t bytes = 0;  ///< Of these files.
  // Since the scheduler began:
  uint64_t saved = 0;    ///< Sequences and documents that were written.
  uint64_t hits = 0;     ///< Sequences that were read again.
  uint64_t dropped = 0;  ///< That could not be written: the disk is full, too slow, or fails.
};

struct SchedulerStatus {
  size_t waiting = 0;       ///< Requests in the queue.
  size_t reading = 0;       ///< Prompts under way.
  size_t writing = 0;       ///< Answers that are decoded together.
  size_t memory_limit = 0;  ///< Bytes.
  size_t memory_used = 0;   ///< Promised to requests, or taken by sequences that stay.
  std::vector<SlotInfo> slots;
  DiskStatus disk;

  // Since the scheduler began:
  uint64_t accepted = 0, refused = 0, completed = 0, failed = 0, cancelled = 0;  ///< Requests.
  uint64_t tokens_read = 0;    ///< Prompt tokens that went through the model.
  uint64_t tokens_cached = 0;  ///< Prompt tokens that did not have to.
  uint64_t tokens_generated = 0;
  uint64_t prefix_hits = 0;     ///< Requests that began with an earlier one's cache.
  uint64_t evictions = 0;       ///< Kept sequences that had to go.
  uint64_t decode_steps = 0;    ///< Each one token for up to `Engine::kMaxBatch` answers.
  uint64_t decode_rows = 0;     ///< Tokens of these.
  double prompt_seconds = 0;    ///< Spent on prompts.
  double decode_seconds = 0;    ///< Spent on answers.
  double compress_seconds = 0;  ///< Of both, on cutting caches.
};

}  // namespace restkv::server
