#include "server/scheduler/session_key.h"

#include <fmt/format.h>

#include "restkv/compression_options.h"
#include "restkv/kv_cache.h"
#include "restkv/sparse.h"

namespace restkv::server {

std::string session_key(const SessionOptions& options) {
  std::string key = options.compression.method;
  for (const CompressionOption& option : compression_options()) {
    if (!belongs_to(option, options.compression)) continue;
    key += fmt::format(":{}={}", option.name, option.get(options.compression));
  }
  return key + fmt::format(" kv_type={} chunk={} interval={} decode_budget={} compact={} sparse={}",
                           kv_type_name(options.kv_type), options.chunk, options.interval,
                           options.decode_budget, options.compact_positions,
                           describe_sparse(options.sparse));
}

}  // namespace restkv::server
