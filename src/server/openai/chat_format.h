#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/grammar.h"
#include "restkv/tokenizer.h"
#include "server/openai/chat_answer.h"
#include "server/openai/chat_request.h"

/// Chats in a model's own words, and back: its template (Jinja), its way to call tools. All of
/// libllama-common that the server uses is behind this header.
namespace restkv::server {

/// How what the model writes is to be read.
struct ChatSyntax;

/// A chat that a model can go on with.
struct ChatPrompt {
  ChatText text;
  std::optional<GrammarOptions> grammar;  ///< What the answer has to follow.
  std::vector<std::string> stops;         ///< Ends of a turn beside the vocabulary's own.
  std::vector<int32_t> written_tokens;    ///< `GenerationOptions::written_tokens`
  std::shared_ptr<const ChatSyntax> syntax;
};

/// The template of a model. May be used by several threads at the same time.
class ChatFormat {
 public:
  /// The file's template. `tokenizer` must outlive it. Throws `Error` (kUnsupported) if there is
  /// none, or one that is no Jinja.
  explicit ChatFormat(const Tokenizer& tokenizer);
  /// Another template in its place.
  ChatFormat(const Tokenizer& tokenizer, const std::string& chat_template,
             const std::string& begin_text, const std::string& end_text);
  ~ChatFormat();

  /// Tools are described and called in the template's way, or, if it has none or the messages
  /// describe them, in that of `with_tools_as_text`. Throws `HttpError` (400) if the template
  /// refuses the messages, or if the schema, the grammar or a tool's parameters cannot be turned
  /// into a grammar (`param` says which).
  [[nodiscard]] ChatPrompt render(const Chat& asked) const;
  /// What the prompt has at least, found without writing it: to write thousands of messages takes
  /// seconds.
  [[nodiscard]] size_t least_tokens(const Chat& chat) const;

  [[nodiscard]] const std::string& source() const;  ///< The template's text.
  /// Whether the template knows of reasoning.
  [[nodiscard]] bool thinks() const;
  /// Whether the template describes tools and has a form for their calls.
  [[nodiscard]] bool knows_tools() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What the file's template says as the system message of a chat that has none ("You are a helpful
/// AI assistant named SmolLM ..."). Empty: it says nothing, or not as a message, or there is no
/// template that can be used.
std::string default_system_message(const Tokenizer& tokenizer);

/// Reads one answer while it is written.
class ChatParser {
 public:
  /// `make_id`: ids for calls of tools, where the model gives none.
  ChatParser(std::shared_ptr<const ChatSyntax> syntax, std::function<std::string()> make_id);
  ~ChatParser();
  ChatParser(ChatParser&&) noexcept;
  ChatParser& operator=(ChatParser&&) noexcept;

  /// What has become certain with some more text (whole characters).
  ChatDelta push(std::string_view text);
  /// The rest, if the text ends here. What is no proper call of a tool is content.
  ChatDelta end();
  /// All that `push` and `end` gave; without logprobs.
  [[nodiscard]] const ChatAnswer& answer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::server
