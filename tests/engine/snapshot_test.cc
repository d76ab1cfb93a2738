#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/streams.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace restkv {
namespace {

int32_t best(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

/// All logits of an answer, another turn, and the answer to it.
std::vector<std::vector<float>> go_on(Session& session) {
  std::vector<std::vector<float>> logits{copy(session.logits())};
  for (size_t turn = 0; turn < 2; ++turn) {
    for (size_t i = 0; i < 20; ++i) logits.push_back(copy(session.append(best(logits.back()))));
    session.compress();
    logits.push_back(copy(session.append(tokens_of(70, turn + 5))));
  }
  return logits;
}

class SnapshotTest : public ::testing::Test {
 protected:
  SnapshotTest() {
    description_.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  [[nodiscard]] Session session(const SessionOptions& options) const {
    Session session(*model_, options);
    session.append(tokens_of(150, 1));
    for (int32_t token = 0; token < 5; ++token) session.append(token);
    return session;
  }
  static SessionOptions options(const char* method = "restkv") {
    SessionOptions options;
    options.compression = default_options(method);
    options.compression.budget = 60;
    return options;
  }
  /// What is said about a snapshot of these bytes; empty if it is accepted.
  [[nodiscard]] std::string refusal(const std::string& bytes) const {
    write_file_atomically(path_, bytes);
    std::string message = testing::refusal_if_any([&] { (void)Session::load(*model_, path_); });
    EXPECT_TRUE(message.empty() || message.starts_with(path_ + ": ")) << message;
    return message;
  }

  testing::TinyModel description_;
  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
  std::string path_ = folder_.file("session.rkv");
};

TEST_F(SnapshotTest, GoesOnExactlyAsWithout) {
  for (const char* method :
       {"restkv", "full", "streaming-llm", "h2o", "tova", "lacache", "expected-attention"}) {
    for (const char* type : {"f32", "f16", "q8", "q4"}) {
      SCOPED_TRACE(std::string(method) + " " + type);
      SessionOptions o = options(method);
      o.kv_type = find_kv_type(type);
      o.interval = 7;
      Session without = session(o);
      without.save(path_, "a note");
      std::string note;
      Session with = Session::load(*model_, path_, &note);
      EXPECT_EQ(note, "a note");
      EXPECT_EQ(with.tokens(), 155U);
      EXPECT_EQ(with.options().compression.method, method);
      EXPECT_EQ(with.options().interval, 7U);
      EXPECT_EQ(with.cache().kept_bytes(), without.cache().kept_bytes());
      EXPECT_EQ(go_on(with), go_on(without));
    }
  }
}

TEST_F(SnapshotTest, HoldsWindowsRaggedHeadsCompactPositionsAndNothingAtAll) {
  SessionOptions compact = options();
  compact.compact_positions = true;
  SessionOptions ragged = options("snapkv");
  ragged.compression.allocation = "ada";
  SessionOptions per_query_head = options("snapkv");
  per_query_head.compression.per_query_head = true;
  for (const SessionOptions& o : {compact, ragged, per_query_head}) {
    Session without = session(o);
    without.save(path_);
    Session with = Session::load(*model_, path_);
    EXPECT_EQ(go_on(with), go_on(without));
  }

  Session fresh(*model_, options());
  fresh.save(path_);
  Session loaded = Session::load(*model_, path_);
  EXPECT_EQ(loaded.tokens(), 0U);
  EXPECT_EQ(copy(loaded.append(tokens_of(90, 1))), copy(fresh.append(tokens_of(90, 1))));

  testing::TinyModel windowed;
  windowed.architecture = "gemma3";
  windowed.layers = 6;
  windowed.window = 40;
  windowed.write(folder_.file("windowed.gguf"));
  const Model model(folder_.file("windowed.gguf"));
  Session without(model, compact);
  without.append(tokens_of(150, 1));
  without.append(3);
  without.save(path_);
  Session with = Session::load(model, path_);
  EXPECT_EQ(go_on(with), go_on(without));
}

TEST_F(SnapshotTest, RefusesWhatIsCutOrChanged) {
  session(options("h2o")).save(path_, "a note");
  const std::string good = read_file(path_);
  ASSERT_EQ(refusal(good), "");

  std::mt19937_64 random(1);
  std::vector<size_t> lengths{0, 1, 7, 8, 12, 31, 32, 39, 40, 41, good.size() - 8, good.size() - 1};
  for (size_t i = 0; i < 40; ++i) lengths.push_back(random() % good.size());
  for (const size_t length : lengths) EXPECT_NE(refusal(good.substr(0, length)), "") << length;
  EXPECT_NE(refusal(good + '\0'), "");

  // Every byte of the header and of the checksum, and many between.
  std::vector<size_t> places;
  for (size_t i = 0; i < 200; ++i) places.push_back(i);
  for (size_t i = 0; i < 8; ++i) places.push_back(good.size() - 1 - i);
  for (size_t i = 0; i < 200; ++i) places.push_back(random() % good.size());
  for (const size_t place : places) {
    std::string bad = good;
    bad[place] = static_cast<char>(bad[place] ^ static_cast<char>(1U << random() % 8));
    EXPECT_NE(refusal(bad), "") << "byte " << place;
  }
}

TEST_F(SnapshotTest, SaysWhatIsWrong) {
  session(options()).save(path_);
  const std::string cut = path_ + std::string("\0.rkv", 5);  // would name the same file
  EXPECT_THROW(session(options()).save(cut), Error);
  EXPECT_THROW((void)Session::load(*model_, cut), Error);
  const std::string good = read_file(path_);
  const auto expect = [&](const std::string& bytes, const char* what) {
    const std::string message = refusal(bytes);
    EXPECT_NE(message.find(what), std::string::npos) << message;
  };
  expect("", "is empty");
  expect("GGUF" + good, "is not a snapshot");
  expect(good.substr(0, good.size() / 2), "was it copied in full?");
  std::string newer = good;
  newer[8] = 9;
  expect(newer, "has format 9, of a newer version");
  std::string older = good;
  older[8] = 1;
  expect(older, "has format 1, of an older version");
  std::string changed = good;
  changed[good.size() / 2] = static_cast<char>(changed[good.size() / 2] + 1);
  expect(changed, "its checksum does not match");
  EXPECT_THROW((void)Session::load(*model_, folder_.file("absent")), Error);

  write_file_atomically(path_, good);
  const auto foreign = [&](const testing::TinyModel& description, const char* what) {
    description.write(folder_.file("foreign.gguf"));
    const Model model(folder_.file("foreign.gguf"));
    try {
      (void)Session::load(model, path_);
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(path_ + ": belongs to another model"), std::string::npos)
          << e.what();
      EXPECT_NE(std::string(e.what()).find(what), std::string::npos) << e.what();
    }
  };
  testing::TinyModel other;
  other.seed = 2;
  foreign(other, "of the same shape with other weights");
  other.layers = 3;
  foreign(other, "3 layers");
}

// Whoever makes a damaged file with the right checksum gets an error or a session, never a crash.
TEST_F(SnapshotTest, SurvivesDamageThatTheChecksumApproves) {
  session(options("h2o")).save(path_);
  const std::string good = read_file(path_);
  std::mt19937_64 random(2);
  size_t refused = 0;
  for (size_t i = 0; i < 600; ++i) {
    std::string bad = good;
    // Numbers that decide lie in front, and between the arrays.
    const size_t place = 32 + random() % (i % 2 == 0 ? 1500 : good.size() - 40);
    bad[place] = static_cast<char>(random());
    if (i % 3 == 0) bad[std::min(place + 7, good.size() - 9)] = static_cast<char>(0x7F);
    const uint64_t checksum = XXH3_64bits(bad.data(), bad.size() - 8);
    std::memcpy(bad.data() + bad.size() - 8, &checksum, 8);
    if (!refusal(bad).empty()) {
      ++refused;
      continue;
    }
    Session session = Session::load(*model_, path_);
    try {
      session.append(1);
      session.append(tokens_of(70, 3));
    } catch (const Error&) {
    }
  }
  EXPECT_GT(refused, 50U);
  EXPECT_LT(refused, 600U);
}

/// Where the bytes of these numbers stand in a file; they must stand there once.
template <class T>
size_t place_of(const std::string& file, const std::vector<T>& numbers) {
  const std::string bytes(reinterpret_cast<const char*>(numbers.data()),
                          numbers.size() * sizeof(T));
  const size_t place = file.find(bytes);
  EXPECT_NE(place, std::string::npos);
  return place;
}

template <class T>
std::string changed(std::string file, size_t place, T number) {
  std::memcpy(file.data() + place, &number, sizeof(T));
  const uint64_t checksum = XXH3_64bits(file.data(), file.size() - 8);
  std::memcpy(file.data() + file.size() - 8, &checksum, 8);
  return file;
}

TEST_F(SnapshotTest, ReadsTheFormatsBefore) {
  const size_t layers = model_->config().layers;
  const size_t heads = layers * model_->config().kv_heads;
  // Format 4 ends with what a repeat pass has left: of other methods, no words, and no numbers.
  // Behind it format 5 has when the last cut was, and biases: none of each head.
  const auto before = [&](std::string file, uint32_t version) {
    const size_t more = 8 + 8 * heads + (version < 4 ? 1 + 8 * layers : 0);
    file.erase(file.size() - 8 - more, more);
    file = changed<uint32_t>(file, 8, version);
    return changed<uint64_t>(file, 16, file.size());
  };
  // Of methods that remember nothing, other bytes are the same: LaCache's cursor was 0.
  Session now = session(options());
  now.save(path_);
  const std::string saved = read_file(path_);
  for (const uint32_t version : {2, 3, 4}) {
    write_file_atomically(path_, before(saved, version));
    Session loaded = Session::load(*model_, path_);
    Session expected = now.fork();
    EXPECT_EQ(go_on(loaded), go_on(expected));
  }

  // LaCache remembers one number, which had no count before it. It looks at nothing else, so that
  // the state of each layer is three other counts, all 0, and these two.
  now = session(options("lacache"));
  now.save(path_);
  std::string file = before(read_file(path_), 2);
  for (size_t layer = layers; layer-- > 0;) {
    const size_t state = file.size() - 8 - 8 * (layers - 1 - layer) * 4 - 5 * 8;
    uint64_t count = 0;
    std::memcpy(&count, file.data() + state + 24, 8);
    ASSERT_EQ(count, 1U);
    file.erase(state + 24, 8);
  }
  file = changed<uint32_t>(file, 8, 2);
  write_file_atomically(path_, changed<uint64_t>(file, 16, file.size()));
  Session loaded = Session::load(*model_, path_);
  EXPECT_EQ(go_on(loaded), go_on(now));
}

// Numbers that no session of the model can have, in files whose checksum is right.
TEST_F(SnapshotTest, RefusesPositionsAndCountsThatCannotBe) {
  testing::TinyModel windowed;
  windowed.architecture = "gemma3";
  windowed.layers = 4;
  windowed.window = 40;
  windowed.window_pattern = 2;
  windowed.context = 300;
  windowed.write(folder_.file("windowed.gguf"));
  model_.emplace(folder_.file("windowed.gguf"));
  for (const bool compact : {false, true}) {
    SessionOptions o = options("snapkv");
    o.compact_positions = compact;
    const Session s = session(o);
    s.save(path_);
    const std::string good = read_file(path_);
    ASSERT_EQ(refusal(good), "");
    const KvCache& cache = s.cache();
    const auto numbers = [](std::span<const int32_t> x) {
      return std::vector<int32_t>(x.begin(), x.end());
    };
    for (const size_t layer : {0, 1}) {  // one with a window, one without
      const bool window = model_->config().windows[layer] > 0;
      const std::vector<int32_t> positions = numbers(cache.positions(layer, 0));
      const size_t at = place_of(good, positions);
      const size_t last = at + (positions.size() - 1) * sizeof(int32_t);
      for (const int32_t bad : {-1, -40, INT32_MIN, INT32_MAX, positions[1]}) {
        EXPECT_NE(refusal(changed(good, at, bad)), "") << "layer " << layer << ": " << bad;
        EXPECT_NE(refusal(changed(good, last, bad)), "") << "layer " << layer << ": " << bad;
      }
      const auto end = static_cast<int32_t>(cache.next_position);
      EXPECT_NE(refusal(changed(good, last, end)), "") << "layer " << layer;
      if (window) {
        EXPECT_NE(refusal(changed(good, at, positions.front() - 1)), "");
        // The bound of a window stands before the number of its heads.
        EXPECT_NE(refusal(changed<uint64_t>(good, at - 4 * 8, 41)), "");
      }
      EXPECT_NE(refusal(changed<uint64_t>(good, at - 3 * 8, 1)), "") << "number of heads";
    }
    // Tokens read, then tokens held per head; the position comes before the first layer.
    const size_t counts = place_of<uint64_t>(good, {s.tokens(), 65});
    for (const uint64_t bad : {uint64_t{66}, ~uint64_t{0}, uint64_t{1} << 40U}) {
      EXPECT_NE(refusal(changed(good, counts + 8, bad)), "") << bad;
    }
    // Where tokens are numbered anew, any number of them may have been read.
    for (const uint64_t bad : {uint64_t{0}, uint64_t{64}, ~uint64_t{0}}) {
      if (compact && bad > 64) continue;
      EXPECT_NE(refusal(changed(good, counts, bad)), "") << bad;
    }
    const size_t position = place_of<uint64_t>(good, {cache.next_position, 40, 2});
    for (const uint64_t bad : {uint64_t{0}, uint64_t{301}, uint64_t{1} << 31U}) {
      EXPECT_NE(refusal(changed(good, position, bad)), "") << bad;
    }
    const size_t logit = place_of(good, copy(s.logits()));
    EXPECT_NE(refusal(changed(good, logit, std::numeric_limits<float>::quiet_NaN())), "");
  }
}

TEST_F(SnapshotTest, AFullDiskLeavesTheOldFile) {
  const Session s = session(options());
  s.save(path_);
  const std::string old = read_file(path_);
  EXPECT_THROW(s.save("/dev/full"), Error);

  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = old.size() / 2;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::string message = testing::refusal_if_any([&] { s.save(path_, "another note"); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(message.find(path_), std::string::npos) << message;
  EXPECT_EQ(read_file(path_), old);
  std::string note = "unchanged";
  (void)Session::load(*model_, path_, &note);
  EXPECT_EQ(note, "");
}

}  // namespace
}  // namespace restkv
