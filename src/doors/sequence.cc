#include "doors/sequence.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/json.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "doors/refuse.h"
#include "engine/kept_tokens.h"
#include "generate/batch.h"
#include "generate/document_prompt.h"
#include "restkv/compress.h"
#include "restkv/error.h"

namespace restkv::doors {
namespace {

/// Pools of the process that this one was forked from: their threads are not here, so that nobody
/// may wait for their end.
void abandon(std::shared_ptr<ThreadPool> pool) {
  static std::mutex mutex;
  static auto* const abandoned = new std::vector<std::shared_ptr<ThreadPool>>;
  const std::scoped_lock lock(mutex);
  abandoned->push_back(std::move(pool));
}

struct SharedThreads {
  std::mutex mutex;
  std::shared_ptr<ThreadPool> pool;
  pid_t process = 0;
};

/// Never destroyed, because a program may end while its threads compute.
SharedThreads& shared() {
  static SharedThreads* const threads = [] {
    auto* made = new SharedThreads;
    // A child must not find the mutex locked by a thread that it does not have.
    static SharedThreads* here = made;
    pthread_atfork([] { here->mutex.lock(); }, [] { here->mutex.unlock(); },
                   [] { here->mutex.unlock(); });
    return made;
  }();
  return *threads;
}

/// Fields of what is saved with a sequence that is no conversation.
constexpr const char* kUnread = "unread";
constexpr const char* kDocument = "document";
constexpr const char* kSystem = "system";
constexpr const char* kAsked = "asked";

}  // namespace

std::shared_ptr<ThreadPool> shared_threads() {
  SharedThreads& threads = shared();
  const std::scoped_lock lock(threads.mutex);
  const pid_t process = getpid();
  if (threads.process != process) {
    if (threads.pool) abandon(std::move(threads.pool));
    threads.pool = std::make_shared<ThreadPool>();
    threads.process = process;
  }
  return threads.pool;
}

void set_shared_threads(int threads) {
  auto pool = std::make_shared<ThreadPool>(threads);
  SharedThreads& all = shared();
  const std::scoped_lock lock(all.mutex);
  const pid_t process = getpid();
  if (all.pool && all.process != process) abandon(std::move(all.pool));
  all.pool = std::move(pool);
  all.process = process;
}

// ---- LoadedModel -------------------------------------------------------------------------------

LoadedModel::LoadedModel(const std::string& path, const ModelOptions& options, int threads)
    : pool_(std::make_shared<ThreadPool>(threads)), process_(getpid()) {
  const UseThreads use(*pool_);
  model_ = std::make_unique<Model>(path, options);
  engine_ = std::make_unique<Engine>(*model_, pool_);
}

LoadedModel::~LoadedModel() {
  if (getpid() != process_) abandon(pool_);
}

const Tokenizer& LoadedModel::tokenizer() const {
  const std::scoped_lock lock(tokenizer_mutex_);
  if (!tokenizer_) tokenizer_ = std::make_unique<Tokenizer>(model_->path());
  return *tokenizer_;
}

void LoadedModel::require_same_process() const {
  if (getpid() == process_) return;
  refuse(
      fmt::format("{} was loaded by process {}, which has forked this one, {}: its threads are "
                  "not here; load the model after the fork",
                  model_->path(), process_, getpid()));
}

// ---- Sequence ----------------------------------------------------------------------------------

/// The right to use a sequence while it exists.
class Sequence::Use {
 public:
  enum class By { kCaller, kAnswer };
  explicit Use(const Sequence& sequence, By by = By::kCaller) : sequence_(sequence) {
    sequence.model_->require_same_process();
    if (sequence.busy_.exchange(true)) {
      refuse(
          "this sequence is in use by another call, which is not over yet; use it from one "
          "thread at a time, or a fork for each");
    }
    if (by == By::kCaller && sequence.answering_) {
      sequence.busy_ = false;
      refuse("an answer of this sequence is being written; read it to its end or stop it first");
    }
  }
  ~Use() { sequence_.busy_ = false; }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  const Sequence& sequence_;
};

Sequence::Sequence(std::shared_ptr<const LoadedModel> model, Session session)
    : model_(std::move(model)), session_(std::move(session)) {}

Sequence::~Sequence() = default;

std::unique_ptr<Sequence> Sequence::begin(std::shared_ptr<const LoadedModel> model,
                                          const SequenceSettings& settings,
                                          std::vector<std::string>& notices) {
  model->require_same_process();
  GivenSequence given = resolve(settings);
  const std::string system = to_utf8(settings.system, "the system message");
  if (!system.empty() && !model->tokenizer().has_chat_template()) {
    refuse(fmt::format("a system message needs a chat template, which {} does not have",
                       model->model().path()));
  }
  if (repeat_chunk(given.options.compression) > 0) {
    given.options.repeat = DocumentPrompt(model->tokenizer(), system).repeat_prompt();
  }
  Session session(model->engine(), given.options);
  std::unique_ptr<Sequence> sequence(new Sequence(std::move(model), std::move(session)));
  sequence->share_ = given.share;
  sequence->system_ = system;
  std::ranges::move(given.notices, std::back_inserter(notices));
  return sequence;
}

void Sequence::read(std::vector<int32_t> tokens, const ProgressCallback& progress) {
  tokens.insert(tokens.begin(), unread_.begin(), unread_.end());
  if (session_.tokens() == 0) {
    if (share_) session_.set_budget(std::max(kLeastShare, share_->of(tokens.size())));
    try {
      session_.append(tokens, progress);
    } catch (...) {
      session_ = Session(model_->engine(), session_.options());
      throw;
    }
  } else if (tokens.size() == 1) {
    session_.append(tokens.front());
  } else {
    Session before = session_.fork();
    try {
      session_.append(tokens, progress);
    } catch (...) {
      session_ = std::move(before);
      throw;
    }
  }
  unread_.clear();
}

Conversation Sequence::new_conversation() const {
  const Tokenizer& tokenizer = model_->tokenizer();
  return tokenizer.has_chat_template() ? Conversation(tokenizer, system_)
                                       : Conversation::plain_text(tokenizer, false);
}

void Sequence::append(std::span<const int32_t> tokens, const ProgressCallback& progress) {
  const Use use(*this);
  if (!std::holds_alternative<std::monostate>(content_)) {
    refuse("this sequence has messages, which bare tokens cannot follow; ask it, or begin another");
  }
  if (!system_.empty()) {
    refuse("the system message has no effect on bare tokens; leave it out, or read messages");
  }
  read({tokens.begin(), tokens.end()}, progress);
}

void Sequence::read_document(const std::string& text, const ProgressCallback& progress) {
  const Use use(*this);
  if (!is_empty()) refuse("a document stands at the beginning; read it into a new sequence");
  const DocumentPrompt prompt(model_->tokenizer(), system_);
  read(prompt.document(to_utf8(text, "the document")), progress);
  content_ = Document{system_};
}

void Sequence::read_chat(std::span<const ChatMessage> messages, const ProgressCallback& progress) {
  const Use use(*this);
  if (!is_empty()) refuse("messages stand at the beginning; read them into a new sequence");
  if (!system_.empty()) refuse("the system message is among the messages; leave the option out");
  if (messages.empty()) refuse("there are no messages; give one of the user at least");
  const Tokenizer& tokenizer = model_->tokenizer();
  read(tokenizer.encode(tokenizer.format_chat(messages), true), progress);
}

void Sequence::ask(const std::string& text, const ProgressCallback& progress) {
  const Use use(*this);
  const std::string said = to_utf8(text, "the message");
  if (auto* document = std::get_if<Document>(&content_)) {
    if (document->asked) {
      refuse("this document was asked already; ask each question of a fork");
    }
    const DocumentPrompt prompt(model_->tokenizer(), document->system);
    // What the document keeps is decided: question and answer come on top of it.
    Session before = session_.fork();
    session_.reserve(model_->model().config().context_length);
    try {
      read(prompt.question(said), progress);
    } catch (...) {
      session_ = std::move(before);
      throw;
    }
    document->asked = true;
    return;
  }
  if (std::holds_alternative<std::monostate>(content_) && !is_empty()) {
    refuse(
        "this sequence has bare tokens, which no message can follow; append tokens, or begin "
        "another");
  }
  Conversation conversation = std::holds_alternative<Conversation>(content_)
                                  ? std::get<Conversation>(content_)
                                  : new_conversation();
  const Conversation::Turn turn = conversation.ask(said);
  if (turn.from_the_start && session_.tokens() > 0) {
    // The chat template rewrites what was said: all is read again.
    Session before = std::exchange(session_, Session(model_->engine(), session_.options()));
    try {
      read(turn.tokens, progress);
    } catch (...) {
      session_ = std::move(before);
      throw;
    }
  } else {
    read(turn.tokens, progress);
  }
  content_ = std::move(conversation);
}

std::unique_ptr<Sequence> Sequence::fork() const {
  const Use use(*this);
  std::unique_ptr<Sequence> copy(new Sequence(model_, session_.fork()));
  copy->share_ = share_;
  copy->system_ = system_;
  copy->content_ = content_;
  copy->unread_ = unread_;
  return copy;
}

std::string Sequence::note() const {
  if (const auto* conversation = std::get_if<Conversation>(&content_)) {
    return conversation->to_json();
  }
  Json note = Json::object({{kUnread, unread_}});
  if (const auto* document = std::get_if<Document>(&content_)) {
    note[kDocument] = Json::object({{kSystem, document->system}, {kAsked, document->asked}});
  }
  return note.dump();
}

void Sequence::save(const std::string& path) const {
  const Use use(*this);
  if (session_.tokens() == 0) {
    refuse(fmt::format("{}: nothing has been read that could be saved", path));
  }
  session_.save(path, note());
}

std::unique_ptr<Sequence> Sequence::load(std::shared_ptr<const LoadedModel> model,
                                         const std::string& path) {
  model->require_same_process();
  std::string note;
  Session session = Session::load(model->engine(), path, &note);
  std::unique_ptr<Sequence> loaded(new Sequence(std::move(model), std::move(session)));
  if (note.empty()) return loaded;
  try {
    const Json json = parse_json(note);
    if (!json.contains(kUnread) || json.contains("messages")) {
      Conversation conversation = loaded->new_conversation();
      conversation.from_json(note);
      loaded->content_ = std::move(conversation);
      return loaded;
    }
    const size_t vocabulary = loaded->model_->model().config().vocabulary;
    for (const Json& token : list_field(json, kUnread)) {
      loaded->unread_.push_back(token.get<int32_t>());
      const int32_t id = loaded->unread_.back();
      if (id < 0 || static_cast<size_t>(id) >= vocabulary) {
        throw Error(ErrorCode::kInput, fmt::format("token {} is outside the vocabulary", id));
      }
    }
    if (json.contains(kDocument)) {
      const Json& document = object_field(json, kDocument);
      loaded->system_ = text_field(document, kSystem);
      loaded->content_ = Document{loaded->system_, bool_field(document, kAsked)};
    }
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", path, e.what()));
  }
  return loaded;
}

void Sequence::compress() {
  const Use use(*this);
  session_.compress();
}

void Sequence::set_budget(int budget) {
  const Use use(*this);
  session_.set_budget(budget);
  share_.reset();
}

Sequence::Stats Sequence::stats() const {
  const Use use(*this, Use::By::kAnswer);
  const ModelConfig& config = model_->model().config();
  return {.tokens = session_.tokens(),
          .kept = tokens_held(session_.cache(), config),
          .kv_bytes = session_.cache().kept_bytes(),
          .full_kv_bytes = config.kv_bytes(session_.tokens()),
          .allocated_bytes = session_.allocated_bytes(),
          .compress_seconds = session_.compress_seconds(),
          .is_document = std::holds_alternative<Document>(content_),
          .is_conversation = std::holds_alternative<Conversation>(content_)};
}

std::vector<float> Sequence::logits() const {
  const Use use(*this, Use::By::kAnswer);
  return {session_.logits().begin(), session_.logits().end()};
}

void Sequence::append_together(std::span<Sequence* const> sequences,
                               std::span<const int32_t> tokens) {
  std::vector<std::unique_ptr<Use>> uses;
  std::vector<Session*> sessions;
  for (Sequence* sequence : sequences) {
    uses.push_back(std::make_unique<Use>(*sequence));
    if (!std::holds_alternative<std::monostate>(sequence->content_)) {
      refuse("a sequence has messages, which bare tokens cannot follow");
    }
    if (!sequence->unread_.empty()) sequence->read({}, {});
    sessions.push_back(&sequence->session_);
  }
  Session::append_together(sessions, tokens);
}

// ---- Answer ------------------------------------------------------------------------------------

Answer::Answer(std::shared_ptr<Sequence> sequence, GenerationOptions options)
    : sequence_(std::move(sequence)) {
  Sequence& s = *sequence_;
  const Sequence::Use use(s);
  if (s.is_empty()) refuse("nothing has been read that an answer could follow");
  if (!s.unread_.empty()) s.read({}, {});
  const size_t room = s.session_.room_after(0).value_or(0);
  options.max_tokens = std::min(options.max_tokens, room);
  options.min_tokens = std::min(options.min_tokens, options.max_tokens);
  options.on_text = [this](std::string_view text) {
    piece_ += text;
    return true;
  };
  generation_.emplace(s.model_->tokenizer(), std::move(options));
  read_ = s.session_.tokens();
  s.answering_ = true;
}

Answer::~Answer() {
  try {
    stop();
  } catch (...) {
    // A destructor has nobody to tell; the sequence refuses its next use for the same reason.
    sequence_->answering_ = false;
  }
}

void Answer::finish() {
  Sequence& s = *sequence_;
  const GenerationResult& written = generation_->result();
  const double seconds = result_.seconds;
  const size_t steps = result_.steps;
  result_ = written;
  result_.seconds = seconds;
  result_.steps = steps;
  ended_ = true;
  s.answering_ = false;
  const auto fed = static_cast<std::ptrdiff_t>(s.session_.tokens() - read_);
  std::vector<int32_t> pending(written.tokens.begin() + fed, written.tokens.end());
  if (auto* conversation = std::get_if<Conversation>(&s.content_)) {
    conversation->answer(result_.text, std::move(pending));
    s.session_.compress();
  } else {
    s.unread_ = std::move(pending);
  }
}

std::optional<std::string> Answer::next() {
  if (ended_) return std::nullopt;
  Sequence& s = *sequence_;
  const Sequence::Use use(s, Sequence::Use::By::kAnswer);
  piece_.clear();
  try {
    while (piece_.empty()) {
      const std::optional<int32_t> token = generation_->next(s.session_.logits());
      if (!token) {
        finish();
        break;
      }
      const Stopwatch watch;
      s.session_.append(*token);
      result_.seconds += watch.seconds();
      ++result_.steps;
    }
  } catch (...) {
    if (!ended_) finish();
    throw;
  }
  if (piece_.empty()) return std::nullopt;
  return std::exchange(piece_, {});
}

void Answer::stop() {
  if (ended_) return;
  const Sequence::Use use(*sequence_, Sequence::Use::By::kAnswer);
  finish();
  result_.finish_reason = FinishReason::kCancelled;
}

void Answer::write_together(std::span<const std::unique_ptr<Answer>> answers,
                            const std::function<bool(size_t, std::string_view)>& on_text) {
  std::vector<std::unique_ptr<Sequence::Use>> uses;
  for (const auto& answer : answers) {
    uses.push_back(std::make_unique<Sequence::Use>(*answer->sequence_, Sequence::Use::By::kAnswer));
    if (answer->sequence_->model_ != answers[0]->sequence_->model_) {
      refuse("answers that are written together need sequences of one model");
    }
  }
  std::vector<float> logits;
  std::vector<std::pair<size_t, Batch::Cost>> ended;
  Batch batch(
      [&](std::span<const int32_t> tokens, std::span<const size_t> members) {
        std::vector<Session*> sessions;
        for (const size_t member : members) {
          sessions.push_back(&answers[member]->sequence_->session_);
        }
        Session::append_together(sessions, tokens);
        logits.clear();
        for (const Session* session : sessions) {
          logits.insert(logits.end(), session->logits().begin(), session->logits().end());
        }
        return Matrix<const float>(logits.data(), tokens.size(), logits.size() / tokens.size());
      },
      [&](size_t member, const Batch::Cost& cost) { ended.emplace_back(member, cost); });

  const auto end_all = [&](FinishReason reason) {
    for (const auto& answer : answers) {
      if (answer->ended_) continue;
      answer->finish();
      answer->result_.finish_reason = reason;
    }
  };
  try {
    size_t begun = 0;
    bool go_on = true;
    while (go_on && (begun < answers.size() || !batch.empty())) {
      if (begun < answers.size() && batch.size() < Engine::kMaxBatch) {
        const size_t member = begun++;
        Answer& answer = *answers[member];
        if (answer.ended_) continue;
        batch.join(member, *answer.generation_, answer.sequence_->session_.logits());
      } else {
        batch.step();
      }
      for (size_t i = 0; i < begun && go_on; ++i) {
        const std::string piece = std::exchange(answers[i]->piece_, {});
        if (!piece.empty()) go_on = on_text(i, piece);
      }
      for (const auto& [member, cost] : std::exchange(ended, {})) {
        Answer& answer = *answers[member];
        answer.result_.seconds = cost.seconds;
        answer.result_.steps = cost.steps;
        answer.finish();
      }
    }
    end_all(FinishReason::kCancelled);
  } catch (...) {
    end_all(FinishReason::kCancelled);
    throw;
  }
}

}  // namespace restkv::doors
