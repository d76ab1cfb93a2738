// Models by name: from a hub on this machine, in every command.
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/cli_test.h"
#include "hub/fake_hub.h"
#include "support/split_gguf.h"

namespace restkv {
namespace {

using ::restkv::testing::FakeHub;
using ::testing::AllOf;

class CliModels : public ::testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& arguments, const std::string& endpoint,
              std::vector<std::string> environment = {}) const {
    environment.push_back("RESTKV_MODELS=" + folder_.file("models"));
    environment.push_back("HF_ENDPOINT=" + endpoint);
    return restkv_process(Spawn{.arguments = arguments, .environment = environment});
  }
  /// The bytes of a tiny model that can chat.
  std::string model() const {
    const std::string path = folder_.file("source.gguf");
    chat_model().write(path);
    return read_file(path);
  }

  TemporaryFolder folder_;
};

TEST_F(CliModels, AreFetchedOnceListedAndRemoved) {
  std::string endpoint;
  std::string path;
  const std::vector<std::string> question{"run", "-m", "hf:ada/tiny:Q8_0", "-p", "x", "-n", "4"};
  std::string answer;
  {
    FakeHub hub;
    endpoint = hub.endpoint();
    hub.behave({.token = "secret"});
    hub.add("ada/tiny", "tiny-Q8_0.gguf", model());
    EXPECT_THAT(run({"models"}, endpoint).err, HasSubstr("no models in " + folder_.file("models")));
    const Outcome refused = run(question, endpoint);
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_THAT(refused.err, HasSubstr("set HF_TOKEN"));
    const Outcome first = run(question, endpoint, {"HF_TOKEN=secret"});
    EXPECT_EQ(first.exit_code, 0) << first.err;
    EXPECT_THAT(first.err, HasSubstr("downloading hf:ada/tiny:Q8_0"));
    answer = first.out;
    EXPECT_FALSE(answer.empty());
    const Outcome got = run({"models", "get", "hf:ada/tiny"}, endpoint, {"HF_TOKEN=secret"});
    path = folder_.file("models/ada/tiny/tiny-Q8_0.gguf");
    EXPECT_EQ(got.out, path + "\n");
    EXPECT_EQ(hub.downloads(), 1U);
  }
  // The hub has gone; the model stays.
  const Outcome again = run(question, endpoint);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.out, answer);
  EXPECT_EQ(restkv_process({"run", "-m", path, "-p", "x", "-n", "4"}).out, answer);
  const Outcome list = run({"models"}, endpoint);
  EXPECT_THAT(list.out, AllOf(StartsWith("hf:ada/tiny:tiny-Q8_0.gguf  "), HasSubstr("iB\n")));
  EXPECT_THAT(run({"inspect", "hf:ada/tiny"}, endpoint).out, HasSubstr(path));
  EXPECT_THAT(run({"inspect"}, endpoint, {"RESTKV_MODEL=hf:ada/tiny"}).out, HasSubstr(path));
  const Outcome none = run({"run", "-m", "hf:ada/other", "-p", "x"}, endpoint);
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("cannot reach " + endpoint));
  const Outcome removed = run({"models", "remove", "hf:ada/tiny"}, endpoint);
  EXPECT_EQ(removed.exit_code, 0);
  EXPECT_THAT(removed.err, HasSubstr("removed hf:ada/tiny:tiny-Q8_0.gguf"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(run({"models", "remove", "hf:ada/tiny"}, endpoint).exit_code, 1);
}

TEST_F(CliModels, MayBeInParts) {
  FakeHub hub;
  model();
  const std::string whole = folder_.file("source.gguf");
  for (const std::string& part : testing::write_split(whole, 3, folder_.file("tiny-Q8_0"))) {
    hub.add("ada/tiny", std::filesystem::path(part).filename().string(), read_file(part));
  }
  const Outcome split =
      run({"run", "-m", "hf:ada/tiny", "-p", "x", "-n", "4", "--stats"}, hub.endpoint());
  EXPECT_EQ(split.exit_code, 0) << split.err;
  EXPECT_EQ(split.out, restkv_process({"run", "-m", whole, "-p", "x", "-n", "4"}).out);
  EXPECT_THAT(run({"models"}, hub.endpoint()).out,
              StartsWith("hf:ada/tiny:tiny-Q8_0-00001-of-00003.gguf  "));
  EXPECT_THAT(
      run({"inspect", "hf:ada/tiny"}, hub.endpoint()).out,
      AllOf(HasSubstr("tiny-Q8_0-00001-of-00003.gguf"), HasSubstr("parts                3,")));
}

TEST_F(CliModels, AreNamedAlikeInEveryCommand) {
  const std::string out = folder_.file("out");
  const std::string text = folder_.file("text.txt");
  write_file_atomically(text, "Some words.");
  const std::vector<std::vector<std::string>> commands{
      {"run", "-p", "x"},           {"ask", text, "-q", "x"},
      {"batch", text, "-o", out},   {"chat"},
      {"serve", "--port", "0"},     {"inspect"},
      {"demo", "-o", out},          {"eval", "niah", "-o", out},
      {"bench", "--lengths", "64"}, {"calibrate", "--text", text, "-o", out}};
  for (std::vector<std::string> command : commands) {
    EXPECT_EQ(run(command, "http://127.0.0.1:1").exit_code, 2) << command.front();
    // The default, whose file is not there.
    const Outcome absent = run(command, "http://127.0.0.1:1", {"RESTKV_MODEL=/absent.gguf"});
    EXPECT_EQ(absent.exit_code, 1) << command.front();
    EXPECT_THAT(absent.err, HasSubstr("RESTKV_MODEL is /absent.gguf, and there is no such file"))
        << command.front();
    const Outcome hub = run(command, "http://127.0.0.1:1", {"RESTKV_MODEL=hf:ada/tiny"});
    EXPECT_EQ(hub.exit_code, 1) << command.front();
    EXPECT_THAT(hub.err, HasSubstr("cannot reach http://127.0.0.1:1")) << command.front();
    if (command.front() != "inspect") command.emplace_back("-m");
    command.emplace_back("hf:ada");
    const Outcome wrong = run(command, "http://127.0.0.1:1");
    EXPECT_EQ(wrong.exit_code, 2) << command.front();
    EXPECT_THAT(wrong.err, HasSubstr("hf:ada names no owner and repository")) << command.front();
  }
}

TEST_F(CliModels, RefuseWhatIsNoCommandOfTheirs) {
  const auto refused = [&](const std::vector<std::string>& arguments) {
    const Outcome outcome = run(arguments, "http://127.0.0.1:1");
    EXPECT_EQ(outcome.exit_code, 2);
    return outcome.err;
  };
  EXPECT_THAT(refused({"models", "gt"}), HasSubstr("gt not in {list,get,remove}"));
  EXPECT_THAT(refused({"models", "list", "hf:a/b"}), HasSubstr("list takes no names"));
  EXPECT_THAT(refused({"models", "get"}), HasSubstr("get needs a name like"));
  EXPECT_THAT(refused({"models", "remove", "a/b"}), HasSubstr("expected a name like"));
  const Outcome wrong = run({"run", "-m", "hf:a/b", "-p", "x"}, "nowhere");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("HF_ENDPOINT is 'nowhere'"));
}

}  // namespace
}  // namespace restkv
