/* restkv for C and for languages that call C: models, sequences with a compressed cache, and
 * selections from plain arrays. C11. docs/c-api.md has a walk through it.
 *
 * Functions return RESTKV_OK or the kind of their failure; restkv_last_error() then says more. A
 * function that fails leaves its results alone. No pointer may be NULL unless it is said to be
 * optional. Texts are UTF-8; those that the library is given with a number of bytes need no zero
 * at their end.
 *
 * Structs begin with their size, which the caller sets: `restkv_model_options options = {.size =
 * sizeof options};`. Fields that are 0 or NULL have their defaults. Later versions add fields at
 * the end, so that programs go on without being compiled again.
 *
 * Handles may be freed in any order: a sequence keeps what it needs of its model. Models and
 * tokenizers may be used from any number of threads. A sequence is used from one thread at a time;
 * a second call, also out of a callback, is refused with RESTKV_INVALID_ARGUMENT.
 *
 * After fork(), a child cannot use models and sequences of its parent, which is refused, but may
 * load its own and use the functions for arrays. */
#ifndef RESTKV_H
#define RESTKV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RESTKV_API __attribute__((visibility("default")))
#else
#define RESTKV_API
#endif

#define RESTKV_VERSION_MAJOR 0
#define RESTKV_VERSION_MINOR 1
#define RESTKV_VERSION_PATCH 0

/* Version of the library in use: "0.1.0". */
RESTKV_API const char* restkv_version(void);

/* ---- Failures ------------------------------------------------------------------------------- */

typedef enum restkv_status {
  RESTKV_OK = 0,
  RESTKV_INVALID_ARGUMENT = 1, /* An argument or option cannot be used. */
  RESTKV_INPUT = 2,            /* A file or data is missing, truncated or malformed. */
  RESTKV_UNSUPPORTED = 3,      /* Not supported by this version or processor. */
  RESTKV_IO = 4,               /* Reading or writing failed. */
  RESTKV_INTERRUPTED = 5,      /* A callback asked to stop. */
  RESTKV_OUT_OF_MEMORY = 6,
  RESTKV_INTERNAL = 7 /* A fault of the library. */
} restkv_status;

/* What the last failure of this thread was about: object, value and remedy. "" before the first.
 * Valid until the next failure of this thread. */
RESTKV_API const char* restkv_last_error(void);

/* Receives what is not a failure but should be known, such as an option without effect. May be
 * called from several threads at a time. */
typedef void (*restkv_log_callback)(void* user, const char* message);
/* NULL: standard error, which is also the default. */
RESTKV_API void restkv_set_log(restkv_log_callback callback, void* user);

/* ---- Memory and threads --------------------------------------------------------------------- */

/* Memory that the library hands over; the caller frees it. An empty one has NULL. */
typedef struct restkv_tokens {
  int32_t* data;
  size_t count;
} restkv_tokens;
typedef struct restkv_text {
  char* data; /* With a zero behind the last byte. */
  size_t bytes;
} restkv_text;
/* Freeing leaves them empty, and may be repeated. */
RESTKV_API void restkv_tokens_free(restkv_tokens* tokens);
RESTKV_API void restkv_text_free(restkv_text* text);

/* Threads that functions for arrays compute with; 0: one per processor, the default. Models have
 * separate ones (restkv_model_options). */
RESTKV_API restkv_status restkv_set_threads(int threads);
RESTKV_API int restkv_threads(void);

/* ---- Models --------------------------------------------------------------------------------- */

typedef struct restkv_model restkv_model;

typedef struct restkv_model_options {
  size_t size;
  int threads;              /* 0: one per processor. */
  const char* linear;       /* Precision of prompts' products with weights: "auto", "f32", ... */
  const char* attention;    /* Precision of prompts' attention, the same. */
  const char* rope_scaling; /* "linear", "ntk", "yarn"; NULL: that of the file. */
  double rope_factor;       /* How many times the context is stretched. */
} restkv_model_options;

/* Loads a GGUF file. `options` may be NULL. */
RESTKV_API restkv_status restkv_model_open(const char* path, const restkv_model_options* options,
                                           restkv_model** model);
/* NULL is no model, and nothing happens. The same for all handles. */
RESTKV_API void restkv_model_free(restkv_model* model);

typedef struct restkv_model_info {
  size_t size;
  size_t layers;
  size_t query_heads;
  size_t kv_heads;
  size_t key_dim; /* Per head. */
  size_t value_dim;
  size_t vocabulary;
  size_t context_length; /* In tokens. */
  uint64_t fingerprint;  /* The same for all copies of the file. */
  int threads;
  int has_chat_template; /* Whether it is an instruct model. */
} restkv_model_info;
RESTKV_API restkv_status restkv_model_get_info(const restkv_model* model, restkv_model_info* info);

/* ---- Texts and tokens ----------------------------------------------------------------------- */

enum {
  RESTKV_ADD_SPECIAL = 1,  /* The token that begins a text, if the model has one. */
  RESTKV_PARSE_SPECIAL = 2 /* Control tokens in the text are such; not for untrusted text. */
};
RESTKV_API restkv_status restkv_tokenize(const restkv_model* model, const char* text, size_t bytes,
                                         unsigned flags, restkv_tokens* tokens);
/* `render_special`: control tokens give their text instead of nothing. The bytes may end within a
 * character. */
RESTKV_API restkv_status restkv_detokenize(const restkv_model* model, const int32_t* tokens,
                                           size_t count, int render_special, restkv_text* text);

typedef struct restkv_message {
  const char* role; /* "system", "user" or "assistant". */
  const char* content;
} restkv_message;
/* A chat in the format of the model's template, ready for the assistant's answer. `text` and
 * `tokens` may be NULL. Control tokens in messages are text. */
RESTKV_API restkv_status restkv_format_chat(const restkv_model* model,
                                            const restkv_message* messages, size_t count,
                                            restkv_text* text, restkv_tokens* tokens);

/* ---- Sequences ------------------------------------------------------------------------------ */

/* Bare tokens, a conversation, or a document and a question about it: what is read first decides.
 */
typedef struct restkv_sequence restkv_sequence;

typedef struct restkv_sequence_options {
  size_t size;
  const char* method; /* "restkv" (the default), "snapkv:kernel=21", "full", ... */
  const char* budget; /* "512" tokens per KV head, "12.5%" of the first prompt (64 tokens at least),
                         "auto" */
  const char* kv_type;   /* Storage of keys and values: "f16" (the default), "f32", "q8", "q4". */
  const char* sparse;    /* Sparse pattern of prompts: "dense" (the default), "xattention", ... */
  const char* system;    /* System message of a conversation or document. */
  size_t chunk;          /* Prompts are read and cut so many tokens at a time; 0: whole. */
  size_t interval;       /* Answers are cut whenever they are so much longer; 0: never. */
  int decode_budget;     /* To so many tokens; 0: the budget. */
  int compact_positions; /* Not 0: kept tokens are numbered anew, so that texts may be longer than
                            the model's context. */
} restkv_sequence_options;

/* `options` may be NULL. */
RESTKV_API restkv_status restkv_sequence_new(restkv_model* model,
                                             const restkv_sequence_options* options,
                                             restkv_sequence** sequence);
RESTKV_API void restkv_sequence_free(restkv_sequence* sequence);

/* Receives the share of a prompt that has been read, 0 to 1. Returns 0 to go on; otherwise the
 * function fails with RESTKV_INTERRUPTED. */
typedef int (*restkv_progress_callback)(void* user, double done);

/* Each of these reads a prompt, and cuts the cache to the budget after it. If it fails, the
 * sequence is as it was before. `progress` may be NULL. */

RESTKV_API restkv_status restkv_sequence_append(restkv_sequence* sequence, const int32_t* tokens,
                                                size_t count, restkv_progress_callback progress,
                                                void* user);
/* A document, of which questions are asked later: each of a fork. The sequence must be empty. */
RESTKV_API restkv_status restkv_sequence_read(restkv_sequence* sequence, const char* text,
                                              size_t bytes, restkv_progress_callback progress,
                                              void* user);
/* The user's next message, or the question about the document. */
RESTKV_API restkv_status restkv_sequence_ask(restkv_sequence* sequence, const char* text,
                                             size_t bytes, restkv_progress_callback progress,
                                             void* user);

/* Copies the logits after the last token; `capacity` must be the size of the vocabulary at least.
 * There are none before the first token. */
RESTKV_API restkv_status restkv_sequence_logits(const restkv_sequence* sequence, float* logits,
                                                size_t capacity);

/* Receives a piece of an answer, whole characters. Returns 0 to go on; otherwise the answer ends.
 */
typedef int (*restkv_text_callback)(void* user, const char* text, size_t bytes);

typedef struct restkv_generation_options {
  size_t size;
  size_t max_tokens;        /* 0: 256. */
  size_t min_tokens;        /* The model may not end before. */
  const char* sampling;     /* "temperature=0.7:top_p=0.9:seed=3"; NULL: the likeliest token. */
  const char* const* stops; /* The text ends before the first of these. */
  size_t stop_count;
  restkv_text_callback on_text; /* May be NULL. */
  void* user;
} restkv_generation_options;

typedef enum restkv_finish {
  RESTKV_FINISH_STOP = 0,     /* The model had finished, or a stop came. */
  RESTKV_FINISH_LENGTH = 1,   /* max_tokens, or the end of the model's context. */
  RESTKV_FINISH_CANCELLED = 2 /* The callback asked for it. */
} restkv_finish;

typedef struct restkv_generation {
  size_t size;
  restkv_text text;
  restkv_tokens tokens;
  int finish; /* restkv_finish */
  double seconds;
} restkv_generation;
RESTKV_API void restkv_generation_free(restkv_generation* generation);

/* Writes an answer behind what was read. `options` and `generation` may be NULL. */
RESTKV_API restkv_status restkv_sequence_generate(restkv_sequence* sequence,
                                                  const restkv_generation_options* options,
                                                  restkv_generation* generation);

/* A copy with its own cache. */
RESTKV_API restkv_status restkv_sequence_fork(const restkv_sequence* sequence,
                                              restkv_sequence** copy);
/* The file appears whole or not at all. `restkv run` and `restkv chat` read conversations, too. */
RESTKV_API restkv_status restkv_sequence_save(const restkv_sequence* sequence, const char* path);
RESTKV_API restkv_status restkv_sequence_load(restkv_model* model, const char* path,
                                              restkv_sequence** sequence);

/* Cuts the cache to the budget now. */
RESTKV_API restkv_status restkv_sequence_compress(restkv_sequence* sequence);
/* Sets the budget of the next cuts, in tokens per KV head. */
RESTKV_API restkv_status restkv_sequence_set_budget(restkv_sequence* sequence, int budget);

typedef struct restkv_sequence_stats {
  size_t size;
  size_t tokens;          /* Read or written so far. */
  double kept;            /* Of these, per KV head, on average over the layers that are cut. */
  size_t kv_bytes;        /* Of the kept keys and values. */
  size_t full_kv_bytes;   /* Of all tokens in half precision. */
  size_t allocated_bytes; /* All that the sequence holds. */
  double compress_seconds;
} restkv_sequence_stats;
RESTKV_API restkv_status restkv_sequence_get_stats(const restkv_sequence* sequence,
                                                   restkv_sequence_stats* stats);

/* ---- Several sequences of one model at a time ----------------------------------------------- */

/* Appends one token to each. The model's weights are read once for all. */
RESTKV_API restkv_status restkv_batch_append(restkv_sequence* const* sequences,
                                             const int32_t* tokens, size_t count);

/* The same as restkv_text_callback, with the number of the answer. */
typedef int (*restkv_batch_text_callback)(void* user, size_t number, const char* text,
                                          size_t bytes);
/* Writes an answer behind each. `options` (whose on_text is not used, and must be NULL) are those
 * of all, and may be NULL; so may `on_text` and `generations`, of which there are `count`. If the
 * callback ends the answers, all end. */
RESTKV_API restkv_status restkv_batch_generate(restkv_sequence* const* sequences, size_t count,
                                               const restkv_generation_options* options,
                                               restkv_batch_text_callback on_text, void* user,
                                               restkv_generation* generations);

/* ---- Plain arrays --------------------------------------------------------------------------- */

/* float32 [heads, rows, dim]: row r of head h begins at data + h * head_stride + r * row_stride.
 * Both strides 0: contiguous. data NULL: not given. */
typedef struct restkv_heads {
  const float* data;
  size_t heads, rows, dim;
  size_t head_stride, row_stride;
} restkv_heads;

/* What methods need of W_O, computed once per layer of a model instead of at each selection. */
typedef struct restkv_factor restkv_factor;
/* wo [width, query_heads * value_dim], row-major and contiguous. */
RESTKV_API restkv_status restkv_factor_new(const float* wo, size_t width, size_t query_heads,
                                           size_t value_dim, restkv_factor** factor);
RESTKV_API void restkv_factor_free(restkv_factor* factor);

/* One layer after a prompt of n tokens, whose positions are 0 to n - 1. A method that misses
 * something says what. */
typedef struct restkv_layer {
  size_t size;
  restkv_heads queries; /* [query_heads, rows, d], rotated: of the last tokens, or of all n. */
  restkv_heads keys;    /* [kv_heads, n, d], rotated. */
  restkv_heads values;  /* [kv_heads, n, dv]. */
  restkv_heads unrotated_keys; /* As keys; or made of them by the rotation below. */
  const float* wo;             /* [width, query_heads * dv], contiguous. */
  size_t width;
  const restkv_factor* factor; /* Of wo. */
  const float* inputs;         /* [n, width]: what the layer's attention reads. */
  const float* frequencies;    /* Rotary embedding: pair i turns by position * frequencies[i]. */
  size_t pairs;
  int neighbours;   /* Not 0: pairs are (2i, 2i + 1) instead of (i, i + pairs). */
  double magnitude; /* Of the rotation; 0: 1. */
  float scale;      /* Softmax scale; 0: 1 / sqrt(d). */
  float softcap;    /* Of the logits; 0: none. */
  size_t layer;     /* Its number among `layers`, for allocations over layers. */
  size_t layers;    /* 0: 1. */
} restkv_layer;

/* Positions that each head keeps. */
typedef struct restkv_selection restkv_selection;

/* `method` and `budget` as in restkv_sequence_options; `budget` may be NULL. */
RESTKV_API restkv_status restkv_select(const restkv_layer* layer, const char* method,
                                       const char* budget, restkv_selection** selection);
RESTKV_API void restkv_selection_free(restkv_selection* selection);
/* KV heads; with the option per_query_head, query heads. */
RESTKV_API size_t restkv_selection_heads(const restkv_selection* selection);
/* Ascending; valid as long as the selection. An unknown head keeps nothing. */
RESTKV_API const int32_t* restkv_selection_positions(const restkv_selection* selection, size_t head,
                                                     size_t* count);

/* Names of all methods; NULL from the last on. */
RESTKV_API const char* restkv_method_name(size_t number);

#ifdef __cplusplus
}
#endif

#endif /* RESTKV_H */
