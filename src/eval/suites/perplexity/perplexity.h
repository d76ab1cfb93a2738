#pragma once

#include <span>
#include <string_view>

#include "eval/suite.h"

namespace restkv::eval {

/// The loss of a text's next tokens after a long prompt.
Suite perplexity_suite();

/// The figures of one answer to a `kContinue` sample: mean loss ("nll") and number of tokens.
Scores loss_scores(const Answer& answer);
/// "perplexity" and "nll" (natural logarithm, per token) over all tokens of all samples.
Scores summarize_losses(std::string_view task, std::span<const Scores> samples);

}  // namespace restkv::eval
