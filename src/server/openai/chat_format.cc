#include "server/openai/chat_format.h"

#include <chat.h>
#include <fmt/format.h>
#include <llama.h>
#include <log.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <iterator>
#include <limits>
#include <mutex>
#include <utility>

#include "base/text.h"
#include "model/chat_template.h"
#include "model/control_tokens.h"
#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/openai/call_grammar.h"
#include "server/openai/call_reader.h"
#include "server/openai/field_reader.h"
#include "server/openai/generic_tools.h"
#include "server/openai/library_reason.h"
#include "server/openai/reasoning.h"
#include "server/openai/schema_grammar.h"
#include "server/openai/schema_limits.h"

namespace restkv::server {
namespace {

/// libllama-common would write to the server's standard error what it makes of a client's request.
void silence_log() {
  static std::once_flag once;
  std::call_once(once, [] { common_log_set_verbosity_thold(-1); });
}

/// `check`; what the library refuses is an error of the field `param`.
void of_field(const std::string& param, auto&& check) {
  try {
    check();
  } catch (const Error& error) {
    throw http_error(error, param);
  }
}

common_chat_tool_choice choice_of(const Chat& chat) {
  switch (chat.tool_choice) {
    case ToolChoice::kRequired:
      return COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    case ToolChoice::kNone:
      return COMMON_CHAT_TOOL_CHOICE_NONE;
    case ToolChoice::kAuto:
      break;
  }
  return COMMON_CHAT_TOOL_CHOICE_AUTO;
}

common_chat_msg message_of(const Message& message) {
  common_chat_msg out;
  out.role = message.role;
  out.content = message.content;
  out.reasoning_content = message.reasoning;
  out.tool_name = message.name;
  out.tool_call_id = message.tool_call_id;
  for (const ToolCall& call : message.tool_calls) {
    out.tool_calls.push_back({call.name, call.arguments, call.id});
  }
  return out;
}

common_chat_templates_inputs inputs_of(const Chat& chat) {
  common_chat_templates_inputs inputs;
  for (const Message& message : chat.messages) inputs.messages.push_back(message_of(message));
  for (const Tool& tool : chat.tools) {
    inputs.tools.push_back({tool.name, tool.description, tool.parameters.dump()});
  }
  inputs.tool_choice = choice_of(chat);
  inputs.parallel_tool_calls = chat.parallel_tool_calls.value_or(false);
  inputs.add_generation_prompt = chat.add_generation_prompt;
  inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  for (const auto& [name, value] : chat.template_variables.items()) {
    inputs.chat_template_kwargs[name] = value.dump();
  }
  inputs.enable_thinking = chat.template_variables.value("enable_thinking", true);
  return inputs;
}

/// `thinks`: the template knows of reasoning, and the client wants it.
AnswerBeginning beginning_of(const common_chat_params& params, const std::string& begun,
                             bool thinks) {
  AnswerBeginning beginning{.begun = begun};
  if (!begun.empty()) return beginning;
  ThoughtTags tags;
  if (!params.thinking_start_tag.empty()) tags.open = params.thinking_start_tag;
  if (!params.thinking_end_tags.empty()) tags.close = params.thinking_end_tags.front();
  beginning.is_inside_thought = trimmed(params.generation_prompt).ends_with(tags.open);
  if (thinks || beginning.is_inside_thought) beginning.thought = tags;
  return beginning;
}

std::string escaped_for_regex(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("[.^$|()*+?]{}\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string whole_pattern(const std::string& pattern) {
  if (pattern.empty()) return "^$";
  return (pattern.front() == '^' ? "" : "^") + pattern + (pattern.back() == '$' ? "" : "$");
}

}  // namespace

struct ChatSyntax {
  /// Calls of tools, and reasoning in a form of its own; otherwise <think> is all there is.
  bool has_parser = false;
  common_chat_parser_params parser;
  bool begins_inside = false;  ///< The prompt has opened the reasoning.
  /// Calls of tools where the template knows none; at their beginning.
  std::optional<CallReader> calls;
};

struct ChatFormat::Impl {
  explicit Impl(const Tokenizer& t) : tokenizer(t) {}

  [[nodiscard]] common_chat_params apply(const common_chat_templates_inputs& inputs) const {
    try {
      return common_chat_templates_apply(templates.get(), inputs);
    } catch (const std::exception& e) {
      throw HttpError(
          400, fmt::format("the model's chat template refuses these messages: {}", short_reason(e)),
          {.param = "messages"});
    }
  }
  [[nodiscard]] ChatText located(const common_chat_templates_inputs& inputs,
                                 std::string prompt) const;
  void refuse_control_beside_contents(const Chat& chat) const;
  [[nodiscard]] GrammarOptions grammar_of(const common_chat_params& params,
                                          const std::string& generation_prompt) const;
  [[nodiscard]] bool holds_control(const std::string& text) const {
    return !control->find(text).empty();
  }

  const Tokenizer& tokenizer;
  common_chat_templates_ptr templates;
  std::string source;
  std::optional<ControlTokens> control;
  bool thinks = false;
  bool knows_tools = false;
  /// That the template writes around a message of user or assistant, at least.
  size_t turn_tokens = 0;

  /// Tried, too: what two more turns add, without their contents ("x").
  [[nodiscard]] size_t tried_turn_tokens() const {
    const auto tokens_of = [&](size_t turns) {
      common_chat_templates_inputs inputs;
      for (size_t i = 0; i < turns; ++i) {
        inputs.messages.push_back(
            message_of({.role = i % 2 == 0 ? "user" : "assistant", .content = "x"}));
      }
      const std::string prompt = common_chat_templates_apply(templates.get(), inputs).prompt;
      return tokenizer.encode(prompt, false, true).size();
    };
    try {
      const size_t three = tokens_of(3);
      const size_t five = tokens_of(5);
      const size_t around = five >= three + 4 ? (five - three) / 2 - 1 : 0;
      // White space of a content may become one token with what stands on either side of it.
      return around == 0 ? 0 : std::max<size_t>(around, 3) - 2;
    } catch (const std::exception&) {
      return 0;
    }
  }

  /// Tried: what a template does not say it knows, libllama-common may know of it, and a template
  /// that describes tools may have no form for calls.
  [[nodiscard]] bool tried_tools() const {
    constexpr const char* kName = "restkv_tool";
    common_chat_templates_inputs inputs;
    inputs.messages.push_back(message_of({.role = "user", .content = "x"}));
    inputs.tools.push_back({kName, "x", R"({"type": "object", "properties": {}})"});
    inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    try {
      const common_chat_params params = common_chat_templates_apply(templates.get(), inputs);
      return !params.grammar.empty() && params.prompt.find(kName) != std::string::npos;
    } catch (const std::exception&) {
      return false;
    }
  }

  void open(const std::string& chat_template, const std::string& begin, const std::string& end) {
    silence_log();
    control.emplace(llama_model_get_vocab(tokenizer.native()));
    try {
      templates = common_chat_templates_init(chat_template.empty() ? tokenizer.native() : nullptr,
                                             chat_template, begin, end);
      source = common_chat_templates_source(templates.get());
      thinks = common_chat_templates_support_enable_thinking(templates.get());
    } catch (const std::exception& e) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("the model's chat template ('tokenizer.chat_template') cannot be "
                              "used: {}",
                              short_reason(e)));
    }
    knows_tools = tried_tools();
    turn_tokens = tried_turn_tokens();
  }
};

ChatFormat::ChatFormat(const Tokenizer& tokenizer) : impl_(std::make_unique<Impl>(tokenizer)) {
  if (!tokenizer.has_chat_template()) {
    throw Error(ErrorCode::kUnsupported,
                "the model has no chat template ('tokenizer.chat_template'; a base model?); ask "
                "for completions of plain text");
  }
  impl_->open("", "", "");
}

ChatFormat::ChatFormat(const Tokenizer& tokenizer, const std::string& chat_template,
                       const std::string& begin_text, const std::string& end_text)
    : impl_(std::make_unique<Impl>(tokenizer)) {
  impl_->open(chat_template, begin_text, end_text);
}

ChatFormat::~ChatFormat() = default;

const std::string& ChatFormat::source() const { return impl_->source; }
bool ChatFormat::thinks() const { return impl_->thinks; }
bool ChatFormat::knows_tools() const { return impl_->knows_tools; }

size_t ChatFormat::least_tokens(const Chat& chat) const {
  size_t tokens = 0;
  for (const Message& message : chat.messages) {
    if (message.role == "user" || message.role == "assistant") tokens += impl_->turn_tokens;
    tokens += impl_->tokenizer.least_tokens(message.content);
  }
  return tokens;
}

/// Templates write these in ways of their own, so that nobody can tell them from the template.
void ChatFormat::Impl::refuse_control_beside_contents(const Chat& chat) const {
  const auto check = [&](const std::string& text, const std::string& param) {
    if (!holds_control(text)) return;
    throw HttpError(400,
                    fmt::format("'{}' holds the text of a control token, which only the content "
                                "of a message may hold; take it out",
                                param),
                    {.param = param});
  };
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const Message& message = chat.messages[i];
    const std::string path = item_path("messages", i);
    check(message.reasoning, path + ".reasoning_content");
    check(message.name, path + ".name");
    check(message.tool_call_id, path + ".tool_call_id");
    for (const ToolCall& call : message.tool_calls) {
      for (const std::string* text : {&call.id, &call.name, &call.arguments}) {
        check(*text, path + ".tool_calls");
      }
    }
  }
  for (const Tool& tool : chat.tools) {
    check(tool.description, "tools");
    check(tool.parameters.dump(), "tools");
  }
  check(chat.template_variables.dump(), "chat_template_kwargs");
}

/// Where the contents stand in the prompt. Only asked if one of them looks like a control token,
/// since the template is written once more for it.
ChatText ChatFormat::Impl::located(const common_chat_templates_inputs& inputs,
                                   std::string prompt) const {
  const bool harmless = std::ranges::none_of(
      inputs.messages, [&](const common_chat_msg& m) { return holds_control(m.content); });
  if (harmless) return {.text = std::move(prompt), .contents = {}};
  std::vector<std::string> contents;
  for (const common_chat_msg& message : inputs.messages) contents.push_back(message.content);
  ChatText chat = locate_contents(contents, [&](const std::vector<std::string>& marks) {
    common_chat_templates_inputs marked = inputs;
    for (size_t i = 0; i < marks.size(); ++i) marked.messages[i].content = marks[i];
    return apply(marked).prompt;
  });
  if (chat.text == prompt) return chat;
  throw HttpError(400,
                  "the model's chat template changes a message that holds the text of a control "
                  "token, so that it cannot be told from the template's own; take it out",
                  {.param = "messages"});
}

GrammarOptions ChatFormat::Impl::grammar_of(const common_chat_params& params,
                                            const std::string& generation_prompt) const {
  GrammarOptions grammar{.gbnf = params.grammar, .lazy = params.grammar_lazy};
  const auto single_token = [&](const std::string& word) -> std::optional<int32_t> {
    const auto tokens = tokenizer.encode(word, false, true);
    if (tokens.size() != 1) return std::nullopt;
    return tokens.front();
  };
  for (const common_grammar_trigger& trigger : params.grammar_triggers) {
    switch (trigger.type) {
      case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
        grammar.trigger_tokens.push_back(trigger.token);
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
        if (const auto token = single_token(trigger.value)) {
          grammar.trigger_tokens.push_back(*token);
        } else {
          grammar.trigger_patterns.push_back(escaped_for_regex(trigger.value));
        }
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
        grammar.trigger_patterns.push_back(trigger.value);
        break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
        grammar.trigger_patterns.push_back(whole_pattern(trigger.value));
        break;
    }
  }
  if (grammar.lazy || generation_prompt.empty()) return grammar;
  // The grammar is of the whole turn, which the prompt has begun.
  grammar.read = tokenizer.encode(generation_prompt, false, true);
  const std::string first = tokenizer.piece(grammar.read.front(), true);
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  if (!first.empty() && is_space(first[0]) && !is_space(generation_prompt[0])) {
    grammar.read.erase(grammar.read.begin());  // SentencePiece puts a space before a control token
  }
  return grammar;
}

ChatPrompt ChatFormat::render(const Chat& asked) const {
  impl_->refuse_control_beside_contents(asked);
  const bool may_call_tools = may_call(asked);
  const bool must_call = may_call_tools && asked.tool_choice == ToolChoice::kRequired;
  if (must_call && asked.continue_final_message) {
    throw HttpError(400,
                    "'tool_choice' requires a call of a tool, but the answer goes on with the text "
                    "of the last message; leave one of them out",
                    {.param = "tool_choice"});
  }
  // A template's own form of calls leaves no place for JSON by a schema in their stead.
  const bool by_schema_or_call = may_call_tools && !must_call && asked.schema;
  const bool as_text = !impl_->knows_tools || by_schema_or_call || asked.describes_tools;
  const Chat chat = as_text ? with_tools_as_text(asked) : asked;
  const bool calls = may_call(chat);  // in the template's own form

  common_chat_templates_inputs inputs = inputs_of(chat);
  std::string begun;  // by the client, as the last message
  if (chat.continue_final_message) {
    begun = chat.messages.back().content;
    inputs.messages.pop_back();
    inputs.add_generation_prompt = true;
  }
  if (chat.schema) require_modest_schema(*chat.schema, chat.schema_path);
  for (const Tool& tool : asked.tools) {
    require_modest_schema(tool.parameters, fmt::format("tools.{}", tool.name));
  }
  const bool calls_as_text =
      as_text && may_call_tools && !(asked.schema && chat.continue_final_message);
  const bool thinks = impl_->thinks && inputs.enable_thinking;
  const bool has_parser = begun.empty() && (calls || thinks);
  // To find out how a template calls tools takes longer than all the rest.
  inputs.force_pure_content = !has_parser;
  if (has_parser && !calls_as_text) {
    if (chat.schema && !must_call) inputs.json_schema = chat.schema->dump();
    if (!calls) inputs.grammar = chat.grammar;
  }

  const common_chat_params params = impl_->apply(inputs);
  ChatPrompt prompt;
  prompt.text = impl_->located(inputs, params.prompt);
  prompt.text.text += begun;
  if (!begun.empty()) {
    prompt.text.contents.push_back(
        {prompt.text.text.size() - begun.size(), prompt.text.text.size()});
  }
  prompt.stops = params.additional_stops;
  for (const std::string& text : params.preserved_tokens) {
    const auto tokens = impl_->tokenizer.encode(text, false, true);
    if (tokens.size() == 1) prompt.written_tokens.push_back(tokens.front());
  }
  auto syntax = std::make_shared<ChatSyntax>();
  syntax->has_parser = has_parser;
  std::string param = may_call_tools ? "tools" : chat.schema_path;
  if (calls_as_text) {
    CallForm form = call_form(asked, beginning_of(params, begun, thinks));
    syntax->calls = std::move(form.reader);
    prompt.grammar = GrammarOptions{.gbnf = std::move(form.gbnf)};
  } else if (!chat.grammar.empty() && !calls) {
    param = "grammar";
    prompt.grammar = GrammarOptions{.gbnf = chat.grammar};
  } else if (has_parser && !params.grammar.empty()) {
    prompt.grammar = impl_->grammar_of(params, params.generation_prompt);
  } else if (chat.schema) {
    param = chat.schema_path;
    prompt.grammar = GrammarOptions{.gbnf = grammar_of_schema(*chat.schema, param)};
  }
  // The engine makes it once more for each answer, when it is too late to refuse it.
  if (prompt.grammar) {
    of_field(param, [&] { (void)make_grammar(impl_->tokenizer, *prompt.grammar); });
  }

  syntax->begins_inside = trimmed(params.generation_prompt).ends_with("<think>");
  if (has_parser) {
    syntax->parser = common_chat_parser_params(params);
    syntax->parser.reasoning_format = inputs.reasoning_format;
    syntax->parser.parse_tool_calls = calls;
    if (!params.parser.empty()) syntax->parser.parser.load(params.parser);
  }
  prompt.syntax = std::move(syntax);
  return prompt;
}

std::string default_system_message(const Tokenizer& tokenizer) {
  constexpr std::string_view kMark = "restkv-3c1f92d7";
  if (!tokenizer.has_chat_template()) return {};
  silence_log();
  try {
    const common_chat_templates_ptr templates =
        common_chat_templates_init(tokenizer.native(), "", "", "");
    const auto chat = [&](std::string_view system) {
      common_chat_templates_inputs inputs;
      if (!system.empty()) {
        inputs.messages.push_back(message_of({.role = "system", .content = std::string(system)}));
      }
      inputs.messages.push_back(message_of({.role = "user", .content = "x"}));
      return common_chat_templates_apply(templates.get(), inputs).prompt;
    };
    const std::string marked = chat(kMark);
    const std::string bare = chat("");
    const size_t place = marked.find(kMark);
    if (place == std::string::npos) return {};
    const std::string_view before = std::string_view(marked).substr(0, place);
    const std::string_view behind = std::string_view(marked).substr(place + kMark.size());
    if (bare.size() < before.size() + behind.size() || !bare.starts_with(before) ||
        !bare.ends_with(behind)) {
      return {};
    }
    const size_t size = bare.size() - before.size() - behind.size();
    return std::string(trimmed(bare.substr(before.size(), size)));
  } catch (const std::exception&) {
    return {};
  }
}

struct ChatParser::Impl {
  std::shared_ptr<const ChatSyntax> syntax;
  std::function<std::string()> make_id;
  ReasoningSplitter splitter;
  std::string text;
  size_t next_size = 0;  ///< Of `text`, at which it is parsed again.
  common_chat_msg message;
  std::vector<std::string> ids;
  std::optional<CallReader> calls;  ///< Of `syntax`, as far as it has read.
  ChatAnswer answer;

  ChatDelta parse(bool is_end);
  /// The content, told from calls.
  ChatDelta without_calls(ChatDelta delta, bool is_end) {
    if (!calls) return delta;
    ChatDelta read = calls->push(delta.content, make_id);
    if (is_end) read.content += calls->end().content;
    read.reasoning = std::move(delta.reasoning);
    return read;
  }
  ChatDelta of_parts(ReasoningSplitter::Parts parts) {
    return {.content = std::move(parts.content), .reasoning = std::move(parts.reasoning)};
  }
  ChatDelta add(ChatDelta parsed, bool is_end) {
    ChatDelta delta = without_calls(std::move(parsed), is_end);
    answer.content += delta.content;
    answer.reasoning += delta.reasoning;
    for (const ChatDelta::Call& call : delta.calls) {
      if (call.index >= answer.tool_calls.size()) answer.tool_calls.resize(call.index + 1);
      ToolCall& whole = answer.tool_calls[call.index];
      if (!call.name.empty()) {
        whole.id = call.id;
        whole.name = call.name;
      }
      whole.arguments += call.arguments;
    }
    return delta;
  }
};

ChatParser::ChatParser(std::shared_ptr<const ChatSyntax> syntax,
                       std::function<std::string()> make_id)
    : impl_(std::make_unique<Impl>()) {
  impl_->splitter = ReasoningSplitter(syntax->begins_inside);
  impl_->calls = syntax->calls;
  impl_->syntax = std::move(syntax);
  impl_->make_id = std::move(make_id);
}

ChatParser::~ChatParser() = default;
ChatParser::ChatParser(ChatParser&&) noexcept = default;
ChatParser& ChatParser::operator=(ChatParser&&) noexcept = default;

const ChatAnswer& ChatParser::answer() const { return impl_->answer; }

ChatDelta ChatParser::push(std::string_view text) {
  Impl& p = *impl_;
  if (!p.syntax->has_parser) return p.add(p.of_parts(p.splitter.push(text)), false);
  p.text += text;
  // The parser begins anew each time: a long answer is looked at in larger steps.
  if (p.text.size() < p.next_size) return {};
  p.next_size = p.text.size() + p.text.size() / 1024;
  return p.add(p.parse(false), false);
}

ChatDelta ChatParser::end() {
  Impl& p = *impl_;
  if (p.syntax->has_parser) return p.add(p.parse(true), true);
  return p.add(p.of_parts(p.splitter.end()), true);
}

ChatDelta ChatParser::Impl::parse(bool is_end) {
  ChatDelta delta;
  try {
    common_chat_msg now = common_chat_parse(text, !is_end, syntax->parser);
    now.set_tool_call_ids(ids, make_id);
    for (const common_chat_msg_diff& diff : common_chat_msg_diff::compute_diffs(message, now)) {
      delta.content += diff.content_delta;
      delta.reasoning += diff.reasoning_content_delta;
      if (diff.tool_call_index == std::string::npos) continue;
      delta.calls.push_back({diff.tool_call_index, diff.tool_call_delta.id,
                             diff.tool_call_delta.name, diff.tool_call_delta.arguments});
    }
    message = std::move(now);
  } catch (const std::exception&) {
    // Not what the template calls for: what is said is what was written. While the text is still
    // being written, more of it may show.
    if (!is_end) return {};
    delta = {};
    if (message.empty()) delta = of_parts(split_reasoning(text, syntax->begins_inside));
  }
  return delta;
}

}  // namespace restkv::server
