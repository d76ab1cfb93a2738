#include "server/service/metrics.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace restkv::server {
namespace {

class Metrics {
 public:
  void counter(std::string_view name, std::string_view help, double value) {
    add(name, help, "counter", value);
  }
  void gauge(std::string_view name, std::string_view help, double value) {
    add(name, help, "gauge", value);
  }
  [[nodiscard]] std::string text() && { return std::move(text_); }

 private:
  void add(std::string_view name, std::string_view help, std::string_view type, double value) {
    fmt::format_to(std::back_inserter(text_),
                   "# HELP restkv_{0} {1}\n# TYPE restkv_{0} {2}\n"
                   "restkv_{0} {3}\n",
                   name, help, type, value);
  }
  std::string text_;
};

double of(uint64_t count) { return static_cast<double>(count); }

}  // namespace

std::string metrics_text(const SchedulerStatus& s) {
  uint64_t kept_bytes = 0;
  uint64_t full_bytes = 0;
  for (const SlotInfo& slot : s.slots) {
    kept_bytes += slot.kv_bytes;
    full_bytes += slot.full_kv_bytes;
  }
  Metrics m;
  m.gauge("requests_waiting", "Requests in the queue.", of(s.waiting));
  m.gauge("prompts_reading", "Prompts under way.", of(s.reading));
  m.gauge("answers_writing", "Answers that are decoded together.", of(s.writing));
  m.gauge("sequences", "Sequences in memory, documents among them.", of(s.slots.size()));
  m.gauge("memory_limit_bytes", "Memory for caches and prompts.", of(s.memory_limit));
  m.gauge("memory_used_bytes", "Memory that is promised or taken.", of(s.memory_used));
  m.gauge("kv_kept_bytes", "Keys and values in memory.", of(kept_bytes));
  m.gauge("kv_full_bytes", "What they would take uncut in half precision.", of(full_bytes));
  m.counter("requests_accepted_total", "Requests accepted.", of(s.accepted));
  m.counter("requests_refused_total", "Requests refused.", of(s.refused));
  m.counter("requests_completed_total", "Requests answered.", of(s.completed));
  m.counter("requests_failed_total", "Requests that failed.", of(s.failed));
  m.counter("requests_cancelled_total", "Requests that were given up.", of(s.cancelled));
  m.counter("prompt_tokens_total", "Prompt tokens read.", of(s.tokens_read));
  m.counter("prompt_tokens_cached_total", "Prompt tokens that were in a cache.",
            of(s.tokens_cached));
  m.counter("tokens_generated_total", "Tokens generated.", of(s.tokens_generated));
  m.counter("prefix_hits_total", "Requests that began with an earlier one's cache.",
            of(s.prefix_hits));
  m.counter("evictions_total", "Kept sequences that had to leave memory.", of(s.evictions));
  m.counter("decode_steps_total", "Decoding steps.", of(s.decode_steps));
  m.counter("decode_rows_total", "Tokens of decoding steps; divided by steps: the batch size.",
            of(s.decode_rows));
  m.counter("prompt_seconds_total", "Seconds spent on prompts.", s.prompt_seconds);
  m.counter("decode_seconds_total", "Seconds spent on answers.", s.decode_seconds);
  m.counter("compress_seconds_total", "Seconds of these spent on cutting caches.",
            s.compress_seconds);
  m.gauge("disk_files", "Files in the folder for caches.", of(s.disk.files));
  m.gauge("disk_bytes", "Bytes of these files.", of(s.disk.bytes));
  m.counter("disk_saved_total", "Sequences and documents written.", of(s.disk.saved));
  m.counter("disk_hits_total", "Sequences read again.", of(s.disk.hits));
  m.counter("disk_dropped_total", "Sequences and documents that could not be written.",
            of(s.disk.dropped));
  return std::move(m).text();
}

}  // namespace restkv::server
