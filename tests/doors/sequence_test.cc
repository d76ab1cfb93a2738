#include "doors/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "generate/document_prompt.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/text_model.h"

namespace restkv::doors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kContext = 4096;

class DoorSequenceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    text_model = std::make_unique<testing::TextModel>(kContext);
    loaded = std::make_shared<const LoadedModel>(text_model->model.path(), ModelOptions{}, 2);
  }
  static void TearDownTestSuite() {
    loaded.reset();
    text_model.reset();
  }

  static std::shared_ptr<Sequence> begin(const SequenceSettings& settings = {}) {
    std::vector<std::string> notices;
    return Sequence::begin(loaded, settings, notices);
  }
  static GenerationResult answer(const std::shared_ptr<Sequence>& sequence, size_t max_tokens) {
    GenerationOptions options;
    options.max_tokens = max_tokens;
    Answer answer(sequence, options);
    std::string text;
    while (const auto piece = answer.next()) text += *piece;
    EXPECT_EQ(text, answer.result().text);
    return answer.result();
  }
  template <class Call>
  static std::string refused(Call&& call) {
    return testing::refusal(ErrorCode::kInvalidArgument, std::forward<Call>(call));
  }

  static std::unique_ptr<testing::TextModel> text_model;
  static std::shared_ptr<const LoadedModel> loaded;
};
std::unique_ptr<testing::TextModel> DoorSequenceTest::text_model;
std::shared_ptr<const LoadedModel> DoorSequenceTest::loaded;

TEST_F(DoorSequenceTest, ConversationsAreThoseOfTheLibrary) {
  const auto sequence = begin({.method = "snapkv", .budget = "64", .system = "You are brief."});
  const Engine engine(text_model->model);
  SessionOptions options;
  options.compression = default_options("snapkv");
  options.compression.budget = 64;
  Session session(engine, options);
  Conversation conversation(text_model->tokenizer, "You are brief.");
  for (const char* question : {"Who was there?", "And when?"}) {
    const std::string text = testing::numbers_text(60, 3) + question;
    sequence->ask(text);
    const GenerationResult actual = answer(sequence, 8);

    session.append(conversation.ask(text).tokens);
    GenerationOptions generation;
    generation.max_tokens = 8;
    const GenerationResult expected = generate(session, text_model->tokenizer, generation);
    conversation.answer(expected.text, {expected.tokens.back()});
    session.compress();
    EXPECT_EQ(actual.tokens, expected.tokens);
    EXPECT_EQ(sequence->stats().tokens, session.tokens());
    EXPECT_EQ(sequence->logits(), std::vector(session.logits().begin(), session.logits().end()));
  }
}

TEST_F(DoorSequenceTest, DocumentsAreReadOnceAndAskedInForks) {
  const std::string document = testing::numbers_text(200, 1);
  const auto sequence = begin({.method = "snapkv", .budget = "25%"});
  sequence->read_document(document);
  const DocumentPrompt prompt(text_model->tokenizer);
  const size_t tokens = prompt.document(document).size();
  EXPECT_EQ(sequence->stats().tokens, tokens);
  EXPECT_TRUE(sequence->stats().is_document);
  EXPECT_DOUBLE_EQ(sequence->stats().kept, static_cast<double>(tokens / 4));

  const std::shared_ptr<Sequence> first = sequence->fork();
  const std::shared_ptr<Sequence> second = sequence->fork();
  first->ask("Who?");
  second->ask("Who?");
  EXPECT_EQ(answer(first, 5).tokens, answer(second, 5).tokens);
  // Nothing of the document makes room for the question.
  EXPECT_DOUBLE_EQ(first->stats().kept - sequence->stats().kept,
                   static_cast<double>(first->stats().tokens - tokens));
  EXPECT_EQ(sequence->stats().tokens, tokens);
  EXPECT_THAT(refused([&] { first->ask("When?"); }), HasSubstr("fork"));
  EXPECT_THAT(refused([&] { sequence->read_document("more"); }), HasSubstr("new sequence"));
}

TEST_F(DoorSequenceTest, SharesOfShortTextsAreNotTooSmall) {
  const auto note = begin({.method = "kvzip", .budget = "10%"});
  note->read_document("The meeting was moved to Thursday.");
  EXPECT_DOUBLE_EQ(note->stats().kept, static_cast<double>(note->stats().tokens));
  const auto page = begin({.method = "snapkv", .budget = "1%"});
  page->read_document(testing::numbers_text(200, 1));
  EXPECT_DOUBLE_EQ(page->stats().kept, kLeastShare);
}

TEST_F(DoorSequenceTest, MethodsThatRepeatThePromptKnowTheTemplate) {
  const auto sequence = begin({.method = "kvzip", .budget = "50%"});
  sequence->read_document(testing::numbers_text(100, 1));
  EXPECT_LT(sequence->stats().kept, static_cast<double>(sequence->stats().tokens) * 0.51);
}

TEST_F(DoorSequenceTest, BareTokensGoOnAfterAnAnswer) {
  const std::vector<int32_t> tokens =
      text_model->tokenizer.encode(testing::numbers_text(40, 2), true, false);
  const auto sequence = begin();
  sequence->append(tokens);
  const GenerationResult written = answer(sequence, 4);
  sequence->append(std::vector<int32_t>{7, 8});

  const auto whole = begin();
  std::vector<int32_t> all = tokens;
  all.insert(all.end(), written.tokens.begin(), written.tokens.end());
  all.insert(all.end(), {7, 8});
  whole->append(all);
  EXPECT_EQ(sequence->stats().tokens, whole->stats().tokens);
  EXPECT_THAT(refused([&] { sequence->ask("Who?"); }), HasSubstr("bare tokens"));
}

TEST_F(DoorSequenceTest, PiecesAreWholeAndAnswersCanBeStopped) {
  const auto sequence = begin();
  sequence->ask("Count.");
  GenerationOptions options;
  options.max_tokens = 50;
  Answer answer(sequence, options);
  ASSERT_TRUE(answer.next());
  EXPECT_THAT(refused([&] { sequence->ask("More?"); }), HasSubstr("being written"));
  EXPECT_THAT(refused([&] { (void)sequence->fork(); }), HasSubstr("being written"));
  EXPECT_THAT(refused([&] { Answer another(sequence, options); }), HasSubstr("being written"));
  answer.stop();
  EXPECT_EQ(answer.result().finish_reason, FinishReason::kCancelled);
  EXPECT_FALSE(answer.next());
  sequence->ask("More?");
}

TEST_F(DoorSequenceTest, AnswersEndWhereTheContextDoes) {
  const auto sequence = begin({.method = "full"});
  std::vector<int32_t> tokens(kContext - 3, 17);
  sequence->append(tokens);
  const GenerationResult result = answer(sequence, 20);
  EXPECT_LE(result.tokens.size(), 3U);
}

TEST_F(DoorSequenceTest, FailedPromptsLeaveASequenceAsItWas) {
  const auto stop_in_the_middle = [](double done) { return done < 0.4; };
  const std::string text = testing::numbers_text(300, 5);
  const auto sequence = begin();
  testing::refusal(ErrorCode::kInterrupted, [&] { sequence->ask(text, stop_in_the_middle); });
  EXPECT_EQ(sequence->stats().tokens, 0U);
  sequence->ask("Who?");
  answer(sequence, 3);
  const std::vector<float> before = sequence->logits();
  testing::refusal(ErrorCode::kInterrupted, [&] { sequence->ask(text, stop_in_the_middle); });
  EXPECT_EQ(sequence->logits(), before);
  const std::shared_ptr<Sequence> other = sequence->fork();
  sequence->ask("When?");
  other->ask("When?");
  EXPECT_EQ(sequence->logits(), other->logits());

  const auto document = begin();
  document->read_document(text);
  const size_t tokens = document->stats().tokens;
  testing::refusal(ErrorCode::kInterrupted, [&] { document->ask(text, stop_in_the_middle); });
  EXPECT_EQ(document->stats().tokens, tokens);
  document->ask("Who?");
}

TEST_F(DoorSequenceTest, AllKindsAreSavedAndLoaded) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.file("saved.rkv");
  const auto reloaded = [&](const std::shared_ptr<Sequence>& sequence) {
    sequence->save(path);
    return std::shared_ptr<Sequence>(Sequence::load(loaded, path));
  };
  const auto chat = begin();
  chat->ask("Who?");
  answer(chat, 3);
  const auto chat_again = reloaded(chat);
  chat->ask("When?");
  chat_again->ask("When?");
  EXPECT_EQ(chat->logits(), chat_again->logits());

  const auto document = begin({.system = "You are brief."});
  document->read_document(testing::numbers_text(30, 1));
  const auto document_again = reloaded(document);
  document->ask("Who?");
  document_again->ask("Who?");
  EXPECT_EQ(document->logits(), document_again->logits());
  EXPECT_THAT(refused([&] { reloaded(document)->ask("When?"); }), HasSubstr("fork"));

  const auto tokens = begin();
  tokens->append(std::vector<int32_t>{3, 4, 5});
  answer(tokens, 3);
  const auto tokens_again = reloaded(tokens);
  tokens->append(std::vector<int32_t>{6});
  tokens_again->append(std::vector<int32_t>{6});
  EXPECT_EQ(tokens->logits(), tokens_again->logits());

  EXPECT_THAT(refused([&] { begin()->save(path); }), HasSubstr("nothing has been read"));
  testing::refusal(ErrorCode::kInput, [&] { Sequence::load(loaded, folder.file("none")); });
}

TEST_F(DoorSequenceTest, SeveralAnswersAreWrittenTogether) {
  std::vector<std::shared_ptr<Sequence>> sequences;
  std::vector<std::unique_ptr<Answer>> answers;
  std::vector<std::string> alone;
  for (size_t i = 0; i < Engine::kMaxBatch + 3; ++i) {  // more than fit at a time
    sequences.push_back(begin());
    sequences.back()->ask(testing::numbers_text(5 + i, i));
    const std::shared_ptr<Sequence> copy = sequences.back()->fork();
    GenerationOptions options;
    options.max_tokens = 1 + i % 4;
    alone.push_back(answer(copy, options.max_tokens).text);
    answers.push_back(std::make_unique<Answer>(sequences.back(), options));
  }
  std::vector<std::string> texts(answers.size());
  Answer::write_together(answers, [&](size_t i, std::string_view text) {
    texts[i] += text;
    return true;
  });
  EXPECT_EQ(texts, alone);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_TRUE(answers[i]->ended());
    EXPECT_EQ(answers[i]->result().text, alone[i]);
    sequences[i]->ask("More?");
  }
}

TEST_F(DoorSequenceTest, AnswersWrittenTogetherCanBeStopped) {
  const auto sequence = begin();
  sequence->ask("Count.");
  std::vector<std::unique_ptr<Answer>> answers;
  GenerationOptions options;
  options.max_tokens = 100;
  answers.push_back(std::make_unique<Answer>(sequence, options));
  Answer::write_together(answers, [&](size_t, std::string_view) { return false; });
  EXPECT_EQ(answers[0]->result().finish_reason, FinishReason::kCancelled);
  sequence->ask("More?");
}

TEST_F(DoorSequenceTest, TokensAreAppendedTogether) {
  const auto one = begin();
  const auto two = begin();
  one->append(std::vector<int32_t>{3, 4, 5});
  two->append(std::vector<int32_t>{6, 7});
  const std::shared_ptr<Sequence> alone = one->fork();
  alone->append(std::vector<int32_t>{9});
  const std::vector<Sequence*> both{one.get(), two.get()};
  Sequence::append_together(both, std::vector<int32_t>{9, 10});
  EXPECT_EQ(one->logits(), alone->logits());
  EXPECT_EQ(two->stats().tokens, 3U);
}

TEST_F(DoorSequenceTest, TwoThreadsAreOneTooMany) {
  const auto sequence = begin();
  std::string other;
  sequence->ask(testing::numbers_text(50, 1), [&](double) {
    if (other.empty()) {
      std::thread([&] { other = refused([&] { sequence->ask("Who?"); }); }).join();
      EXPECT_THAT(refused([&] { (void)sequence->logits(); }), HasSubstr("in use"));
    }
    return true;
  });
  EXPECT_THAT(other, HasSubstr("in use"));
}

TEST_F(DoorSequenceTest, SequencesOutliveTheirModelsOwner) {
  auto model = std::make_shared<const LoadedModel>(text_model->model.path(), ModelOptions{}, 1);
  std::vector<std::string> notices;
  const std::shared_ptr<Sequence> sequence = Sequence::begin(model, {}, notices);
  model.reset();
  sequence->ask("Who?");
  EXPECT_FALSE(answer(sequence, 2).tokens.empty());
}

TEST_F(DoorSequenceTest, ForkedProcessesAreToldToLoadAnew) {
  const auto sequence = begin();
  sequence->ask("Who?");
  shared_threads();
  const pid_t child = fork();
  if (child == 0) {
    // No assertions here: they would be those of a second test program.
    const auto is_refused = [&](const auto& call) {
      try {
        call();
      } catch (const Error& e) {
        return std::string(e.what()).find("after the fork") != std::string::npos;
      }
      return false;
    };
    bool well = is_refused([&] { sequence->ask("When?"); });
    well = well && is_refused([&] { begin(); });
    well = well && shared_threads()->threads() > 0;
    { const LoadedModel anew(text_model->model.path(), ModelOptions{}, 2); }
    loaded.reset();  // its threads are not here to be waited for
    _exit(well ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(DoorSequenceTest, MessagesOfAWholeChatAreRead) {
  const std::vector<ChatMessage> messages{
      {"user", "Who?"}, {"assistant", "Ada."}, {"user", "When?"}};
  const auto sequence = begin();
  sequence->read_chat(messages);
  const auto tokens =
      text_model->tokenizer.encode(text_model->tokenizer.format_chat(messages), true);
  EXPECT_EQ(sequence->stats().tokens, tokens.size());
  EXPECT_THAT(refused([&] { begin()->read_chat({}); }), HasSubstr("no messages"));
  EXPECT_THAT(refused([&] { sequence->read_chat(messages); }), HasSubstr("new sequence"));
  EXPECT_THAT(refused([&] { begin({.system = "x"})->read_chat(messages); }), HasSubstr("among"));
}

}  // namespace
}  // namespace restkv::doors
