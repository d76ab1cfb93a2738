#include "base/stories.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <span>

namespace restkv::eval {
namespace {

using Words = std::span<const std::string_view>;

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
/// `hero`, `friend` and `town` keep their words for a few sentences.
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

}  // namespace

std::string Stories::next() {
  constexpr size_t kCastSentences = 7;
  if (count_++ % kCastSentences == 0) new_cast();
  constexpr size_t kCount = std::size(kTemplates);
  template_ = (template_ + 1 + random_.below(kCount - 1)) % kCount;
  return fill(kTemplates[template_]);
}

void Stories::new_cast() {
  const size_t hero = random_.below(std::size(kPeople));
  const size_t others = std::size(kPeople) - 1;
  hero_ = kPeople[hero];
  friend_ = kPeople[(hero + 1 + random_.below(others)) % std::size(kPeople)];
  town_ = random_.pick(kTowns);
}

std::string_view Stories::word_for(std::string_view slot) {
  if (slot == "hero") return hero_;
  if (slot == "friend") return friend_;
  if (slot == "town") return town_;
  const Words words = std::ranges::find(kSlots, slot, &Slot::name)->words;
  std::string_view word = random_.pick(words);
  while (word == hero_ || word == friend_) word = random_.pick(words);  // a third person
  return word;
}

std::string Stories::fill(std::string_view pattern) {
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

}  // namespace restkv::eval
