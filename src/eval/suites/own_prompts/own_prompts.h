#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// A user's own records, one JSON object per line of the file that `SuiteOptions::data` names:
///
///   text | token_ids   the prompt; token ids are used unchanged, and a text gets the chat template
///                      if the run uses one
///   answers            a text or a list of texts, for `metric`
///   metric             string_match_all (default), string_match_part, or one of LongBench's:
///                      qa_f1, rouge_l, classification, count, retrieval, code_sim
///   all_classes        for classification: the classes, a list of texts
///   max_new_tokens     default 64
///   stop               a list of texts; the answer ends before the first of them
///   continuation_ids   instead of answers: the loss of these tokens after the prompt
///   id, task, length, depth   names for reports; records of one task and length are one task
///
/// Other fields are ignored.
Suite own_prompts_suite();

}  // namespace restkv::eval
