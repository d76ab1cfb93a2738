#include "eval/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <iterator>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "restkv/error.h"

namespace restkv::eval {
namespace {

using Words = std::span<const std::string_view>;

/// std::mt19937_64 gives the same numbers everywhere; std::uniform_int_distribution does not, so
/// numbers are mapped to ranges here. The bias of the remainder is below 2^-40.
class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}
  size_t below(size_t n) { return static_cast<size_t>(bits_() % n); }
  std::string_view pick(Words words) { return words[below(words.size())]; }

 private:
  std::mt19937_64 bits_;
};

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

// The wording of RULER's niah template for one key with one value, where its singular rewrites
// apply to everything but the needle itself.
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

/// The sentences of a text in their order, over and over.
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
  /// Simpler than RULER's Punkt model: "Mr." ends a sentence here. The haystack stays the same
  /// text; only the places where a needle may stand differ.
  static bool ends_sentence(std::string_view word) {
    const size_t last = word.find_last_not_of("\"')]");
    return last != std::string_view::npos &&
           std::string_view(".!?").find(word[last]) != std::string_view::npos;
  }

  std::vector<std::string> sentences_;
  size_t next_ = 0;
};

constexpr std::string_view kPeople[] = {"Ada",   "Bruno", "Carla", "Dmitri", "Elena", "Farid",
                                        "Greta", "Hugo",  "Ines",  "Jonas",  "Keiko", "Lars",
                                        "Mira",  "Nadia", "Oskar", "Priya",  "Quinn", "Rosa",
                                        "Sami",  "Tilda", "Umar",  "Vera",   "Wanda", "Yusuf"};
constexpr std::string_view kTowns[] = {"Aldermoor", "Brightwater", "Copperfield", "Dunmere",
                                       "Eastbrook", "Fernhollow",  "Greywick",    "Highcliff",
                                       "Kingsford", "Larkspur",    "Millbridge",  "Northgate"};
constexpr std::string_view kPlaces[] = {
    "the bakery",      "the old library", "the market square", "the train station", "the harbour",
    "the town hall",   "the orchard",     "the museum",        "the school yard",   "the workshop",
    "the post office", "the river bank",  "the lighthouse",    "the tea house",     "the theatre"};
constexpr std::string_view kThings[] = {
    "a wooden ladder",   "a blue umbrella", "a box of nails", "a folded map",    "a copper kettle",
    "a bag of flour",    "a broken clock",  "a letter",       "a roll of cloth", "a pair of boots",
    "a basket of plums", "a garden rake",   "a glass bottle", "a red notebook",  "a heavy suitcase",
    "a silver spoon",    "an old guitar",   "an empty bucket"};
constexpr std::string_view kAnimals[] = {"a grey cat",      "a small dog",    "a tired horse",
                                         "a brown hen",     "an old goat",    "a young fox",
                                         "a pair of geese", "a white rabbit", "a stray donkey"};
constexpr std::string_view kFood[] = {
    "onion soup",        "fresh bread", "rice with beans", "apple cake",        "fried fish",
    "cheese and olives", "potato stew", "honey biscuits",  "roasted chestnuts", "mushroom pie"};
constexpr std::string_view kWeather[] = {
    "a light rain was falling", "the fog was slow to lift", "the wind came from the sea",
    "the sun was already warm", "snow lay on the roofs",    "thunder rolled over the hills",
    "the air smelled of smoke", "clouds were gathering",    "the streets were still wet"};
constexpr std::string_view kTimes[] = {"early in the morning",
                                       "before breakfast",
                                       "at noon",
                                       "late in the afternoon",
                                       "after supper",
                                       "at dusk",
                                       "around midnight",
                                       "on Monday",
                                       "on Thursday",
                                       "on market day",
                                       "in the first week of spring"};
constexpr std::string_view kMoods[] = {"patient", "cheerful", "nervous",  "thoughtful", "proud",
                                       "tired",   "curious",  "grateful", "puzzled",    "restless"};
constexpr std::string_view kWork[] = {
    "repair the fence",   "paint the shutters", "count the tickets",        "sweep the stairs",
    "water the tomatoes", "sharpen the knives", "sort the old photographs", "tune the piano",
    "carry the firewood", "copy the accounts"};

struct Slot {
  std::string_view name;
  Words words;
};
/// `hero`, `friend` and `town` are the cast, which stays for a few sentences.
constexpr Slot kSlots[] = {{"place", kPlaces}, {"thing", kThings},    {"animal", kAnimals},
                           {"food", kFood},    {"weather", kWeather}, {"time", kTimes},
                           {"mood", kMoods},   {"work", kWork},       {"person", kPeople}};

constexpr std::string_view kTemplates[] = {
    "{hero} walked to {place} {time}.",
    "{hero} met {friend} at {place}.",
    "There was {thing} beside the door of {place}.",
    "In {town}, {weather}.",
    "\"I still have to {work},\" said {hero}.",
    "{friend} asked {hero} to {work}.",
    "They shared {food} and talked about {person}.",
    "{hero} had never been so {mood} before.",
    "Near {place} they saw {animal} and {thing}.",
    "{friend} carried {thing} all the way to {place}.",
    "Nobody in {town} remembered who had left {thing} there.",
    "{hero} wrote to {person} {time}, but no answer came.",
    "When {weather}, {friend} stayed at home.",
    "The people of {town} like {food} more than anything else.",
    "\"Have you seen {animal}?\" asked {friend}.",
    "{person} bought {thing} from {hero} {time}.",
    "{hero} and {friend} decided to {work} together.",
    "It took {friend} a long time to {work}.",
    "Behind {place}, {hero} found {thing}.",
    "{friend} was {mood}, and {hero} was {mood} too.",
    "Somebody had forgotten {thing} on the bench near {place}.",
    "Every evening {animal} came to {place} and waited.",
    "{hero} cooked {food} for the neighbours {time}.",
    "\"This is the best {food} in {town},\" {friend} said.",
    "The road from {town} to {place} was closed.",
    "{person} promised to bring {thing} next time.",
    "{hero} looked out of the window while {weather}.",
    "{friend} told a long story about {person} and {animal}.",
    "Without {thing}, {hero} could not {work}.",
    "{time}, as so often in {town}, {weather}.",
    "At {place} the prices had gone up again, and {person} was not {mood} about it.",
    "{friend} laughed and gave {hero} {thing}.",
    "The letter said that {person} would leave {town} {time}.",
    "After that, {hero} went back to {work}.",
    "{person} lives next to {place} and keeps {animal}.",
    "\"We should visit {person} {time},\" {hero} suggested.",
};

/// Little stories without end. Neighbouring sentences come from different templates, so the text
/// never repeats itself the way the noise haystack does.
class StorySentences : public Sentences {
 public:
  explicit StorySentences(Random& random) : random_(random) {}

  std::string next() override {
    constexpr size_t kCastSentences = 7;
    if (count_++ % kCastSentences == 0) new_cast();
    constexpr size_t kCount = std::size(kTemplates);
    template_ = (template_ + 1 + random_.below(kCount - 1)) % kCount;
    return fill(kTemplates[template_]);
  }

 private:
  void new_cast() {
    const size_t hero = random_.below(std::size(kPeople));
    const size_t others = std::size(kPeople) - 1;
    hero_ = kPeople[hero];
    friend_ = kPeople[(hero + 1 + random_.below(others)) % std::size(kPeople)];
    town_ = random_.pick(kTowns);
  }

  std::string_view word_for(std::string_view slot) {
    if (slot == "hero") return hero_;
    if (slot == "friend") return friend_;
    if (slot == "town") return town_;
    const Words words = std::ranges::find(kSlots, slot, &Slot::name)->words;
    std::string_view word = random_.pick(words);
    while (word == hero_ || word == friend_) word = random_.pick(words);  // nobody meets himself
    return word;
  }

  std::string fill(std::string_view pattern) {
    std::string sentence;
    for (size_t open; (open = pattern.find('{')) != std::string_view::npos;) {
      const size_t close = pattern.find('}', open);
      sentence += pattern.substr(0, open);
      sentence += word_for(pattern.substr(open + 1, close - open - 1));
      pattern.remove_prefix(close + 1);
    }
    sentence += pattern;
    sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
    return sentence;
  }

  Random& random_;
  size_t count_ = 0;
  size_t template_ = 0;
  std::string_view hero_, friend_, town_;
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

/// The largest n with size(n) <= limit, given that size(0) <= limit and that `size` grows with n.
/// Sizes are nearly proportional to n, so each guess continues the line through size(0) and the
/// last guess; the bracket makes sure that every guess is new.
size_t largest_that_fits(size_t limit, size_t size_of_none,
                         const std::function<size_t(size_t)>& size) {
  size_t low = 0;
  size_t high = limit + 1;  // no sentence is shorter than a token
  size_t guess = std::min<size_t>(16, limit);
  while (high - low > 1) {
    guess = std::clamp(guess, low + 1, high - 1);
    const size_t measured = size(guess);
    (measured <= limit ? low : high) = guess;
    const double slope =
        std::max(1.0, (static_cast<double>(measured) - static_cast<double>(size_of_none)) /
                          static_cast<double>(guess));
    const double missing = static_cast<double>(limit) - static_cast<double>(measured);
    guess = static_cast<size_t>(
        std::max(0.0, std::round(static_cast<double>(guess) + missing / slope)));
  }
  return low;
}

}  // namespace

Haystack haystack_from_name(std::string_view name) {
  std::string names;
  for (const auto& known : kHaystacks) {
    if (known.name == name) return known.haystack;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("unknown haystack \"{}\"; choose one of {}", name, names));
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
  build(largest_that_fits(request.target_tokens, fewest, tokens));
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
