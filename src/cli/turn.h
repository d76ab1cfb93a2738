#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "restkv/conversation.h"
#include "restkv/generate.h"
#include "restkv/sampler.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {

/// The two halves of a turn, which `run` has once and `chat` again and again.

/// Refuses, without making tokens of it, a text that cannot fit into what is left of the model's
/// context. Throws `Error` (kInvalidArgument).
void require_room(const Session& session, const ModelConfig& config, const Tokenizer& tokenizer,
                  std::string_view text);

/// Throws `Error` (kInvalidArgument) saying which flags help unless a prompt and an answer of so
/// many tokens fit into the model's context: to be asked before anything is read.
void require_fit(const Session& session, size_t context, size_t prompt_tokens,
                 size_t answer_tokens);

/// Appends tokens to a session and returns the seconds that it took. Shows a progress bar, called
/// `title`, if that is more than a moment. Throws `Error` (kInterrupted) on Ctrl-C.
double read_tokens(Session& session, std::span<const int32_t> tokens, const char* title);

struct Answered {
  GenerationResult result;
  size_t cuts = 0;  ///< Of the cache, while it was written.
};
/// Prints the model's answer as it comes, ended by a line feed, unless `prints` is false, and tells
/// the conversation. Ctrl-C ends it early. A limit of 0 tokens means that no answer is wanted:
/// nothing is printed.
Answered answer(Session& session, const ModelConfig& config, Conversation& conversation,
                const Tokenizer& tokenizer, Sampler& sampler, GenerationOptions options,
                bool prints = true);

/// Why an answer ended, in the words of chat programming interfaces: "stop" (the model had
/// finished), "length" (`max_tokens`), or "interrupted" (Ctrl-C).
std::string_view finish_reason_name(FinishReason reason);

/// The session in a snapshot and the conversation that was saved with it. Throws `Error` as
/// `Session::load` does.
Session load_session(const Engine& engine, const std::string& path, Conversation& conversation);

}  // namespace restkv::cli
