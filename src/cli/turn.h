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

/// Prints the model's answer as it comes, ended by a line feed, and tells the conversation. Ctrl-C
/// ends it early. A limit of 0 tokens means that no answer is wanted: nothing is printed.
GenerationResult answer(Session& session, Conversation& conversation, const Tokenizer& tokenizer,
                        Sampler& sampler, size_t max_tokens);

/// Why an answer ended, in the words of chat programming interfaces: "stop" (the model had
/// finished), "length" (`max_tokens`), or "interrupted" (Ctrl-C).
std::string_view finish_reason_name(FinishReason reason);

/// The session in a snapshot and the conversation that was saved with it. Throws `Error` as
/// `Session::load` does.
Session load_session(const Engine& engine, const std::string& path, Conversation& conversation);

/// Says what a session that was loaded cannot go on with: what its sampler knew.
void tell_what_snapshots_lack(const SamplingOptions& sampling);

}  // namespace restkv::cli
