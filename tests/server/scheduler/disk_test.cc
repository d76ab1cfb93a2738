// Sequences and documents that outlive the scheduler.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "restkv/engine.h"
#include "server/scheduler/cache_file.h"
#include "server/scheduler/scheduler_test.h"
#include "server/scheduler/session_key.h"

namespace restkv::server::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChildFolder = "RESTKV_TEST_CACHE_FOLDER";
constexpr const char* kChildSeed = "RESTKV_TEST_CACHE_SEED";

class DiskTest : public SchedulerTest {
 protected:
  static SessionOptions options_of_session() {
    SessionOptions options = session("snapkv", 60);
    options.interval = 8;
    options.sparse = parse_sparse("flexprefill:gamma=0.8");
    return options;
  }

  SchedulerOptions options() {
    SchedulerOptions options;
    options.session = options_of_session();
    options.cache_dir = folder();
    options.error_log = [this](std::string_view message) {
      const std::scoped_lock lock(mutex_);
      log_.emplace_back(message);
    };
    return options;
  }

  [[nodiscard]] std::string folder() { return temporary_.file("cache"); }
  /// What was logged since the last call.
  [[nodiscard]] std::vector<std::string> log() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(log_, {});
  }
  [[nodiscard]] std::vector<fs::path> files() {
    std::vector<fs::path> result;
    for (const auto& each : fs::directory_iterator(folder())) {
      if (each.path().extension() == ".snapshot") result.push_back(each.path());
    }
    std::ranges::sort(result);
    return result;
  }

  /// A prompt, or one that goes on with an answer to an earlier one.
  static Request turn(size_t seed, const std::vector<int32_t>& before = {}) {
    std::vector<int32_t> prompt = before;
    const std::vector<int32_t> more = text(90, seed);
    prompt.insert(prompt.end(), more.begin(), more.end());
    return request(prompt, 12);
  }
  static std::shared_ptr<Recorder> ask(Scheduler& scheduler, const Request& asked) {
    Sent sent = send(scheduler, asked);
    sent.recorder->wait();
    EXPECT_TRUE(sent.recorder->answer().result)
        << (sent.recorder->answer().error ? sent.recorder->answer().error->what() : "");
    return sent.recorder;
  }
  static std::vector<int32_t> with_answer(const Request& asked, Recorder& recorder) {
    std::vector<int32_t> tokens = asked.prompt;
    const std::vector<int32_t>& answer = recorder.answer().tokens;
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    return tokens;
  }
  static void wait_until_ready(Scheduler& scheduler, const DocumentId& id) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (scheduler.document(id)->state == DocumentInfo::State::kReading &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  restkv::testing::TemporaryFolder temporary_;
  std::mutex mutex_;
  std::vector<std::string> log_;
};

TEST_F(DiskTest, ARestartGoesOnAsIfNothingHadHappened) {
  std::vector<int32_t> in_memory;
  std::vector<std::vector<int32_t>> before;
  {
    SchedulerOptions without = options();
    without.cache_dir.clear();
    Scheduler scheduler(model(), tokenizer(), without);
    const Request first = turn(1);
    const auto heard = ask(scheduler, first);
    in_memory = ask(scheduler, turn(2, with_answer(first, *heard)))->answer().tokens;
  }
  Request second;
  {
    Scheduler scheduler(model(), tokenizer(), options());
    const Request first = turn(1);
    second = turn(2, with_answer(first, *ask(scheduler, first)));
    (void)ask(scheduler, turn(3));
    scheduler.shutdown(std::chrono::seconds(5));
    EXPECT_EQ(scheduler.status().disk.saved, 2U);
    EXPECT_EQ(scheduler.status().disk.files, 2U);
  }
  ASSERT_EQ(files().size(), 2U);
  {
    Scheduler scheduler(model(), tokenizer(), options());
    const auto heard = ask(scheduler, second);
    EXPECT_EQ(heard->answer().usage->cached_tokens, 90U + 11);
    EXPECT_EQ(heard->answer().tokens, in_memory);
    // Now it is in memory: no second look at the disk.
    (void)ask(scheduler, second);
    // Others do not fit.
    Request other = second;
    other.session = options_of_session();
    other.session->compression.budget = 61;
    EXPECT_EQ(ask(scheduler, other)->answer().usage->cached_tokens, 0U);
    other = turn(2, turn(3).prompt);
    other.reuse = false;
    EXPECT_EQ(ask(scheduler, other)->answer().usage->cached_tokens, 0U);
    scheduler.shutdown(std::chrono::seconds(5));
    EXPECT_EQ(scheduler.status().disk.hits, 1U);
    EXPECT_EQ(scheduler.status().prefix_hits, 2U);
  }
  EXPECT_EQ(log(), std::vector<std::string>());
}

TEST_F(DiskTest, WhatFallsOutOfMemoryComesBack) {
  SchedulerOptions few = options();
  few.max_kept = 1;
  Scheduler scheduler(model(), tokenizer(), few);
  std::vector<Request> more;
  for (size_t seed = 1; seed <= 6; ++seed) {
    const Request first = turn(seed);
    more.push_back(turn(seed + 10, with_answer(first, *ask(scheduler, first))));
  }
  // All at once: each waits for its own file, and others are written meanwhile.
  std::vector<Sent> sent;
  for (const Request& each : more) sent.push_back(send(scheduler, each));
  for (const Sent& each : sent) {
    each.recorder->wait();
    EXPECT_EQ(each.recorder->answer().usage->cached_tokens, 90U + 11);
  }
  scheduler.shutdown(std::chrono::seconds(5));
  EXPECT_GE(scheduler.status().disk.hits, 5U);
  EXPECT_EQ(scheduler.status().disk.dropped, 0U);
  EXPECT_EQ(files().size(), 12U);
}

TEST_F(DiskTest, LittleMemoryIsEnough) {
  SchedulerOptions small = options();
  small.session.compression = default_options("full");
  small.session.interval = 0;
  // A prompt of 1,000 tokens fits beside little else.
  const auto fits = [&](size_t limit) {
    small.memory_limit = limit;
    small.cache_dir.clear();
    Scheduler scheduler(model(), tokenizer(), small);
    try {
      (void)scheduler.submit(request(text(1000, 1), 8));
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  size_t limit = 1'000'000;
  while (!fits(limit)) limit += 250'000;
  small.memory_limit = limit + 250'000;
  small.cache_dir = folder();
  Scheduler scheduler(model(), tokenizer(), small);
  std::vector<Sent> sent;
  std::vector<Request> requests;
  for (size_t i = 0; i < 9; ++i) {
    requests.push_back(request(text(1000, 1 + i % 3), i < 3 ? 0 : 8));
    sent.push_back(send(scheduler, requests.back()));
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    sent[i].recorder->wait();
    const Heard& heard = sent[i].recorder->answer();
    ASSERT_TRUE(heard.result) << heard.error->what();
    EXPECT_EQ(heard.tokens, expected(requests[i], small.session).tokens) << i;
  }
  scheduler.shutdown(std::chrono::seconds(5));
  EXPECT_GT(scheduler.status().disk.hits, 0U);
  EXPECT_GT(scheduler.status().evictions, 0U);
  EXPECT_EQ(scheduler.status().failed, 0U);
}

TEST_F(DiskTest, DocumentsStayUntilTheyAreRemoved) {
  const std::vector<int32_t> document = text(400, 1);
  std::vector<DocumentId> ids;
  std::vector<int32_t> in_memory;
  Request asked = turn(5);
  {
    Scheduler scheduler(model(), tokenizer(), options());
    for (size_t i = 0; i < 3; ++i) {
      auto reading = std::make_shared<Recorder>();
      ids.push_back(scheduler.add_document(text(400, i + 1), {}, reading));
      reading->wait();
      EXPECT_TRUE(scheduler.document(ids.back())->saved);
      EXPECT_EQ(files().size(), i + 1) << "it is told when it is on the disk";
    }
    asked.document = ids[0];
    in_memory = ask(scheduler, asked)->answer().tokens;
    scheduler.remove_document(ids[1]);
    // It is saved at once, not only at the end.
    asked.document = ids[2];
    (void)ask(scheduler, asked);
    scheduler.shutdown(std::chrono::seconds(5));
    EXPECT_EQ(scheduler.status().disk.saved, 3U + 2);
  }
  Scheduler scheduler(model(), tokenizer(), options());
  ASSERT_EQ(scheduler.documents().size(), 2U);
  EXPECT_FALSE(scheduler.document(ids[1]));
  DocumentInfo info = *scheduler.document(ids[0]);
  EXPECT_EQ(info.tokens, 400U);
  EXPECT_TRUE(info.saved);
  EXPECT_EQ(info.kept, 60U);
  EXPECT_EQ(info.kv_bytes, model().config().kv_bytes(60));
  EXPECT_EQ(session_key(info.session), session_key(options_of_session()));
  asked.document = ids[0];
  asked.reuse = false;
  EXPECT_EQ(ask(scheduler, asked)->answer().tokens, in_memory);
  wait_until_ready(scheduler, ids[0]);
  info = *scheduler.document(ids[0]);
  EXPECT_EQ(info.state, DocumentInfo::State::kReady);
  EXPECT_EQ(info.done, 1);
  const DocumentId added = scheduler.add_document(document);
  EXPECT_EQ(std::ranges::count(ids, added), 0);
  EXPECT_TRUE(scheduler.remove_document(ids[0]));
  EXPECT_TRUE(scheduler.remove_document(ids[2]));
  EXPECT_TRUE(scheduler.remove_document(added));
  scheduler.shutdown(std::chrono::seconds(5));
  for (const fs::path& file : files()) {
    EXPECT_EQ(file.filename().string().find("document"), std::string::npos) << file;
  }
  EXPECT_EQ(log(), std::vector<std::string>());
}

TEST_F(DiskTest, ThatDoNotFitIntoMemoryAreListedWithTheReason) {
  DocumentId id;
  {
    SchedulerOptions full = options();
    full.session = session("full", 0);
    Scheduler scheduler(model(), tokenizer(), full);
    id = scheduler.add_document(text(2000, 1));
    scheduler.shutdown(std::chrono::seconds(5));
  }
  SchedulerOptions small = options();
  small.memory_limit = 1;
  Scheduler scheduler(model(), tokenizer(), small);
  const DocumentInfo info = *scheduler.document(id);
  EXPECT_EQ(info.state, DocumentInfo::State::kFailed);
  EXPECT_NE(info.error.find("memory_limit"), std::string::npos) << info.error;
  scheduler.shutdown(std::chrono::seconds(5));
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(DiskTest, TheOldestFilesGoFirst) {
  SchedulerOptions limited = options();
  size_t of_one = 0;
  {
    Scheduler scheduler(model(), tokenizer(), limited);
    (void)ask(scheduler, turn(1));
    scheduler.shutdown(std::chrono::seconds(5));
    of_one = scheduler.status().disk.bytes;
    EXPECT_EQ(of_one, fs::file_size(files()[0]));
  }
  limited.cache_size = of_one * 7 / 2;
  limited.max_kept = 1;
  {
    Scheduler scheduler(model(), tokenizer(), limited);
    for (const size_t seed : {2, 3, 1, 4, 5}) {
      Request first = turn(seed);
      first.generation.max_tokens = 0;
      (void)ask(scheduler, first);
    }
    scheduler.shutdown(std::chrono::seconds(5));
    EXPECT_LE(scheduler.status().disk.bytes, limited.cache_size);
  }
  size_t bytes = 0;
  for (const fs::path& file : files()) bytes += fs::file_size(file);
  EXPECT_LE(bytes, limited.cache_size);
  {
    Scheduler scheduler(model(), tokenizer(), limited);
    for (const size_t seed : {5, 4, 2}) {
      Request again = turn(seed);
      again.generation.max_tokens = 1;
      EXPECT_EQ(ask(scheduler, again)->answer().usage->cached_tokens, seed == 2 ? 0U : 90U) << seed;
    }
  }
  // A smaller limit takes effect at the beginning.
  limited.cache_size = of_one * 3 / 2;
  Scheduler scheduler(model(), tokenizer(), limited);
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(DiskTest, OneFolderIsForOneScheduler) {
  auto first = std::make_unique<Scheduler>(model(), tokenizer(), options());
  try {
    const Scheduler second(model(), tokenizer(), options());
    FAIL() << "the folder was shared";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find(folder()), std::string::npos) << error.what();
  }
  first.reset();
  const Scheduler second(model(), tokenizer(), options());
  SchedulerOptions no_folder = options();
  no_folder.cache_dir = "/proc/none";
  EXPECT_THROW(Scheduler(model(), tokenizer(), no_folder), Error);
  SchedulerOptions no_room = options();
  no_room.cache_size = 0;
  EXPECT_THROW(Scheduler(model(), tokenizer(), no_room), Error);
}

TEST_F(DiskTest, FilesThatCannotBeTrustedAreSkipped) {
  std::vector<Request> more;
  DocumentId id;
  {
    Scheduler scheduler(model(), tokenizer(), options());
    for (size_t seed = 1; seed <= 4; ++seed) {
      const Request first = turn(seed);
      more.push_back(turn(seed + 10, with_answer(first, *ask(scheduler, first))));
    }
    id = scheduler.add_document(text(300, 9));
    scheduler.shutdown(std::chrono::seconds(5));
  }
  const auto path_of = [&](size_t i) {
    CacheFileName name;
    name.model = model().config().fingerprint;
    name.key = hash_of(session_key(options_of_session()));
    name.tokens = 90 + 11;
    name.content = PrefixHashes(more[i].prompt).of(name.tokens);
    const fs::path path = fs::path(folder()) / name.text();
    EXPECT_TRUE(fs::exists(path)) << path;
    return path;
  };
  const std::vector<fs::path> paths = {path_of(0), path_of(1), path_of(2), path_of(3)};
  const auto file_of = [&](size_t i) { return paths[i]; };
  fs::resize_file(file_of(0), fs::file_size(file_of(0)) - 7);  // torn
  {
    std::fstream file(file_of(1), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(fs::file_size(file_of(1)) - 300));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(fs::file_size(file_of(1)) - 300));
    file.put(static_cast<char>(byte ^ 1));  // shows only in the checksum
  }
  fs::copy_file(file_of(3), file_of(2), fs::copy_options::overwrite_existing);  // another's
  const fs::path of_newer = file_of(3);
  {
    std::fstream file(of_newer, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(8);
    file.put(99);  // the version
  }
  std::ofstream(fs::path(folder()) / "notes.txt") << "mine";
  std::ofstream(fs::path(folder()) / "restkv-sequence-12.snapshot") << "mine, too";
  CacheFileName other_model;
  other_model.model = 1;
  other_model.document = "doc-1";
  std::ofstream(fs::path(folder()) / other_model.text()) << "of another model";
  (void)log();

  Scheduler scheduler(model(), tokenizer(), options());
  const std::vector<std::string> at_start = log();
  const auto says = [&](const std::vector<std::string>& all, const std::string& part) {
    return std::ranges::any_of(
        all, [&](const std::string& one) { return one.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(says(at_start, "was it copied in full"));
  EXPECT_TRUE(says(at_start, "not what its name says"));
  EXPECT_TRUE(says(at_start, "newer version"));
  EXPECT_TRUE(says(at_start, "notes.txt") || says(at_start, "restkv-sequence-12"));
  EXPECT_TRUE(says(at_start, "another model"));
  EXPECT_EQ(at_start.size(), 5U);
  for (const Request& each : more) {
    const auto heard = ask(scheduler, each);
    EXPECT_EQ(heard->answer().usage->cached_tokens, 0U);
    EXPECT_EQ(heard->answer().tokens, expected(each, options_of_session()).tokens);
  }
  EXPECT_TRUE(says(log(), "checksum"));
  Request about = turn(7);
  about.document = id;
  EXPECT_EQ(ask(scheduler, about)->answer().usage->cached_tokens, 300U);
  EXPECT_FALSE(fs::exists(file_of(0)) && fs::file_size(file_of(0)) < 1000);
  EXPECT_TRUE(fs::exists(of_newer));
  EXPECT_TRUE(fs::exists(fs::path(folder()) / "notes.txt"));
  EXPECT_TRUE(fs::exists(fs::path(folder()) / "restkv-sequence-12.snapshot"));
  EXPECT_TRUE(fs::exists(fs::path(folder()) / other_model.text()));
}

TEST_F(DiskTest, AFullDiskIsSaidOnce) {
  SchedulerOptions few = options();
  few.max_kept = 1;
  Scheduler scheduler(model(), tokenizer(), few);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  for (size_t seed = 1; seed <= 4; ++seed) (void)ask(scheduler, turn(seed));
  auto reading = std::make_shared<Recorder>();
  const DocumentId document = scheduler.add_document(text(400, 1), {}, reading);
  reading->wait();
  EXPECT_EQ(scheduler.document(document)->state, DocumentInfo::State::kReady);
  EXPECT_FALSE(scheduler.document(document)->saved);
  EXPECT_TRUE(scheduler.remove_document(document));
  scheduler.shutdown(std::chrono::seconds(5));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(scheduler.status().disk.saved, 0U);
  EXPECT_EQ(scheduler.status().disk.dropped, 5U);
  EXPECT_EQ(scheduler.status().disk.bytes, 0U);
  EXPECT_EQ(scheduler.status().failed, 0U);
  const std::vector<std::string> said = log();
  ASSERT_EQ(said.size(), 1U);
  EXPECT_NE(said[0].find("ulimit -f"), std::string::npos) << said[0];
  EXPECT_TRUE(files().empty());
}

TEST_F(DiskTest, CancelledRequestsAndAHurriedEndLeaveNothingBehind) {
  std::vector<Request> more;
  {
    Scheduler scheduler(model(), tokenizer(), options());
    for (size_t seed = 1; seed <= 3; ++seed) {
      const Request first = turn(seed);
      more.push_back(turn(seed + 10, with_answer(first, *ask(scheduler, first))));
    }
  }
  for (size_t round = 0; round < 10; ++round) {
    Scheduler scheduler(model(), tokenizer(), options());
    std::vector<Sent> sent;
    for (const Request& each : more) sent.push_back(send(scheduler, each));
    scheduler.cancel(sent[round % 3].id);
    if (round % 2 == 0) scheduler.shutdown(std::chrono::milliseconds(round));
    for (const Sent& each : sent) each.recorder->wait();
  }
  EXPECT_EQ(log(), std::vector<std::string>());
}

TEST_F(DiskTest, NamesOfFilesAreReadAsTheyAreWritten) {
  CacheFileName name;
  name.model = 0x12;
  name.key = UINT64_MAX;
  name.tokens = 4711;
  name.content = 5;
  const std::string text = name.text();
  ASSERT_TRUE(CacheFileName::parse(text));
  EXPECT_EQ(CacheFileName::parse(text)->text(), text);
  EXPECT_EQ(CacheFileName::parse(text)->tokens, 4711U);
  name.document = "doc-12";
  ASSERT_TRUE(CacheFileName::parse(name.text()));
  EXPECT_EQ(CacheFileName::parse(name.text())->document, "doc-12");
  for (const std::string& bad :
       {std::string(), text + "x", "x" + text, text.substr(1), std::string(".snapshot"),
        std::string("restkv-document-0000000000000012-.snapshot"),
        std::string("restkv-document-0000000000000012-a/b.snapshot"),
        std::string("restkv-document-0000000000000012-..snapshot"),
        std::string("restkv-sequence-0000000000000012-00000000000000ff-+1-0000000000000005"
                    ".snapshot"),
        std::string("restkv-sequence-0000000000000012-00000000000000FF-1-0000000000000005"
                    ".snapshot")}) {
    EXPECT_FALSE(CacheFileName::parse(bad)) << bad;
  }
}

/// A process that saves all the time, until it is killed.
class KilledTest : public DiskTest {
 protected:
  void save_for_ever(const char* folder);
};

void KilledTest::save_for_ever(const char* folder) {
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);  // it ends with the test at the latest
  SchedulerOptions few = options();
  few.cache_dir = folder;
  few.max_kept = 1;
  Scheduler scheduler(model(), tokenizer(), few);
  (void)scheduler.add_document(text(300, 9));
  const size_t own = std::stoul(std::getenv(kChildSeed));
  for (size_t i = 0;; ++i) {
    (void)ask(scheduler, turn(1 + i % 5));
    (void)ask(scheduler, turn(own + i % 20));
  }
}

TEST_F(KilledTest, LeavesAFolderThatServes) {
  // This program starts itself.
  if (const char* const given = std::getenv(kChildFolder)) save_for_ever(given);
  std::vector<Request> more;
  std::vector<std::vector<int32_t>> answers;
  for (size_t seed = 1; seed <= 5; ++seed) {
    Request first = turn(seed);
    std::vector<int32_t> tokens = first.prompt;
    const GenerationResult answer = expected(first, options_of_session());
    tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
    more.push_back(turn(seed + 10, tokens));
  }
  {
    SchedulerOptions without = options();
    without.cache_dir.clear();
    Scheduler scheduler(model(), tokenizer(), without);
    for (size_t i = 0; i < 5; ++i) {
      (void)ask(scheduler, turn(i + 1));
      answers.push_back(ask(scheduler, more[i])->answer().tokens);
    }
  }
  // Where a file was cut is chance; the seed makes the times the same.
  std::mt19937 random(7);
  size_t hits = 0;
  size_t unfinished = 0;
  for (size_t round = 0; round < 20; ++round) {
    std::string variables[] = {std::string(kChildFolder) + "=" + folder(),
                               std::string(kChildSeed) + "=" + std::to_string(20 + round * 20)};
    std::vector<char*> environment;
    for (char** each = environ; *each != nullptr; ++each) environment.push_back(*each);
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    std::string self = fs::read_symlink("/proc/self/exe").string();
    std::string filter = "--gtest_filter=KilledTest.LeavesAFolderThatServes";
    std::string quiet = "--gtest_brief=1";
    char* const arguments[] = {self.data(), filter.data(), quiet.data(), nullptr};
    pid_t child = 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ASSERT_EQ(posix_spawn(&child, self.c_str(), &actions, nullptr, arguments, environment.data()),
              0);
    posix_spawn_file_actions_destroy(&actions);
    // From its first new file on: before, there is nothing to break.
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    const size_t before = fs::exists(folder()) ? files().size() : 0;
    while ((!fs::exists(folder()) || files().size() <= before) &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 150));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself";
    for (const auto& each : fs::directory_iterator(folder())) {
      unfinished += each.path().extension() == ".part" ? 1 : 0;
    }

    Scheduler scheduler(model(), tokenizer(), options());
    for (size_t i = 0; i < 5; ++i) {
      const auto heard = ask(scheduler, more[i]);
      if (heard->answer().usage->cached_tokens == 0) continue;
      ++hits;
      EXPECT_EQ(heard->answer().tokens, answers[i]) << round;
    }
    for (const DocumentInfo& document : scheduler.documents()) {
      wait_until_ready(scheduler, document.id);
      EXPECT_EQ(scheduler.document(document.id)->state, DocumentInfo::State::kReady);
      if (round % 4 == 3) scheduler.remove_document(document.id);
    }
    scheduler.shutdown(std::chrono::seconds(5));
    EXPECT_EQ(log(), std::vector<std::string>()) << round;
    // Sometimes they begin with nothing.
    if (round % 5 == 4) {
      for (const fs::path& file : files()) fs::remove(file);
    }
  }
  EXPECT_GT(hits, 0U);  // how many depends on the speed of the machine
  RecordProperty("unfinished", static_cast<int>(unfinished));
}

}  // namespace
}  // namespace restkv::server::testing
