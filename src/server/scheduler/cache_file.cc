#include "server/scheduler/cache_file.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "engine/snapshot.h"
#include "restkv/error.h"
#include "restkv/sparse.h"
#include "server/scheduler/session_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv::server {
namespace {

constexpr std::string_view kSequence = "restkv-sequence-";
constexpr std::string_view kDocument = "restkv-document-";
constexpr std::string_view kEnd = ".snapshot";
constexpr std::string_view kNoteMagic = "rkv-serv";
constexpr uint32_t kNoteVersion = 1;
constexpr size_t kHashDigits = 16;
constexpr size_t kMostNameBytes = 200;

bool take(std::string_view& text, std::string_view beginning) {
  if (!text.starts_with(beginning)) return false;
  text.remove_prefix(beginning.size());
  return true;
}

/// A number at the beginning of `text`, of so many digits or, if 0, of any number of them.
template <class Integer>
bool take_number(std::string_view& text, Integer& number, int base, size_t digits) {
  const std::string_view part = digits > 0 ? text.substr(0, digits) : text;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number, base);
  const auto used = static_cast<size_t>(end - part.data());
  if (error != std::errc() || (digits > 0 && used != digits)) return false;
  text.remove_prefix(used);
  return true;
}

bool is_document_id(std::string_view id) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
  return !id.empty() && id.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string write_note(const CacheNote& note) {
  std::string bytes;
  ByteWriter out([&](std::string_view part) { bytes += part; });
  bytes += kNoteMagic;
  out.number(kNoteVersion);
  out.text(note.key);
  out.text(note.sparse);
  out.text(note.document);
  out.text(note.label);
  out.array(std::span(note.tokens));
  out.number<uint64_t>(note.kept);
  out.number<uint64_t>(note.kv_bytes);
  return bytes;
}

CacheNote read_note(const std::string& path, std::string_view bytes, const CacheFileName& name) {
  if (!take(bytes, kNoteMagic)) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: is a snapshot, but none that a server has written", path));
  }
  ByteReader in(path, bytes);
  const auto version = in.number<uint32_t>();
  if (version != kNoteVersion) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: has format {} of a server's sequences; this one reads format {}",
                            path, version, kNoteVersion));
  }
  CacheNote note;
  note.key = in.text();
  note.sparse = in.text();
  note.document = in.text();
  note.label = in.text();
  in.array(note.tokens);
  note.kept = in.number<uint64_t>();
  note.kv_bytes = in.number<uint64_t>();
  in.expect(in.at_end(), "its note has bytes after its end");
  bool fits = note.document == name.document;
  if (name.document.empty()) {
    PrefixHashes hashes(note.tokens);
    fits = fits && hash_of(note.key) == name.key && note.tokens.size() == name.tokens &&
           hashes.of(note.tokens.size()) == name.content;
  }
  in.expect(fits, "it is not what its name says");
  return note;
}

/// The options of a snapshot with those that it leaves out.
void complete(const std::string& path, SessionOptions& options, const CacheNote& note) {
  try {
    options.sparse = parse_sparse(note.sparse);
  } catch (const Error& error) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: {}", path, error.what()));
  }
  // Options that an older version did not have yet may have got other values.
  if (session_key(options) == note.key) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: was written with the options {}, which this version reads as {}",
                          path, note.key, session_key(options)));
}

}  // namespace

std::string CacheFileName::text() const {
  if (!document.empty()) return fmt::format("{}{:016x}-{}{}", kDocument, model, document, kEnd);
  return fmt::format("{}{:016x}-{:016x}-{}-{:016x}{}", kSequence, model, key, tokens, content,
                     kEnd);
}

std::optional<CacheFileName> CacheFileName::parse(std::string_view name) {
  const std::string_view whole = name;
  if (name.size() > kMostNameBytes || !name.ends_with(kEnd)) return std::nullopt;
  name.remove_suffix(kEnd.size());
  CacheFileName result;
  bool ok = false;
  if (take(name, kDocument)) {
    ok =
        take_number(name, result.model, 16, kHashDigits) && take(name, "-") && is_document_id(name);
    result.document = name;
  } else if (take(name, kSequence)) {
    ok = take_number(name, result.model, 16, kHashDigits) && take(name, "-") &&
         take_number(name, result.key, 16, kHashDigits) && take(name, "-") &&
         take_number(name, result.tokens, 10, 0) && take(name, "-") &&
         take_number(name, result.content, 16, kHashDigits) && name.empty();
  }
  if (!ok || result.text() != whole) return std::nullopt;
  return result;
}

uint64_t hash_of(std::string_view key) { return XXH3_64bits(key.data(), key.size()); }

PrefixHashes::PrefixHashes(std::span<const int32_t> tokens)
    : tokens_(tokens), state_(XXH3_createState()) {
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
}

PrefixHashes::~PrefixHashes() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

uint64_t PrefixHashes::of(size_t count) {
  const std::span<const int32_t> more = tokens_.subspan(added_, count - added_);
  auto* const state = static_cast<XXH3_state_t*>(state_);
  XXH3_64bits_update(state, more.data(), more.size_bytes());
  added_ = count;
  return XXH3_64bits_digest(state);
}

void write_cache_file(const std::string& path, const Session& session, const CacheNote& note) {
  session.save(path, write_note(note));
}

CacheHead read_cache_head(const Model& model, const std::string& path, const CacheFileName& name) {
  SnapshotHead head = read_snapshot_head(model, path);
  CacheHead result{.note = read_note(path, head.note, name), .options = std::move(head.options)};
  complete(path, result.options, result.note);
  return result;
}

Session read_cache_file(const Engine& engine, const std::string& path, const CacheFileName& name,
                        CacheNote& note) {
  std::string text;
  Session session = Session::load(engine, path, &text);
  note = read_note(path, text, name);
  SessionOptions options = session.options();
  complete(path, options, note);
  session.set_sparse(options.sparse);
  if (session.tokens() != note.tokens.size()) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: is damaged: {} tokens are beside a session of {}", path,
                            note.tokens.size(), session.tokens()));
  }
  return session;
}

}  // namespace restkv::server
