// Downloads into a folder of models: whole, resumed, broken, damaged, two at a time.
#include "hub/model_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "hub/fake_hub.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::hub {
namespace {

namespace fs = std::filesystem;
using ::restkv::testing::FakeHub;
using ::restkv::testing::refusal;
using ::restkv::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class Store : public ::testing::Test {
 protected:
  Store() {
    for (size_t i = 0; i < 300'000; ++i) content_ += static_cast<char>(i * i % 251);
    fake_.add("a/b", "M-Q4_K_M.gguf", content_);
  }

  Hub hub(const std::string& token = "") const {
    return Hub(
        {.endpoint = fake_.endpoint(), .token = token, .first_wait = std::chrono::milliseconds(1)});
  }
  std::string fetch(const std::string& name = "hf:a/b", const std::string& token = "") {
    Hub hub = this->hub(token);
    return store_.fetch(parse_hub_name(name), hub,
                        {.tell = [](const std::string&) {},
                         .progress =
                             [this](size_t done, size_t all) {
                               EXPECT_LE(done, all);
                               progress_.push_back(done);
                             }});
  }
  std::string refused(const std::string& name = "hf:a/b", const std::string& token = "") {
    return refusal(ErrorCode::kInput, [&] { fetch(name, token); });
  }
  [[nodiscard]] std::optional<std::string> find(const std::string& name = "hf:a/b") const {
    return store_.find(parse_hub_name(name));
  }
  /// All files, by their paths below the folder.
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    if (!fs::exists(store_.folder())) return names;
    for (const auto& entry : fs::recursive_directory_iterator(store_.folder())) {
      if (!entry.is_regular_file()) continue;
      names.push_back(entry.path().lexically_relative(store_.folder()).string());
    }
    return names;
  }
  [[nodiscard]] std::vector<std::string> listed() const {
    std::vector<std::string> names;
    for (const StoredModel& model : store_.list()) {
      names.push_back(model.name.text() + (model.complete ? "" : " unfinished"));
    }
    return names;
  }

  FakeHub fake_;
  std::string content_;
  TemporaryFolder folder_;
  ModelStore store_{folder_.file("models")};
  std::vector<size_t> progress_;
};

TEST_F(Store, DownloadsAModelOnce) {
  EXPECT_EQ(find(), std::nullopt);
  const std::string path = fetch();
  EXPECT_EQ(path, folder_.file("models/a/b/M-Q4_K_M.gguf"));
  EXPECT_EQ(read_file(path), content_);
  EXPECT_THAT(files(), UnorderedElementsAre("a/b/.lock", "a/b/files.json", "a/b/M-Q4_K_M.gguf",
                                            "a/b/M-Q4_K_M.gguf.sha256"));
  EXPECT_EQ(progress_.front(), 0U);
  EXPECT_EQ(progress_.back(), content_.size());
  // What the names mean is known without the hub.
  fake_.take_requests();
  EXPECT_EQ(find(), path);
  EXPECT_EQ(find("hf:a/b:Q4_K_M"), path);
  EXPECT_EQ(find("hf:a/b:M-Q4_K_M.gguf"), path);
  EXPECT_EQ(find("hf:a/b:Q8_0"), std::nullopt);
  EXPECT_EQ(find("hf:a/c"), std::nullopt);
  EXPECT_THAT(fake_.take_requests(), IsEmpty());
  // Asked for anew, the hub only tells that it has nothing else.
  EXPECT_EQ(fetch(), path);
  EXPECT_EQ(fake_.downloads(), 1U);
}

TEST_F(Store, GoesOnWhereADownloadWasBroken) {
  fake_.behave({.breaks = 2, .break_at = 100'000});
  EXPECT_EQ(read_file(fetch()), content_);
  std::vector<std::string> ranges;
  for (const auto& request : fake_.take_requests()) {
    if (request.target.starts_with("/files/")) ranges.push_back(request.range);
  }
  EXPECT_THAT(ranges, ElementsAre("", "bytes=100000-", "bytes=200000-"));
}

TEST_F(Store, GoesOnInALaterProcess) {
  fake_.behave({.breaks = 100, .break_at = 70'000});
  // Bytes come each time, so that it goes on until ...
  Hub hub = this->hub();
  EXPECT_THROW(store_.fetch(parse_hub_name("hf:a/b"), hub,
                            {.tell = [](const std::string&) {},
                             .progress =
                                 [](size_t done, size_t) {
                                   if (done >= 140'000) throw std::runtime_error("killed");
                                 }}),
               std::runtime_error);
  EXPECT_EQ(find(), std::nullopt);
  EXPECT_THAT(listed(), ElementsAre("hf:a/b:M-Q4_K_M.gguf unfinished"));
  EXPECT_FALSE(fs::exists(folder_.file("models/a/b/M-Q4_K_M.gguf")));
  fake_.behave({});
  fake_.take_requests();
  progress_.clear();
  EXPECT_EQ(read_file(fetch()), content_);
  EXPECT_GE(progress_.front(), 140'000U);
  EXPECT_EQ(fake_.take_requests().back().range, "bytes=" + std::to_string(progress_.front()) + "-");
  EXPECT_THAT(listed(), ElementsAre("hf:a/b:M-Q4_K_M.gguf"));
}

TEST_F(Store, BeginsAgainWhereTheServerCannotGoOn) {
  fake_.behave({.breaks = 1, .break_at = 100'000, .ranges = false});
  EXPECT_EQ(read_file(fetch()), content_);
}

TEST_F(Store, GivesUpOnAServerThatNeverGoesOn) {
  fake_.behave({.breaks = 100, .break_at = 0});
  EXPECT_THAT(refused(), HasSubstr("cannot read M-Q4_K_M.gguf from " + fake_.endpoint()));
  EXPECT_EQ(fake_.downloads(), 5U);
}

TEST_F(Store, WaitsForABusyServer) {
  fake_.behave({.busy = 3});
  EXPECT_EQ(read_file(fetch()), content_);
  fs::remove_all(store_.folder());
  fake_.behave({.busy = 100});
  EXPECT_THAT(refused(), AllOf(HasSubstr("answers 503 to the list of files of a/b: busy"),
                               HasSubstr("Try again later")));
}

TEST_F(Store, KeepsNothingThatIsDamaged) {
  fake_.behave({.damages = true});
  EXPECT_THAT(refused(), AllOf(HasSubstr("M-Q4_K_M.gguf has the SHA-256"),
                               HasSubstr("Nothing of it is kept; try again")));
  EXPECT_THAT(files(), ElementsAre("a/b/.lock"));
  fake_.behave({.lists_wrong_size = true});
  EXPECT_THAT(refused(), HasSubstr("is longer than the 299999 bytes"));
  EXPECT_THAT(files(), ElementsAre("a/b/.lock"));
  fake_.behave({});
  EXPECT_EQ(read_file(fetch()), content_);
}

TEST_F(Store, DoesNotTrustWhatAStoppedDownloadLeft) {
  fetch();
  const std::string sum = first_bytes(folder_.file("models/a/b/M-Q4_K_M.gguf.sha256"), 12);
  store_.remove(parse_hub_name("hf:a/b"));
  const std::string part = folder_.file("models/a/b/M-Q4_K_M.gguf." + sum + ".part");
  fs::create_directories(fs::path(part).parent_path());
  write_file_atomically(part, std::string(1000, 'x'));
  EXPECT_THAT(refused(), HasSubstr("Nothing of it is kept"));
  EXPECT_EQ(read_file(fetch()), content_);
  // Too long, and whole but without its name.
  store_.remove(parse_hub_name("hf:a/b"));
  fs::create_directories(fs::path(part).parent_path());
  write_file_atomically(part, content_ + "x");
  EXPECT_EQ(read_file(fetch()), content_);
  store_.remove(parse_hub_name("hf:a/b"));
  fs::create_directories(fs::path(part).parent_path());
  write_file_atomically(part, content_);
  const size_t before = fake_.downloads();
  EXPECT_EQ(read_file(fetch()), content_);
  EXPECT_EQ(fake_.downloads(), before);
}

TEST_F(Store, TakesAFileThatLiesThereIfItIsTheRightOne) {
  fs::create_directories(folder_.file("models/a/b"));
  write_file_atomically(folder_.file("models/a/b/M-Q4_K_M.gguf"), content_);
  EXPECT_THAT(listed(), IsEmpty());  // somebody else's
  EXPECT_EQ(find(), std::nullopt);
  fetch();
  EXPECT_EQ(fake_.downloads(), 0U);
  EXPECT_THAT(listed(), ElementsAre("hf:a/b:M-Q4_K_M.gguf"));
}

TEST_F(Store, LeavesFilesOfOthersAlone) {
  const std::string theirs = folder_.file("models/a/b/M-Q4_K_M.gguf");
  fs::create_directories(fs::path(theirs).parent_path());
  for (const std::string& content : {std::string("short"), std::string(content_.size(), 'x')}) {
    write_file_atomically(theirs, content);
    EXPECT_THAT(refused(), HasSubstr(theirs + " is in the way"));
    EXPECT_EQ(read_file(theirs), content);
  }
}

TEST_F(Store, TakesANewVersionWhenAskedFor) {
  const std::string path = fetch();
  fake_.add("a/b", "M-Q4_K_M.gguf", "a new one");
  EXPECT_EQ(find(), path);
  EXPECT_EQ(read_file(path), content_);
  EXPECT_EQ(fetch(), path);
  EXPECT_EQ(read_file(path), "a new one");
  // What is left of another version is not continued.
  fake_.behave({.breaks = 100, .break_at = 0});
  fake_.add("a/b", "M-Q4_K_M.gguf", "a third one");
  refused();
  EXPECT_EQ(find(), std::nullopt);
  fake_.behave({});
  fake_.add("a/b", "M-Q4_K_M.gguf", "a fourth one");
  EXPECT_EQ(read_file(fetch()), "a fourth one");
  EXPECT_THAT(files(), UnorderedElementsAre("a/b/.lock", "a/b/files.json", "a/b/M-Q4_K_M.gguf",
                                            "a/b/M-Q4_K_M.gguf.sha256"));
}

TEST_F(Store, TakesAllPartsOfASplitModel) {
  for (int i = 1; i <= 3; ++i) {
    fake_.add("a/s", "Q8_0/M-Q8_0-0000" + std::to_string(i) + "-of-00003.gguf",
              std::string(static_cast<size_t>(i) * 1000, 'p'));
  }
  fake_.behave({.page = 2});  // a list of two pages
  const std::string first = fetch("hf:a/s");
  EXPECT_EQ(first, folder_.file("models/a/s/Q8_0/M-Q8_0-00001-of-00003.gguf"));
  EXPECT_EQ(find("hf:a/s:Q8_0"), first);
  ASSERT_EQ(store_.list().size(), 1U);
  EXPECT_EQ(store_.list().front().bytes, 6000U);
  EXPECT_EQ(store_.list().front().path, first);
  EXPECT_EQ(progress_.back(), 6000U);
  // Without a part, the model is not here, and only the part is fetched.
  fs::remove(folder_.file("models/a/s/Q8_0/M-Q8_0-00002-of-00003.gguf"));
  EXPECT_EQ(find("hf:a/s"), std::nullopt);
  EXPECT_THAT(listed(), ElementsAre("hf:a/s:Q8_0/M-Q8_0-00001-of-00003.gguf unfinished"));
  const size_t before = fake_.downloads();
  fetch("hf:a/s");
  EXPECT_EQ(fake_.downloads(), before + 1);
  EXPECT_EQ(store_.remove(parse_hub_name("hf:a/s:Q8_0")).size(), 1U);
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(Store, IsFilledByOneAtATime) {
  fake_.behave({.holds = true});
  std::string other;
  std::thread first([&] { other = fetch(); });
  while (fake_.downloads() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { store_.remove(parse_hub_name("hf:a/b")); }),
              HasSubstr("a/b is being downloaded; end that first"));
  std::string told;
  Hub hub = this->hub();
  const std::string path = store_.fetch(parse_hub_name("hf:a/b"), hub,
                                        {.tell =
                                             [&](const std::string& what) {
                                               told = what;
                                               fake_.release();
                                             },
                                         .progress = [](size_t, size_t) {}});
  first.join();
  EXPECT_EQ(told, "waiting for another download of a/b");
  EXPECT_EQ(path, other);
  EXPECT_EQ(read_file(path), content_);
  EXPECT_EQ(fake_.downloads(), 1U);
}

TEST_F(Store, SaysWhyThereIsNoModel) {
  EXPECT_THAT(refused("hf:no/where"), HasSubstr("hf:no/where does not exist: " + fake_.endpoint()));
  EXPECT_THAT(refused("hf:a/b:Q2_K"), HasSubstr("the repository has M-Q4_K_M.gguf"));
  fake_.behave({.gated = true});
  EXPECT_THAT(refused(), HasSubstr("accept its conditions at " + fake_.endpoint() + "/a/b"));
  fake_.behave({.token = "right"});
  EXPECT_THAT(refused(), HasSubstr("set HF_TOKEN to a token that may read it"));
  const std::string wrong = refused("hf:a/b", "wrong");
  EXPECT_THAT(wrong, HasSubstr("the token in HF_TOKEN may not read it"));
  EXPECT_EQ(wrong.find("wrong"), std::string::npos) << wrong;
  EXPECT_THAT(files(), IsEmpty());  // names that are wrong leave nothing
  EXPECT_EQ(read_file(fetch("hf:a/b", "right")), content_);
}

TEST_F(Store, SaysThatThereIsNoNetwork) {
  Hub nowhere({.endpoint = "http://127.0.0.1:1", .token = ""});
  EXPECT_THAT(
      refusal(ErrorCode::kInput, [&] { store_.fetch(parse_hub_name("hf:a/b"), nowhere, {}); }),
      AllOf(HasSubstr("cannot reach http://127.0.0.1:1 for the list of files of a/b"),
            HasSubstr("give the path of a model that is here")));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(Store, RefusesListsThatAreNone) {
  const std::string sum(64, 'a');
  for (const std::string list :
       {"<!DOCTYPE html>", "{}", "[1]", "[{\"type\": \"file\"}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"lfs\": {\"oid\": 3, \"size\": 1}}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"lfs\": {\"oid\": \"x\", \"size\": -1}}]"}) {
    fake_.behave({.list = list});
    EXPECT_THAT(refused(), AllOf(HasSubstr("the list of files of a/b from " + fake_.endpoint()),
                                 HasSubstr("Check HF_ENDPOINT")))
        << list;
  }
  // Entries that cannot be downloaded safely are none.
  for (const std::string path : {"../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf"}) {
    fake_.behave({.list = "[{\"type\": \"file\", \"path\": \"" + path +
                          "\", \"lfs\": {\"oid\": \"" + sum + "\", \"size\": 1}}]"});
    EXPECT_THAT(refused(), HasSubstr("has no GGUF models")) << path;
  }
  fake_.behave({.list = "[{\"type\": \"file\", \"path\": \"a.gguf\", \"size\": 1}, "
                        "{\"type\": \"file\", \"path\": \"b.gguf\", \"lfs\": {\"oid\": "
                        "\"../../x\", \"size\": 1}}]"});
  EXPECT_THAT(refused(), HasSubstr("has no GGUF models"));
}

TEST_F(Store, SurvivesADamagedListOfItsOwn) {
  const std::string path = fetch();
  const std::string own = folder_.file("models/a/b/files.json");
  for (const char* text : {"", "{", "{\"files\": 3}",
                           "{\"files\": [{\"path\": \"../x.gguf\", \"bytes\": 1, \"sha256\": "
                           "\"0\"}]}"}) {
    write_file_atomically(own, text);
    EXPECT_EQ(find(), std::nullopt) << text;
    EXPECT_EQ(fetch(), path);
    EXPECT_EQ(find(), path);
  }
  EXPECT_EQ(fake_.downloads(), 1U);
}

TEST_F(Store, RemovesWhatItIsAskedTo) {
  fake_.add("a/b", "M-Q8_0.gguf", "eight bits");
  fake_.add("a/c", "N-Q4_K_M.gguf", "another");
  fetch("hf:a/b:Q4_K_M");
  fetch("hf:a/b:Q8_0");
  fetch("hf:a/c");
  write_file_atomically(folder_.file("models/a/b/mine.gguf"), "mine");
  EXPECT_THAT(listed(),
              ElementsAre("hf:a/b:M-Q4_K_M.gguf", "hf:a/b:M-Q8_0.gguf", "hf:a/c:N-Q4_K_M.gguf"));
  EXPECT_EQ(store_.remove(parse_hub_name("hf:a/b:q8_0")).size(), 1U);
  EXPECT_THAT(listed(), ElementsAre("hf:a/b:M-Q4_K_M.gguf", "hf:a/c:N-Q4_K_M.gguf"));
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { store_.remove(parse_hub_name("hf:a/b:Q8_0")); }),
              HasSubstr("hf:a/b:Q8_0 is not in " + store_.folder().string()));
  EXPECT_EQ(store_.remove(parse_hub_name("hf:a/c")).size(), 1U);
  EXPECT_FALSE(fs::exists(folder_.file("models/a/c")));
  EXPECT_EQ(store_.remove(parse_hub_name("hf:a/b")).size(), 1U);
  EXPECT_THAT(files(), ElementsAre("a/b/mine.gguf"));
}

TEST_F(Store, SaysThatItsFolderCannotBeWritten) {
  write_file_atomically(folder_.file("models"), "a file");
  EXPECT_THAT(refusal(ErrorCode::kIo, [&] { fetch(); }),
              AllOf(HasSubstr("cannot make the folder"), HasSubstr("RESTKV_MODELS")));
  EXPECT_THAT(listed(), IsEmpty());
}

}  // namespace
}  // namespace restkv::hub
