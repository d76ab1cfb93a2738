#include "cli/session_flags.h"

#include <fmt/format.h>

#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {

void SessionFlags::declare(ArgumentParser& parser) {
  const size_t others = parser.options().size();
  compression_.declare(parser);
  parser.begin_group("Cache");
  parser.add("--kv-type", kv_type_, "how kept keys and values are stored", "f16|f32|q8|q4");
  parser.add("--prefill", prefill_,
             "read prompts whole, or in chunks with the cache cut back after each",
             "whole|chunked");
  Option& chunk_option =
      parser.add("--chunk", chunk_, "tokens per chunk of --prefill chunked", "N");
  chunk_option.rare();
  chunk_option_ = &chunk_option;
  parser
      .add("--decode-interval", interval_,
           "while generating, cut the cache back whenever it holds N tokens more; 0: let it grow",
           "N")
      .rare();
  parser.add("--decode-budget", decode_budget_, "tokens kept while generating; 0: the budget", "N")
      .rare();
  parser
      .add("--positions", positions_,
           "compact: number kept tokens anew after each cut, so that a text may be longer than the "
           "model's context",
           "original|compact")
      .rare();
  const std::vector<const Option*> all = parser.options();
  saved_.assign(all.begin() + static_cast<std::ptrdiff_t>(others), all.end());
  model_.declare(parser);
  parser
      .add(
          "--sparse", sparse_,
          "leave out tiles of attention while prompts are read (restkv methods lists the patterns)",
          "PATTERN[:option=value...]")
      .rare();
  parser
      .add_flag("--sparse-recall", sparse_recall_,
                "measure how much attention the kept tiles hold, for --stats")
      .rare();
}

SparseOptions SessionFlags::sparse() const {
  SparseOptions options = parse_sparse(sparse_);
  options.measure_recall = sparse_recall_;
  if (sparse_recall_ && options.pattern == "dense") {
    throw Error(ErrorCode::kInvalidArgument, "--sparse-recall has no effect without --sparse");
  }
  return options;
}

SessionOptions SessionFlags::session() const {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  SessionOptions options;
  options.compression = compression_.resolve();
  options.kv_type = find_kv_type(kv_type_);
  if (prefill_ == "chunked") {
    if (chunk_ == 0) refuse("--chunk is 0; give the tokens of a chunk, 2048 for instance");
    options.chunk = chunk_;
  } else if (prefill_ != "whole") {
    refuse(fmt::format("--prefill is '{}'; expected whole or chunked", prefill_));
  } else if (chunk_option_->given()) {
    refuse("--chunk has no effect without --prefill chunked");
  }
  if (decode_budget_ != 0 && interval_ == 0) {
    refuse("--decode-budget has no effect without --decode-interval");
  }
  options.sparse = sparse();
  options.interval = interval_;
  options.decode_budget = decode_budget_;
  options.compact_positions = positions_ == "compact";
  if (positions_ != "compact" && positions_ != "original") {
    refuse(fmt::format("--positions is '{}'; expected original or compact", positions_));
  }
  // Some methods share their budget out over all heads unless they are told otherwise.
  if (options.compact_positions && !compression_.gives("allocation")) {
    options.compression.allocation = "uniform";
  }
  if (options.compression.method == "full") {
    for (const Option* option : saved_) {
      const std::string name = option->name();
      if (option->given() &&
          (name == "--decode-interval" || name == "--decode-budget" || name == "--positions")) {
        notice(name + " has no effect on method full, which never cuts the cache");
      }
    }
  }
  return options;
}

std::optional<SessionOptions> SessionFlags::session_for_later_questions() const {
  SessionFlags flags = *this;
  if (!flags.prefer_method(kMethodForLaterQuestions)) return std::nullopt;
  try {
    return flags.session();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
    return std::nullopt;
  }
}

void SessionFlags::check_for_loading() const {
  if (const auto budget = share()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("--budget is {}, but a loaded cache has been cut already; give a number "
                    "of tokens",
                    budget->text()));
  }
  if (compression_.chooses()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--budget is auto, but a loaded cache has been cut already, as it was made to be; "
                "give a number of tokens");
  }
  for (const Option* option : saved_) {
    if (!option->given() || option->name() == "--budget") continue;
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} has no effect on a loaded cache, which keeps the options that it was "
                    "made with but for the budget; leave it out",
                    option->name()));
  }
}

void SessionFlags::change(Session& loaded) const {
  if (const std::optional<int> budget = compression_.budget()) loaded.set_budget(*budget);
  loaded.set_sparse(sparse());
}

}  // namespace restkv::cli
