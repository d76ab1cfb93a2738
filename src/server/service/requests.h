#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "generate/grammar.h"
#include "server/http/responder.h"
#include "server/openai/answer_options.h"
#include "server/openai/answer_parts.h"
#include "server/service/answer_writer.h"
#include "server/service/service.h"

/// From a client's request to the scheduler's: what all routes that answer have in common.
namespace restkv::server {

/// Throws `HttpError` (400, context_length_exceeded) with both counts if a prompt leaves no room
/// for an answer.
void require_context(const Service& service, size_t tokens, const AnswerOptions& answer,
                     const char* param);
/// The same for a prompt of `least` tokens or more.
void require_least_context(const Service& service, size_t least, const AnswerOptions& answer,
                           const char* param);
/// The same for a text that cannot fit, before the time is spent to encode it.
void require_context(const Service& service, std::string_view text, const AnswerOptions& answer,
                     const char* param);
Request request_of(const Service& service, const AnswerOptions& answer,
                   std::vector<int32_t> tokens);
/// Every answer follows the grammar.
void constrain(const Service& service, Request& request, const GrammarOptions& grammar);
AnswerStamp stamp_of(const Service& service, std::string_view id_prefix);
/// Hands over to the scheduler and answers. Throws what it refuses.
void submit(Service& service, const AnswerStamp& stamp, std::vector<Request> requests,
            std::unique_ptr<AnswerWriter> writer, bool stream, Responder responder);

}  // namespace restkv::server
