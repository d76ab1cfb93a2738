// Models in several files: the same as in one, and what becomes of parts that do not belong
// together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/parity.h"
#include "model/split_name.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "support/split_gguf.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

using ::restkv::testing::RawGguf;
using ::restkv::testing::split_gguf;
using ::restkv::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SplitName, IsLlamaCpps) {
  const auto name = parse_split_name("models/a-00002-of-00010.gguf");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->stem, "models/a");
  EXPECT_EQ(name->number, 2U);
  EXPECT_EQ(name->count, 10U);
  EXPECT_EQ(split_path(*name, 7), "models/a-00007-of-00010.gguf");
  for (const char* other :
       {"a.gguf", "a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "a-1-of-3.gguf",
        "a-00001-of-00003", "a-00001-of-00003.bin", "a00001-of-00003.gguf", "a-0000x-of-00003.gguf",
        "-of-00003.gguf", ""}) {
    EXPECT_FALSE(parse_split_name(other)) << other;
  }
  EXPECT_EQ(model_file_name("/models/big-Q4_K_M-00001-of-00003.gguf"), "big-Q4_K_M");
  EXPECT_EQ(model_file_name("/models/big.gguf"), "big");
}

class SplitModel : public ::testing::Test {
 protected:
  SplitModel() {
    testing::TinyModel model = testing::smallest_model();
    model.write(whole_);
    parts_ = testing::write_split(whole_, 3, folder_.file("model"));
  }

  /// Changes one part of the model.
  void edit(size_t part, const std::function<void(RawGguf&)>& change) const {
    RawGguf gguf = RawGguf::parse(read_file(parts_[part]));
    change(gguf);
    write_file_atomically(parts_[part], gguf.bytes());
  }
  static void set(RawGguf& gguf, const char* key, uint64_t value) {
    gguf.set_number(key, GGUF_TYPE_UINT16, value);
  }
  /// Opened by its first part.
  [[nodiscard]] std::string error() const { return error_of(parts_.front()); }
  static std::string error_of(const std::string& path) {
    try {
      const Model model(path);
      return "";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
      return e.what();
    }
  }

  TemporaryFolder folder_;
  std::string whole_ = folder_.file("whole.gguf");
  std::vector<std::string> parts_;
};

TEST_F(SplitModel, HasTheSizesOfTheWhole) {
  const Model whole(whole_);
  const Model split(parts_.front());
  size_t bytes = 0;
  for (const std::string& part : parts_) bytes += fs::file_size(part);
  EXPECT_EQ(split.config().file_bytes, bytes);
  EXPECT_GT(bytes, whole.config().file_bytes);
  EXPECT_EQ(split.config().layers, whole.config().layers);
  EXPECT_EQ(split.config().weight_types, whole.config().weight_types);
  EXPECT_EQ(split.path(), parts_.front());
  EXPECT_EQ(model_files(parts_.front()), parts_);
  EXPECT_THAT(model_files(whole_), ElementsAre(whole_));
}

TEST_F(SplitModel, IsToldFromOthersByEveryPart) {
  std::vector<uint64_t> seen{Model(parts_.front()).config().fingerprint};
  EXPECT_EQ(Model(parts_.front()).config().fingerprint, seen.front());
  for (size_t part = 0; part < parts_.size(); ++part) {
    edit(part, [](RawGguf& gguf) { gguf.data[1] = static_cast<char>(gguf.data[1] ^ 1); });
    seen.push_back(Model(parts_.front()).config().fingerprint);
    EXPECT_EQ(std::ranges::count(seen, seen.back()), 1) << part;
  }
}

TEST_F(SplitModel, MayConsistOfOnePart) {
  const std::vector<std::string> alone = testing::write_split(whole_, 1, folder_.file("alone"));
  EXPECT_EQ(error_of(alone.front()), "");
}

TEST_F(SplitModel, IsOpenedByItsFirstPart) {
  EXPECT_THAT(
      error_of(parts_[1]),
      AllOf(HasSubstr(parts_[1]),
            HasSubstr("is part 2 of 3 of a model; open it by its first part, " + parts_[0])));
}

TEST_F(SplitModel, LacksNoPart) {
  fs::remove(parts_[1]);
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[0]),
                             HasSubstr("is the first of 3 parts of a model; one is missing: " +
                                       parts_[1] + ". Put all parts into one folder")));
  EXPECT_THAT(model_files(parts_.front()), ElementsAre(parts_.front()));
  fs::remove(parts_[2]);
  EXPECT_THAT(error(), HasSubstr("2 are missing: " + parts_[1] + ", ..."));
}

TEST_F(SplitModel, HasNamesThatTell) {
  const std::string renamed = folder_.file("renamed.gguf");
  fs::copy_file(parts_[0], renamed);
  EXPECT_THAT(error_of(renamed), HasSubstr("its name does not end with -00001-of-00003.gguf"));
  // The first part under the name of the second.
  fs::rename(parts_[1], folder_.file("second"));
  fs::copy_file(parts_[0], parts_[1]);
  EXPECT_THAT(error_of(parts_[1]), HasSubstr("its name does not end with -00001-of-00003.gguf"));
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[1]), HasSubstr("'split.no' is 0; expected 1")));
}

TEST_F(SplitModel, HasCountsThatAreTrue) {
  edit(2, [](RawGguf& gguf) { set(gguf, "split.count", 4); });
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]), HasSubstr("'split.count' is 4; expected 3")));
  edit(2, [](RawGguf& gguf) { gguf.remove("split.count"); });
  EXPECT_THAT(error(), HasSubstr("'split.count' is missing; expected 3"));
  edit(2, [](RawGguf& gguf) { set(gguf, "split.count", 3); });
  EXPECT_EQ(error(), "");
  edit(0, [](RawGguf& gguf) { set(gguf, "split.tensors.count", 5); });
  EXPECT_THAT(error(), HasSubstr("'split.tensors.count' is 5, but its 3 parts have"));
  edit(0, [](RawGguf& gguf) { gguf.remove("split.tensors.count"); });
  EXPECT_THAT(error(), HasSubstr("has no 'split.tensors.count'"));
  edit(0, [](RawGguf& gguf) { set(gguf, "split.count", 65535); });
  EXPECT_THAT(error(), HasSubstr("does not end with -00001-of-65535.gguf"));
  edit(0, [](RawGguf& gguf) { gguf.set_string("split.count", "three"); });
  EXPECT_THAT(error(), HasSubstr("'split.count' is not a number"));
}

TEST_F(SplitModel, HasPartsOfOneModel) {
  const RawGguf third = RawGguf::parse(read_file(parts_[2]));
  // Another model, whose third part has a tensor of this one's second.
  const RawGguf second = RawGguf::parse(read_file(parts_[1]));
  edit(2, [&](RawGguf& gguf) { gguf.tensors.front().name = second.tensors.front().name; });
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]),
                             HasSubstr("has the tensor '" + second.tensors.front().name +
                                       "', which is in " + parts_[1])));
  // A part of a model that has fewer tensors there.
  write_file_atomically(parts_[2], third.bytes());
  edit(2, [](RawGguf& gguf) {
    gguf.data.resize(gguf.tensors.back().offset);
    gguf.tensors.pop_back();
  });
  EXPECT_THAT(error(), HasSubstr("they are parts of different models, or damaged"));
  // Parts that say of which model they are.
  write_file_atomically(parts_[2], third.bytes());
  edit(2, [](RawGguf& gguf) { gguf.set_string("general.name", "another"); });
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]),
                             HasSubstr("'general.name' is another one in " + parts_[0])));
  edit(2, [](RawGguf& gguf) {
    gguf.remove("general.name");
    gguf.set_string("general.author", "somebody");
  });
  EXPECT_THAT(error(), HasSubstr("'general.author' is not in " + parts_[0]));
}

TEST_F(SplitModel, HasPartsThatAreWhole) {
  const std::string third = read_file(parts_[2]);
  write_file_atomically(parts_[2], third.substr(0, third.size() - 40));
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]), HasSubstr("is damaged or incomplete")));
  write_file_atomically(parts_[2], "<!DOCTYPE html>");
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]), HasSubstr("does not begin with the letters")));
  fs::remove(parts_[2]);
  fs::create_directory(parts_[2]);
  EXPECT_THAT(error(), AllOf(HasSubstr(parts_[2]), HasSubstr("is not a regular file")));
}

TEST(SplitParity, EqualsTheWholeAndLibllama) {
  testing::ParityCase c = testing::parity_case("tiny-llama");
  c.model.type = GGML_TYPE_Q8_0;
  const TemporaryFolder folder;
  const testing::ParityFiles files(c, folder);
  const std::string first = testing::write_split(files.ours, 3, folder.file("split")).front();
  const std::vector<int32_t> tokens = testing::parity_tokens();
  const testing::Logits split = testing::restkv_logits(first, tokens);
  EXPECT_EQ(split, testing::restkv_logits(files.ours, tokens));
  // libllama opens the same parts, for its tokenizer, too.
  EXPECT_LE(testing::compare(testing::libllama_logits(first, tokens), split).all_kl(), 0.01);
  const std::string text = "Parts of one model.";
  EXPECT_EQ(Tokenizer(first).encode(text, true, false),
            Tokenizer(files.ours).encode(text, true, false));
}

}  // namespace
}  // namespace restkv
