// The functions of restkv.h. What they have in common: no exception leaves them, and structs may
// come from programs that were compiled with another version.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/caught_error.h"
#include "doors/array_layer.h"
#include "doors/refuse.h"
#include "doors/sequence.h"
#include "doors/settings.h"
#include "restkv.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/precision.h"

using restkv::Error;
using restkv::ErrorCode;
using restkv::doors::refuse;
namespace doors = restkv::doors;

struct restkv_model {
  std::shared_ptr<const doors::LoadedModel> model;
};
struct restkv_sequence {
  std::shared_ptr<doors::Sequence> sequence;
};
struct restkv_factor {
  restkv::OutputFactor factor;
};
struct restkv_selection {
  restkv::Selection selection;
};

namespace {

#define RESTKV_TEXT_OF(x) #x
#define RESTKV_TEXT(x) RESTKV_TEXT_OF(x)
constexpr const char* kVersion = RESTKV_TEXT(RESTKV_VERSION_MAJOR) "." RESTKV_TEXT(
    RESTKV_VERSION_MINOR) "." RESTKV_TEXT(RESTKV_VERSION_PATCH);
static_assert(std::string_view(kVersion) == RESTKV_PROJECT_VERSION,
              "restkv.h has another version than the project");

static_assert(RESTKV_INVALID_ARGUMENT == static_cast<int>(ErrorCode::kInvalidArgument));
static_assert(RESTKV_INPUT == static_cast<int>(ErrorCode::kInput));
static_assert(RESTKV_UNSUPPORTED == static_cast<int>(ErrorCode::kUnsupported));
static_assert(RESTKV_IO == static_cast<int>(ErrorCode::kIo));
static_assert(RESTKV_INTERRUPTED == static_cast<int>(ErrorCode::kInterrupted));
static_assert(RESTKV_OUT_OF_MEMORY == static_cast<int>(ErrorCode::kOutOfMemory));
static_assert(RESTKV_INTERNAL == static_cast<int>(ErrorCode::kInternal));
static_assert(RESTKV_FINISH_STOP == static_cast<int>(restkv::FinishReason::kStop));
static_assert(RESTKV_FINISH_LENGTH == static_cast<int>(restkv::FinishReason::kLength));
static_assert(RESTKV_FINISH_CANCELLED == static_cast<int>(restkv::FinishReason::kCancelled));

thread_local std::string t_error;
thread_local const char* t_message = "";

/// Runs a function and makes a status of what it throws.
template <class Function>
restkv_status guarded(Function&& function) noexcept {
  try {
    std::forward<Function>(function)();
    return RESTKV_OK;
  } catch (...) {
    try {
      const Error error = restkv::caught_error();
      t_error = error.what();
      t_message = t_error.c_str();
      return static_cast<restkv_status>(error.code());
    } catch (...) {
      t_message = "out of memory";
      return RESTKV_OUT_OF_MEMORY;
    }
  }
}

template <class T>
void require(const T* pointer, const char* name) {
  if (pointer == nullptr) refuse(fmt::format("{} is NULL", name));
}

/// A struct of the caller, who may know fewer fields than this version, or more.
template <class Struct>
Struct given(const Struct* from, const char* name) {
  static_assert(std::is_trivially_copyable_v<Struct> &&
                std::is_same_v<decltype(from->size), size_t>);
  Struct known{};
  if (from == nullptr) return known;
  const size_t size = from->size;
  if (size < sizeof(size_t)) {
    refuse(fmt::format("{0}.size is {1}; set it to sizeof({0})", name, size));
  }
  std::memcpy(&known, from, std::min(size, sizeof known));
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof known; i < size; ++i) {
    if (bytes[i] == 0) continue;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} has fields that version {} of the library does not know; use a "
                            "newer library",
                            name, kVersion));
  }
  return known;
}

/// Fills as much of a struct of the caller as the caller knows.
template <class Struct>
void fill(Struct* to, Struct value, const char* name) {
  require(to, name);
  if (to->size < sizeof(size_t)) {
    refuse(fmt::format("{0}.size is {1}; set it to sizeof({0})", name, to->size));
  }
  value.size = to->size;
  std::memcpy(to, &value, std::min(to->size, sizeof value));
}

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

std::string_view bytes_of(const char* text, size_t bytes, const char* name) {
  if (bytes > 0) require(text, name);
  return {bytes > 0 ? text : "", bytes};
}

template <class T>
struct Freer {
  void operator()(T* memory) const { std::free(memory); }
};
template <class T>
using Owned = std::unique_ptr<T[], Freer<T>>;

template <class T>
Owned<T> copied(const T* from, size_t count, size_t room) {
  if (room == 0) return nullptr;
  Owned<T> memory(static_cast<T*>(std::malloc(room * sizeof(T))));
  if (!memory) throw std::bad_alloc();
  if (count > 0) std::memcpy(memory.get(), from, count * sizeof(T));
  return memory;
}

Owned<char> copied_text(std::string_view text) {
  Owned<char> memory = copied(text.data(), text.size(), text.size() + 1);
  memory[text.size()] = '\0';
  return memory;
}

Owned<int32_t> copied_tokens(std::span<const int32_t> tokens) {
  return copied(tokens.data(), tokens.size(), tokens.size());
}

struct Log {
  std::mutex mutex;
  restkv_log_callback callback = nullptr;
  void* user = nullptr;
};
Log& log() {
  static auto* const the_log = new Log;  // threads may outlive static objects
  return *the_log;
}

void tell(const std::vector<std::string>& notices) {
  restkv_log_callback callback = nullptr;
  void* user = nullptr;
  {
    Log& to = log();
    const std::scoped_lock lock(to.mutex);
    callback = to.callback;
    user = to.user;
  }
  for (const std::string& notice : notices) {
    if (callback != nullptr) {
      callback(user, notice.c_str());
    } else {
      std::fprintf(stderr, "restkv: %s\n", notice.c_str());
    }
  }
}

restkv::ProgressCallback progress_of(restkv_progress_callback callback, void* user) {
  if (callback == nullptr) return {};
  return [callback, user](double done) { return callback(user, done) == 0; };
}

restkv::GenerationOptions generation_of(const restkv_generation_options& given) {
  restkv::GenerationOptions options;
  if (given.max_tokens > 0) options.max_tokens = given.max_tokens;
  options.min_tokens = given.min_tokens;
  options.sampling = doors::parse_sampling(text_or_empty(given.sampling));
  if (given.stop_count > 0) require(given.stops, "restkv_generation_options.stops");
  for (size_t i = 0; i < given.stop_count; ++i) {
    require(given.stops[i], "a text of restkv_generation_options.stops");
    options.stop.emplace_back(given.stops[i]);
  }
  return options;
}

/// What is written of an answer; the caller's struct is not touched before all memory is there.
void give(restkv_generation* to, const restkv::GenerationResult& result) {
  Owned<char> text = copied_text(result.text);
  Owned<int32_t> tokens = copied_tokens(result.tokens);
  fill(to,
       {.size = 0,
        .text = {text.get(), result.text.size()},
        .tokens = {tokens.get(), result.tokens.size()},
        .finish = static_cast<int>(result.finish_reason),
        .seconds = result.seconds},
       "restkv_generation");
  static_cast<void>(text.release());
  static_cast<void>(tokens.release());
}

void require_room_for(const restkv_generation* to) {
  constexpr size_t kFirstVersion = sizeof(restkv_generation);
  if (to != nullptr && to->size < kFirstVersion) {
    refuse(
        fmt::format("restkv_generation.size is {}; set it to sizeof(restkv_generation)", to->size));
  }
}

restkv::Heads<const float> heads_of(const restkv_heads& x, const char* name) {
  if (x.data == nullptr) return {};
  if (x.head_stride == 0 && x.row_stride == 0) return {x.data, x.heads, x.rows, x.dim};
  if (x.row_stride < x.dim || (x.heads > 1 && x.head_stride == 0)) {
    refuse(
        fmt::format("{} has the strides {} (heads) and {} (rows) for rows of {}; expected both "
                    "0, or those of an array whose rows do not overlap",
                    name, x.head_stride, x.row_stride, x.dim));
  }
  return {x.data, x.heads, x.rows, x.dim, x.head_stride, x.row_stride};
}

std::vector<restkv::ChatMessage> messages_of(const restkv_message* messages, size_t count) {
  if (count > 0) require(messages, "messages");
  std::vector<restkv::ChatMessage> result;
  for (size_t i = 0; i < count; ++i) {
    require(messages[i].role, "the role of a message");
    require(messages[i].content, "the content of a message");
    result.push_back({messages[i].role, messages[i].content});
  }
  return result;
}

void require_sequences(restkv_sequence* const* sequences, size_t count) {
  if (count == 0) refuse("there are no sequences");
  require(sequences, "sequences");
  for (size_t i = 0; i < count; ++i) require(sequences[i], "one of the sequences");
}

}  // namespace

const char* restkv_version() { return kVersion; }
const char* restkv_last_error() { return t_message; }

void restkv_set_log(restkv_log_callback callback, void* user) {
  Log& to = log();
  const std::scoped_lock lock(to.mutex);
  to.callback = callback;
  to.user = user;
}

void restkv_tokens_free(restkv_tokens* tokens) {
  if (tokens == nullptr) return;
  std::free(tokens->data);
  *tokens = {};
}

void restkv_text_free(restkv_text* text) {
  if (text == nullptr) return;
  std::free(text->data);
  *text = {};
}

restkv_status restkv_set_threads(int threads) {
  return guarded([&] { doors::set_shared_threads(threads); });
}

int restkv_threads() {
  int threads = 1;
  guarded([&] { threads = doors::shared_threads()->threads(); });
  return threads;
}

// ---- Models ------------------------------------------------------------------------------------

restkv_status restkv_model_open(const char* path, const restkv_model_options* options,
                                restkv_model** model) {
  return guarded([&] {
    require(path, "path");
    require(model, "model");
    const restkv_model_options o = given(options, "restkv_model_options");
    restkv::ModelOptions how;
    how.linear = restkv::find_linear_precision(o.linear == nullptr ? "auto" : o.linear);
    how.attention = restkv::find_attention_precision(o.attention == nullptr ? "auto" : o.attention);
    how.rope_scaling = text_or_empty(o.rope_scaling);
    if (o.rope_factor != 0) how.rope_factor = o.rope_factor;
    if (how.rope_scaling.empty() && o.rope_factor != 0) {
      refuse(fmt::format("rope_factor is {}, which has no effect without rope_scaling",
                         o.rope_factor));
    }
    auto made = std::make_unique<restkv_model>();
    made->model = std::make_shared<const doors::LoadedModel>(path, how, o.threads);
    *model = made.release();
  });
}

void restkv_model_free(restkv_model* model) { delete model; }

restkv_status restkv_model_get_info(const restkv_model* model, restkv_model_info* info) {
  return guarded([&] {
    require(model, "model");
    const restkv::ModelConfig& config = model->model->model().config();
    bool has_template = false;
    try {
      has_template = model->model->tokenizer().has_chat_template();
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInput) throw;  // a file without a vocabulary has none
    }
    fill(info,
         {.size = 0,
          .layers = config.layers,
          .query_heads = config.query_heads,
          .kv_heads = config.kv_heads,
          .key_dim = config.key_dim,
          .value_dim = config.value_dim,
          .vocabulary = config.vocabulary,
          .context_length = config.context_length,
          .fingerprint = config.fingerprint,
          .threads = model->model->threads(),
          .has_chat_template = has_template ? 1 : 0},
         "restkv_model_info");
  });
}

// ---- Texts and tokens --------------------------------------------------------------------------

restkv_status restkv_tokenize(const restkv_model* model, const char* text, size_t bytes,
                              unsigned flags, restkv_tokens* tokens) {
  return guarded([&] {
    require(model, "model");
    require(tokens, "tokens");
    constexpr unsigned kKnown = RESTKV_ADD_SPECIAL | RESTKV_PARSE_SPECIAL;
    if ((flags & ~kKnown) != 0) refuse(fmt::format("flags are {}; known are 1 and 2", flags));
    const std::vector<int32_t> ids = model->model->tokenizer().encode(
        bytes_of(text, bytes, "text"), (flags & RESTKV_ADD_SPECIAL) != 0,
        (flags & RESTKV_PARSE_SPECIAL) != 0);
    *tokens = {copied_tokens(ids).release(), ids.size()};
  });
}

restkv_status restkv_detokenize(const restkv_model* model, const int32_t* tokens, size_t count,
                                int render_special, restkv_text* text) {
  return guarded([&] {
    require(model, "model");
    require(text, "text");
    if (count > 0) require(tokens, "tokens");
    const restkv::Tokenizer& tokenizer = model->model->tokenizer();
    for (size_t i = 0; i < count; ++i) {
      if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < tokenizer.vocabulary()) continue;
      refuse(fmt::format("token {} is {}; the vocabulary has {}", i, tokens[i],
                         tokenizer.vocabulary()));
    }
    const std::string bytes = tokenizer.decode({tokens, count}, render_special != 0);
    *text = {copied_text(bytes).release(), bytes.size()};
  });
}

restkv_status restkv_format_chat(const restkv_model* model, const restkv_message* messages,
                                 size_t count, restkv_text* text, restkv_tokens* tokens) {
  return guarded([&] {
    require(model, "model");
    const restkv::Tokenizer& tokenizer = model->model->tokenizer();
    const restkv::ChatText chat = tokenizer.format_chat(messages_of(messages, count));
    Owned<char> bytes = text == nullptr ? nullptr : copied_text(chat.text);
    if (tokens != nullptr) {
      const std::vector<int32_t> ids = tokenizer.encode(chat, true);
      *tokens = {copied_tokens(ids).release(), ids.size()};
    }
    if (text != nullptr) *text = {bytes.release(), chat.text.size()};
  });
}

// ---- Sequences ---------------------------------------------------------------------------------

restkv_status restkv_sequence_new(restkv_model* model, const restkv_sequence_options* options,
                                  restkv_sequence** sequence) {
  return guarded([&] {
    require(model, "model");
    require(sequence, "sequence");
    const restkv_sequence_options o = given(options, "restkv_sequence_options");
    std::vector<std::string> notices;
    auto made = std::make_unique<restkv_sequence>();
    made->sequence = doors::Sequence::begin(model->model,
                                            {.method = text_or_empty(o.method),
                                             .budget = text_or_empty(o.budget),
                                             .kv_type = text_or_empty(o.kv_type),
                                             .sparse = text_or_empty(o.sparse),
                                             .chunk = o.chunk,
                                             .interval = o.interval,
                                             .decode_budget = o.decode_budget,
                                             .compact_positions = o.compact_positions != 0,
                                             .system = text_or_empty(o.system)},
                                            notices);
    tell(notices);
    *sequence = made.release();
  });
}

void restkv_sequence_free(restkv_sequence* sequence) { delete sequence; }

restkv_status restkv_sequence_append(restkv_sequence* sequence, const int32_t* tokens, size_t count,
                                     restkv_progress_callback progress, void* user) {
  return guarded([&] {
    require(sequence, "sequence");
    if (count > 0) require(tokens, "tokens");
    sequence->sequence->append({tokens, count}, progress_of(progress, user));
  });
}

restkv_status restkv_sequence_read(restkv_sequence* sequence, const char* text, size_t bytes,
                                   restkv_progress_callback progress, void* user) {
  return guarded([&] {
    require(sequence, "sequence");
    sequence->sequence->read_document(std::string(bytes_of(text, bytes, "text")),
                                      progress_of(progress, user));
  });
}

restkv_status restkv_sequence_ask(restkv_sequence* sequence, const char* text, size_t bytes,
                                  restkv_progress_callback progress, void* user) {
  return guarded([&] {
    require(sequence, "sequence");
    sequence->sequence->ask(std::string(bytes_of(text, bytes, "text")),
                            progress_of(progress, user));
  });
}

restkv_status restkv_sequence_logits(const restkv_sequence* sequence, float* logits,
                                     size_t capacity) {
  return guarded([&] {
    require(sequence, "sequence");
    require(logits, "logits");
    const std::vector<float> all = sequence->sequence->logits();
    if (all.empty()) refuse("there are no logits before the first token; append some");
    if (capacity < all.size()) {
      refuse(fmt::format("{} logits do not fit into {}", all.size(), capacity));
    }
    std::memcpy(logits, all.data(), all.size() * sizeof(float));
  });
}

void restkv_generation_free(restkv_generation* generation) {
  if (generation == nullptr) return;
  restkv_text_free(&generation->text);
  restkv_tokens_free(&generation->tokens);
}

restkv_status restkv_sequence_generate(restkv_sequence* sequence,
                                       const restkv_generation_options* options,
                                       restkv_generation* generation) {
  return guarded([&] {
    require(sequence, "sequence");
    require_room_for(generation);
    const restkv_generation_options o = given(options, "restkv_generation_options");
    doors::Answer answer(sequence->sequence, generation_of(o));
    while (const auto piece = answer.next()) {
      if (o.on_text == nullptr) continue;
      if (o.on_text(o.user, piece->c_str(), piece->size()) != 0) answer.stop();
    }
    if (generation != nullptr) give(generation, answer.result());
  });
}

restkv_status restkv_sequence_fork(const restkv_sequence* sequence, restkv_sequence** copy) {
  return guarded([&] {
    require(sequence, "sequence");
    require(copy, "copy");
    auto made = std::make_unique<restkv_sequence>();
    made->sequence = sequence->sequence->fork();
    *copy = made.release();
  });
}

restkv_status restkv_sequence_save(const restkv_sequence* sequence, const char* path) {
  return guarded([&] {
    require(sequence, "sequence");
    require(path, "path");
    sequence->sequence->save(path);
  });
}

restkv_status restkv_sequence_load(restkv_model* model, const char* path,
                                   restkv_sequence** sequence) {
  return guarded([&] {
    require(model, "model");
    require(path, "path");
    require(sequence, "sequence");
    auto made = std::make_unique<restkv_sequence>();
    made->sequence = doors::Sequence::load(model->model, path);
    *sequence = made.release();
  });
}

restkv_status restkv_sequence_compress(restkv_sequence* sequence) {
  return guarded([&] {
    require(sequence, "sequence");
    sequence->sequence->compress();
  });
}

restkv_status restkv_sequence_set_budget(restkv_sequence* sequence, int budget) {
  return guarded([&] {
    require(sequence, "sequence");
    sequence->sequence->set_budget(budget);
  });
}

restkv_status restkv_sequence_get_stats(const restkv_sequence* sequence,
                                        restkv_sequence_stats* stats) {
  return guarded([&] {
    require(sequence, "sequence");
    const doors::Sequence::Stats s = sequence->sequence->stats();
    fill(stats,
         {.size = 0,
          .tokens = s.tokens,
          .kept = s.kept,
          .kv_bytes = s.kv_bytes,
          .full_kv_bytes = s.full_kv_bytes,
          .allocated_bytes = s.allocated_bytes,
          .compress_seconds = s.compress_seconds},
         "restkv_sequence_stats");
  });
}

// ---- Several sequences -------------------------------------------------------------------------

restkv_status restkv_batch_append(restkv_sequence* const* sequences, const int32_t* tokens,
                                  size_t count) {
  return guarded([&] {
    require_sequences(sequences, count);
    require(tokens, "tokens");
    std::vector<doors::Sequence*> all;
    for (size_t i = 0; i < count; ++i) all.push_back(sequences[i]->sequence.get());
    doors::Sequence::append_together(all, {tokens, count});
  });
}

restkv_status restkv_batch_generate(restkv_sequence* const* sequences, size_t count,
                                    const restkv_generation_options* options,
                                    restkv_batch_text_callback on_text, void* user,
                                    restkv_generation* generations) {
  return guarded([&] {
    require_sequences(sequences, count);
    if (generations != nullptr) {
      for (size_t i = 0; i < count; ++i) require_room_for(&generations[i]);
    }
    const restkv_generation_options o = given(options, "restkv_generation_options");
    if (o.on_text != nullptr) {
      refuse(
          "restkv_generation_options.on_text does not know which answer it gets; give the "
          "batch's on_text");
    }
    std::vector<std::unique_ptr<doors::Answer>> answers;
    for (size_t i = 0; i < count; ++i) {
      answers.push_back(std::make_unique<doors::Answer>(sequences[i]->sequence, generation_of(o)));
    }
    doors::Answer::write_together(answers, [&](size_t number, std::string_view text) {
      if (on_text == nullptr) return true;
      const std::string piece(text);
      return on_text(user, number, piece.c_str(), piece.size()) == 0;
    });
    if (generations == nullptr) return;
    size_t given_so_far = 0;
    try {
      for (; given_so_far < count; ++given_so_far) {
        give(&generations[given_so_far], answers[given_so_far]->result());
      }
    } catch (...) {
      for (size_t i = 0; i < given_so_far; ++i) restkv_generation_free(&generations[i]);
      throw;
    }
  });
}

// ---- Plain arrays ------------------------------------------------------------------------------

restkv_status restkv_factor_new(const float* wo, size_t width, size_t query_heads, size_t value_dim,
                                restkv_factor** factor) {
  return guarded([&] {
    require(wo, "wo");
    require(factor, "factor");
    const std::shared_ptr<restkv::ThreadPool> threads = doors::shared_threads();
    const restkv::UseThreads use(*threads);
    auto made = std::make_unique<restkv_factor>();
    made->factor =
        restkv::OutputFactor({wo, width, query_heads * value_dim}, query_heads, value_dim);
    *factor = made.release();
  });
}

void restkv_factor_free(restkv_factor* factor) { delete factor; }

restkv_status restkv_select(const restkv_layer* layer, const char* method, const char* budget,
                            restkv_selection** selection) {
  return guarded([&] {
    require(layer, "layer");
    require(selection, "selection");
    const restkv_layer l = given(layer, "restkv_layer");
    doors::ArrayLayer arrays;
    arrays.queries = heads_of(l.queries, "queries");
    arrays.keys = heads_of(l.keys, "keys");
    arrays.values = heads_of(l.values, "values");
    arrays.unrotated_keys = heads_of(l.unrotated_keys, "unrotated_keys");
    if (l.wo != nullptr) {
      arrays.wo = {l.wo, l.width, arrays.queries.heads * arrays.values.dim};
    }
    if (l.factor != nullptr) arrays.factor = &l.factor->factor;
    if (l.inputs != nullptr) arrays.inputs = {l.inputs, arrays.keys.rows, l.width};
    if (l.frequencies != nullptr) arrays.rotation.frequencies = {l.frequencies, l.pairs};
    if (l.magnitude != 0) arrays.rotation.magnitude = l.magnitude;
    arrays.rotation.halves = l.neighbours == 0;
    arrays.scale = l.scale;
    arrays.softcap = l.softcap;
    arrays.layer = l.layer;
    if (l.layers != 0) arrays.layers = l.layers;
    const doors::GivenMethod how =
        doors::parse_method(text_or_empty(method), text_or_empty(budget));
    tell(how.notices);
    const std::shared_ptr<restkv::ThreadPool> threads = doors::shared_threads();
    const restkv::UseThreads use(*threads);
    auto made = std::make_unique<restkv_selection>();
    made->selection = doors::select_from_arrays(arrays, doors::for_prompt(how, arrays.keys.rows));
    *selection = made.release();
  });
}

void restkv_selection_free(restkv_selection* selection) { delete selection; }

size_t restkv_selection_heads(const restkv_selection* selection) {
  return selection == nullptr ? 0 : selection->selection.keep.size();
}

const int32_t* restkv_selection_positions(const restkv_selection* selection, size_t head,
                                          size_t* count) {
  const bool known = head < restkv_selection_heads(selection);
  if (count != nullptr) *count = known ? selection->selection.keep[head].size() : 0;
  return known ? selection->selection.keep[head].data() : nullptr;
}

const char* restkv_method_name(size_t number) {
  const auto all = restkv::methods();
  return number < all.size() ? all[number].name.data() : nullptr;
}
