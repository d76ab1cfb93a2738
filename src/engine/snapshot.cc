#include "engine/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv {
namespace {

constexpr std::string_view kMagic = "rkv-snap";
constexpr uint32_t kVersion = 5;
constexpr uint32_t kOldestVersion = 2;
constexpr size_t kHeaderBytes = 32;
constexpr size_t kChecksumBytes = sizeof(uint64_t);

class Hash {
 public:
  Hash() { XXH3_64bits_reset(state_.get()); }
  void add(std::string_view bytes) { XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()); }
  [[nodiscard]] uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

void write_options(const SessionOptions& options, ByteWriter& out) {
  // Stored by name, because later versions may have more of them.
  out.text(options.compression.method);
  const auto belongs = [&](const CompressionOption& o) {
    return belongs_to(o, options.compression);
  };
  out.number<uint64_t>(std::ranges::count_if(compression_options(), belongs));
  for (const CompressionOption& option : compression_options()) {
    if (!belongs(option)) continue;
    out.text(option.name);
    out.text(option.get(options.compression));
  }
  out.text(kv_type_name(options.kv_type));
  out.number<uint64_t>(options.chunk);
  out.number<uint64_t>(options.interval);
  out.number<int32_t>(options.decode_budget);
  out.number<uint8_t>(options.compact_positions ? 1 : 0);
}

SessionOptions read_options(ByteReader& in) {
  SessionOptions options;
  try {
    options.compression = default_options(in.text());
    const auto count = in.number<uint64_t>();
    for (uint64_t i = 0; i < count; ++i) {
      const CompressionOption& option = find_compression_option(in.text());
      const std::string value = in.text();
      // Earlier versions also wrote options of other methods.
      if (belongs_to(option, options.compression)) option.set(options.compression, value);
    }
    validate(options.compression);
    options.kv_type = find_kv_type(in.text());
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
    in.fail(e.what());
  }
  options.chunk = in.number<uint64_t>();
  options.interval = in.number<uint64_t>();
  options.decode_budget = in.number<int32_t>();
  options.compact_positions = in.number<uint8_t>() != 0;
  return options;
}

void write_repeat(const std::optional<RepeatPrompt>& repeat, ByteWriter& out) {
  out.number<uint8_t>(repeat ? 1 : 0);
  if (!repeat) return;
  for (const auto* tokens : {&repeat->first, &repeat->later, &repeat->answer, &repeat->prefix}) {
    out.array(std::span<const int32_t>(*tokens));
  }
}

std::optional<RepeatPrompt> read_repeat(ByteReader& in) {
  if (in.number<uint8_t>() == 0) return std::nullopt;
  RepeatPrompt repeat;
  for (auto* tokens : {&repeat.first, &repeat.later, &repeat.answer, &repeat.prefix}) {
    in.array(*tokens);
  }
  return repeat;
}

void write_body(const Model& model, const Sequence& sequence, std::string_view note,
                ByteWriter& out) {
  out.text(model.description());
  out.text(note);
  write_options(sequence.options, out);
  out.number<uint64_t>(sequence.tokens);
  out.number<uint64_t>(sequence.cached_tokens);
  out.number<double>(sequence.compress_seconds);
  out.array(std::span(sequence.logits));
  sequence.cache.save(out);
  for (const LayerState& layer : sequence.layers) layer.save(out);
  // Since format 4:
  write_repeat(sequence.options.repeat, out);
  for (const LayerState& layer : sequence.layers) layer.save_watched(out);
  // Since format 5:
  out.number<uint64_t>(sequence.cut_at);
  sequence.cache.save_biases(out);
}

size_t longest_head(const KvCache& cache, size_t layer) {
  size_t rows = 0;
  for (const CachedHead& head : cache.heads(layer)) rows = std::max(rows, head.count);
  return rows;
}

/// Throws unless positions and numbers of rows are possible in a session of this model.
void check_cache(const ModelConfig& c, const Sequence& sequence, const ByteReader& in) {
  const KvCache& cache = sequence.cache;
  in.expect(sequence.options.compact_positions ? cache.next_position <= sequence.tokens
                                               : cache.next_position == sequence.tokens,
            "its counts of tokens contradict each other");
  in.expect(cache.next_position <= c.context_length, "its positions exceed the model's context");
  size_t longest = 0;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const size_t window = c.windows[layer];
    const size_t heads = cache.heads(layer).size();
    in.expect(cache.row_limit(layer) == (heads > 0 ? window : 0), "a layer has a foreign window");
    in.expect(sequence.tokens == 0
                  ? heads == 0
                  : heads == c.kv_heads || (window == 0 && heads == c.query_heads &&
                                            sequence.options.compression.per_query_head),
              "a layer has heads that the model does not have");
    if (window == 0) longest = std::max(longest, longest_head(cache, layer));
    for (size_t h = 0; h < heads; ++h) {
      const std::span<const int32_t> positions = cache.positions(layer, h);
      // A window ends with the last token. It has separate positions, which may be larger than
      // those of other layers.
      const size_t end = positions.empty() ? 0 : static_cast<size_t>(positions.back()) + 1;
      const bool own_numbers = window > 0 && sequence.options.compact_positions;
      in.expect(end <= (own_numbers ? c.context_length + window : cache.next_position),
                "a row has an impossible position");
      in.expect(window == 0 || (end > 0 && end == positions.size() + positions.front() &&
                                (own_numbers || end == cache.next_position) &&
                                std::ranges::equal(positions, cache.positions(layer, 0))),
                "a window has gaps");
    }
  }
  in.expect(sequence.cached_tokens <= (c.global_layers() > 0 ? longest : sequence.tokens),
            "it counts more tokens per head than there are");
}

Snapshot read_body(const Model& model, ByteReader& in, uint32_t version) {
  const ModelConfig& c = model.config();
  Snapshot snapshot;
  snapshot.note = in.text();
  Sequence& sequence = snapshot.sequence;
  sequence.options = read_options(in);
  sequence.tokens = in.number<uint64_t>();
  sequence.cached_tokens = in.number<uint64_t>();
  sequence.compress_seconds = in.number<double>();
  in.array(sequence.logits);
  in.expect(sequence.logits.size() == (sequence.tokens > 0 ? c.vocabulary : 0) &&
                std::ranges::all_of(sequence.logits, [](float x) { return std::isfinite(x); }),
            "its last logits are none");
  KvCache& cache = sequence.cache;
  cache = KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, sequence.options.kv_type);
  cache.load(in);
  check_cache(c, sequence, in);
  sequence.layers.resize(c.layers);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    sequence.layers[layer].load(in, c, longest_head(cache, layer), version);
  }
  if (version >= 4) {
    sequence.options.repeat = read_repeat(in);
    for (size_t layer = 0; layer < c.layers; ++layer) {
      sequence.layers[layer].load_watched(in, c, longest_head(cache, layer));
    }
  }
  if (version >= 5) {
    sequence.cut_at = in.number<uint64_t>();
    in.expect(sequence.cut_at <= sequence.tokens, "its last cut is still to come");
    cache.load_biases(in);
  }
  in.expect(in.at_end(), "it has bytes after its end");
  return snapshot;
}

struct Header {
  uint32_t version = 0;
  uint32_t reserved = 0;
  uint64_t made_for = 0;  ///< `ModelConfig::fingerprint`.
  std::string_view body;
};

/// Throws unless it is a snapshot of a known version and not cut off.
Header read_header(const std::string& path, std::string_view bytes) {
  const auto refuse = [&](ErrorCode code, const std::string& why) {
    throw Error(code, fmt::format("{}: {}", path, why));
  };
  if (!bytes.starts_with(kMagic)) refuse(ErrorCode::kInput, "is not a snapshot of a session");
  ByteReader in(path, bytes.substr(kMagic.size(), kHeaderBytes - kMagic.size()));
  Header header;
  header.version = in.number<uint32_t>();
  if (header.version > kVersion) {
    refuse(ErrorCode::kUnsupported,
           fmt::format("has format {}, of a newer version of restkv; this one reads format {}",
                       header.version, kVersion));
  }
  if (header.version < kOldestVersion) {
    refuse(ErrorCode::kUnsupported,
           fmt::format(
               "has format {}, of an older version of restkv, and this one reads formats {} to {}; "
               "read the text again",
               header.version, kOldestVersion, kVersion));
  }
  header.reserved = in.number<uint32_t>();
  const auto expected = in.number<uint64_t>();
  header.made_for = in.number<uint64_t>();
  if (bytes.size() != expected || expected < kHeaderBytes + kChecksumBytes) {
    refuse(ErrorCode::kInput,
           fmt::format("is damaged: it has {} bytes and should have {}; was it copied in full?",
                       bytes.size(), expected));
  }
  header.body = bytes.substr(kHeaderBytes, bytes.size() - kHeaderBytes - kChecksumBytes);
  return header;
}

void require_same_model(const Model& model, const std::string& path, const Header& header,
                        const std::string& description) {
  if (header.made_for == model.config().fingerprint) return;
  const std::string here = model.description();
  throw Error(ErrorCode::kInput,
              fmt::format("{}: belongs to another model: it was made with {}; {} is {}", path,
                          description, model.path(),
                          here == description ? "of the same shape with other weights" : here));
}

}  // namespace

void write_session_options(const SessionOptions& options, ByteWriter& out) {
  write_options(options, out);
  write_repeat(options.repeat, out);
}

SessionOptions read_session_options(ByteReader& in) {
  SessionOptions options = read_options(in);
  options.repeat = read_repeat(in);
  return options;
}

void require_replaceable_by_snapshot(const std::string& path) {
  require_no_zero_byte(path, "the path of the snapshot");
  const std::string begin = first_bytes(path, kMagic.size());
  if (!begin.empty() && begin != kMagic) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("cannot save to {}: it holds something else than a saved session, which "
                    "would be lost; choose another name",
                    path));
  }
}

void save_snapshot(const Model& model, const Sequence& sequence, std::string_view note,
                   const std::string& path) {
  require_replaceable_by_snapshot(path);
  uint64_t bytes = kHeaderBytes + kChecksumBytes;
  ByteWriter counter([&](std::string_view part) { bytes += part.size(); });
  write_body(model, sequence, note, counter);

  AtomicFile file(path, bytes);
  Hash hash;
  ByteWriter out([&](std::string_view part) {
    hash.add(part);
    file.write(part);
  });
  hash.add(kMagic);
  file.write(kMagic);
  out.number(kVersion);
  out.number<uint32_t>(0);
  out.number(bytes);
  out.number(model.config().fingerprint);
  write_body(model, sequence, note, out);
  out.number(hash.value());
  file.commit();
}

namespace {

/// `model`: null for any.
SnapshotHead read_head(const Model* model, const std::string& path) {
  require_no_zero_byte(path, "the path of the snapshot");
  const MappedFile file(path, "snapshot");
  const Header header = read_header(path, file.bytes());
  ByteReader body(path, header.body);
  SnapshotHead head;
  head.model = body.text();
  if (model != nullptr) require_same_model(*model, path, header, head.model);
  head.note = body.text();
  head.options = read_options(body);
  head.tokens = body.number<uint64_t>();
  head.kept = body.number<uint64_t>();
  return head;
}

}  // namespace

bool is_snapshot(const std::string& path) { return first_bytes(path, kMagic.size()) == kMagic; }

SnapshotHead read_snapshot_head(const Model& model, const std::string& path) {
  return read_head(&model, path);
}

SnapshotHead read_snapshot_head(const std::string& path) { return read_head(nullptr, path); }

Snapshot load_snapshot(const Model& model, const std::string& path) {
  require_no_zero_byte(path, "the path of the snapshot");
  const MappedFile file(path, "snapshot");
  const std::string_view bytes = file.bytes();
  const Header header = read_header(path, bytes);
  const std::string_view content = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteReader checksum(path, bytes.substr(content.size()));
  if (XXH3_64bits(content.data(), content.size()) != checksum.number<uint64_t>()) {
    checksum.fail("its checksum does not match its contents");
  }
  checksum.expect(header.reserved == 0, "its header is not one of this format");
  ByteReader body(path, header.body);
  require_same_model(model, path, header, body.text());
  return read_body(model, body, header.version);
}

}  // namespace restkv
