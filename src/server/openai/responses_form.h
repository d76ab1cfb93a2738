#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/openai/sequential_form.h"

namespace restkv::server {

/// Answers of `POST /v1/responses`. The parts of an answer are items with ids of their own, which
/// are made of the response's. `output_tokens_details.reasoning_tokens` is 0: they are counted as
/// tokens of the answer only. A failed stream ends with response.failed.
class ResponsesForm : public SequentialForm {
 public:
  /// `stamp.id`: "resp_...". `echo`: fields of the request (`ResponsesRequest::echo`).
  /// `with_logprobs`: they were asked for; those of all tokens come with the text.
  ResponsesForm(AnswerStamp stamp, Json echo, bool with_logprobs);

  [[nodiscard]] std::string whole(std::span<const ChatAnswer> answers,
                                  const AnswerTotals& totals) const override;
  std::string begin(const TokenCounts& counts) override;
  std::string finish(size_t choice, FinishReason reason, const AnswerTotals& totals) override;
  std::string fail(const HttpError& error) override;

 protected:
  void add_logprobs(std::span<const NamedLogprob> logprobs) override;
  std::string begin_part(Part part, const ChatDelta::Call& call) override;
  std::string write_part(std::string_view text) override;
  std::string end_part(bool is_cut) override;

 private:
  /// One item of the output.
  struct Item {
    Part part = Part::kText;
    ToolCall call = {};     ///< Its id and its name.
    std::string text = {};  ///< Or a call's arguments.
    std::vector<NamedLogprob> logprobs = {};
  };

  /// One event with its number.
  std::string event(std::string_view type, const Json& fields);
  /// An event about the content of the item that is open; `done`: of all its text.
  std::string part_event(std::string_view type, const Json& fields);
  [[nodiscard]] std::string item_id(Part part, size_t index) const;
  [[nodiscard]] Json item_json(const Item& item, size_t index, const char* status) const;
  [[nodiscard]] Json begun_item_json(const Item& item, size_t index) const;
  [[nodiscard]] Json content_json(const Item& item) const;
  [[nodiscard]] Json response(const char* status, Json output) const;
  [[nodiscard]] Json ended_response(FinishReason reason, Json output,
                                    const AnswerTotals& totals) const;

  AnswerStamp stamp_;
  Json echo_;
  bool with_logprobs_;
  size_t next_event_ = 0;
  Json output_ = Json::array();             ///< Items that have ended.
  Item item_;                               ///< The open one.
  std::vector<NamedLogprob> new_logprobs_;  ///< Not yet written.
};

}  // namespace restkv::server
