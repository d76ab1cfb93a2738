#include "eval/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <utility>
#include <vector>

#include "base/find_named.h"
#include "base/random.h"
#include "base/stories.h"
#include "eval/fit.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

// --- Needle --------------------------------------------------------------------------------------

constexpr std::string_view kKeyAdjectives[] = {
    "amber",  "brave",  "calm",   "clever", "crisp",   "distant",  "eager", "faded",
    "gentle", "golden", "hollow", "humble", "icy",     "jolly",    "keen",  "lively",
    "mellow", "misty",  "noble",  "odd",    "patient", "polished", "quiet", "rapid",
    "rusty",  "silent", "silver", "solemn", "tidy",    "velvet",   "vivid", "witty"};
constexpr std::string_view kKeyNouns[] = {
    "anchor",  "badger", "beacon",  "canyon",  "cello",  "comet",   "dagger", "falcon",
    "glacier", "hammer", "harbor",  "iris",    "jacket", "kettle",  "ladder", "lantern",
    "magnet",  "maple",  "meadow",  "otter",   "pebble", "pelican", "prism",  "quartz",
    "ribbon",  "saddle", "sparrow", "thimble", "tunnel", "violin",  "walnut", "zeppelin"};

// The wording of RULER's niah template for one key with one value. Its singular rewrites apply to
// everything but the needle.
constexpr std::string_view kInstruction =
    "A special magic number is hidden within the following text. Make sure to memorize it. I will "
    "quiz you about the number afterwards.\n";
constexpr std::string_view kNeedle = "One of the special magic numbers for {} is: {}.";
constexpr std::string_view kQuestion =
    "What is the special magic number for {} mentioned in the provided text?";
constexpr std::string_view kAnswerPrefix =
    " The special magic number for {} mentioned in the provided text is";
constexpr std::string_view kNoiseLine =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

// --- Haystacks -----------------------------------------------------------------------------------

/// An endless sequence of sentences.
class Sentences {
 public:
  virtual ~Sentences() = default;
  virtual std::string next() = 0;
  [[nodiscard]] virtual char separator() const { return ' '; }
};

class NoiseSentences : public Sentences {
 public:
  std::string next() override { return std::string(kNoiseLine); }
  [[nodiscard]] char separator() const override { return '\n'; }
};

/// The sentences of a text in order, repeated endlessly.
class EssaySentences : public Sentences {
 public:
  explicit EssaySentences(std::string_view essay) {
    std::string sentence;
    const auto finish = [&] {
      if (!sentence.empty()) sentences_.push_back(std::move(sentence));
      sentence.clear();
    };
    for (size_t begin = 0; begin < essay.size();) {
      const size_t end = std::min(essay.find_first_of(" \t\r\n\f\v", begin), essay.size());
      if (end > begin) {
        const std::string_view word = essay.substr(begin, end - begin);
        if (!sentence.empty()) sentence += ' ';
        sentence += word;
        if (ends_sentence(word)) finish();
      }
      begin = end + 1;
    }
    finish();
    if (sentences_.empty()) {
      throw Error(
          ErrorCode::kInput,
          "the essay of the needle test has no words; give a text file with some sentences");
    }
  }
  std::string next() override { return sentences_[next_++ % sentences_.size()]; }

 private:
  /// Simpler than RULER's Punkt model: "Mr." ends a sentence here. The haystack is the same text;
  /// only the possible places of the needle differ.
  static bool ends_sentence(std::string_view word) {
    const size_t last = word.find_last_not_of("\"')]");
    return last != std::string_view::npos &&
           std::string_view(".!?").find(word[last]) != std::string_view::npos;
  }

  std::vector<std::string> sentences_;
  size_t next_ = 0;
};

class StorySentences : public Sentences {
 public:
  explicit StorySentences(Random& random) : stories_(random) {}
  std::string next() override { return stories_.next(); }

 private:
  Stories stories_;
};

struct HaystackName {
  std::string_view name;
  Haystack haystack;
};
constexpr HaystackName kHaystacks[] = {
    {"stories", Haystack::kStories}, {"noise", Haystack::kNoise}, {"essay", Haystack::kEssay}};

std::unique_ptr<Sentences> make_sentences(const NeedleRequest& request, Random& random) {
  switch (request.haystack) {
    case Haystack::kNoise:
      return std::make_unique<NoiseSentences>();
    case Haystack::kEssay:
      return std::make_unique<EssaySentences>(request.essay);
    case Haystack::kStories:
      break;
  }
  return std::make_unique<StorySentences>(random);
}

}  // namespace

Haystack haystack_from_name(std::string_view name) {
  return find_named(kHaystacks, &HaystackName::name, name,
                    "unknown haystack \"{}\"; choose one of {}")
      .haystack;
}

NeedlePrompt make_needle_prompt(const NeedleRequest& request, const CountTokens& count_tokens) {
  if (!(request.depth >= 0 && request.depth <= 1)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("needle depth {} is outside [0, 1]; 0 is the start of the text, 1 its "
                            "end",
                            request.depth));
  }
  Random random(request.seed);
  NeedlePrompt prompt;
  prompt.depth = request.depth;
  // One draw per statement: compilers evaluate arguments in different orders.
  const std::string_view adjective = random.pick(kKeyAdjectives);
  const std::string_view noun = random.pick(kKeyNouns);
  prompt.key = fmt::format("{}-{}", adjective, noun);
  prompt.answer = std::to_string(1'000'000 + random.below(9'000'000));
  prompt.question = fmt::format(kQuestion, prompt.key);
  prompt.answer_prefix = fmt::format(kAnswerPrefix, prompt.key);
  const std::string needle = fmt::format(kNeedle, prompt.key, prompt.answer);
  prompt.needle_length = needle.size();

  const auto source = make_sentences(request, random);
  std::vector<std::string> sentences;
  const auto build = [&](size_t count) {
    while (sentences.size() < count) sentences.push_back(source->next());
    // RULER puts the needle after floor(depth * sentences) sentences.
    const auto before = static_cast<size_t>(request.depth * static_cast<double>(count));
    prompt.text = kInstruction;
    for (size_t i = 0; i <= count; ++i) {
      if (i > 0) prompt.text += source->separator();
      if (i == before) prompt.needle_offset = prompt.text.size();
      prompt.text += i == before ? needle : sentences[i < before ? i : i - 1];
    }
    prompt.text += '\n';
  };
  const auto tokens = [&](size_t count) {
    build(count);
    return count_tokens(prompt.prompt());
  };
  const size_t fewest = tokens(0);
  if (fewest > request.target_tokens) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a needle prompt of {} tokens has no room: the question and the needle "
                            "alone take {}; raise the prompt length",
                            request.target_tokens, fewest));
  }
  // No sentence is shorter than a token.
  const FitRange range{.low = 0,
                       .low_size = fewest,
                       .high = request.target_tokens + 1,
                       .guess = std::min<size_t>(16, request.target_tokens)};
  build(largest_that_fits(range, request.target_tokens, tokens));
  return prompt;
}

bool answer_found(std::string_view output, std::string_view answer) {
  const auto same = [](unsigned char a, unsigned char b) {
    return std::tolower(a) == std::tolower(b);
  };
  return std::search(output.begin(), output.end(), answer.begin(), answer.end(), same) !=
         output.end();
}

}  // namespace restkv::eval
