#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/metrics/qa_f1.h"
#include "eval/metrics/text.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/multiple_choice/multiple_choice.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr std::array<std::string_view, 3> kCbLabels = {"entailment", "contradiction", "neutral"};
constexpr std::array<std::string_view, 2> kRteLabels = {"entailment", "not_entailment"};

std::string stripped(std::string_view utf8) {
  const std::u32string decoded = text::decode(utf8);
  return text::encode(text::strip(decoded));
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string replaced;
  for (size_t at; (at = text.find(from)) != std::string_view::npos;) {
    replaced.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return replaced.append(text);
}

/// The record's number, if it has one.
std::string id_of(const Json& record) {
  const Json* id = record.find("idx");
  return id != nullptr && id->is_number_integer() ? id->dump() : "";
}

Question question_of(const Json& record, Json fields, size_t gold) {
  return {.id = id_of(record), .fields = std::move(fields), .gold = gold};
}

// --- Plain templates -----------------------------------------------------------------------------

std::vector<Question> boolq(const Json& record) {
  return {question_of(record, record, label_field(record, 2))};
}

std::vector<Question> cb(const Json& record) {
  return {question_of(record, record, label_field(record, kCbLabels.size(), kCbLabels))};
}

std::vector<Question> rte(const Json& record) {
  return {question_of(record, record, label_field(record, kRteLabels.size(), kRteLabels))};
}

// --- Fields that are made ------------------------------------------------------------------------

std::string lower_first(const std::string& utf8) {
  const std::u32string decoded = text::decode(utf8);
  if (decoded.empty()) return "";
  return text::encode(text::lower(decoded.substr(0, 1)) + decoded.substr(1));
}

/// "The man broke his toe." and cause: "The man broke his toe because".
std::vector<Question> copa(const Json& record) {
  std::string premise = stripped(text_field(record, "premise"));
  std::u32string letters = text::decode(premise);
  if (letters.empty()) throw Error(ErrorCode::kInput, "field 'premise' is empty");
  letters.pop_back();
  const std::string& question = text_field(record, "question");
  if (question != "cause" && question != "effect") {
    throw Error(ErrorCode::kInput,
                fmt::format("field 'question' must be cause or effect, not '{}'", question));
  }
  Json fields = {{"premise", text::encode(letters)},
                 {"connector", question == "cause" ? "because" : "therefore"},
                 {"choice1", lower_first(text_field(record, "choice1"))},
                 {"choice2", lower_first(text_field(record, "choice2"))}};
  return {question_of(record, std::move(fields), label_field(record, 2))};
}

/// The word is the range [start1, end1) of the first sentence, counted in code points.
std::vector<Question> wic(const Json& record) {
  const std::u32string sentence = text::decode(text_field(record, "sentence1"));
  const size_t begin = count_field(record, "start1");
  const size_t end = count_field(record, "end1");
  if (begin >= end || end > sentence.size()) {
    throw Error(ErrorCode::kInput,
                fmt::format("fields 'start1' {} and 'end1' {} are no place in a sentence of {} "
                            "characters",
                            begin, end, sentence.size()));
  }
  Json fields = {{"sentence1", text_field(record, "sentence1")},
                 {"sentence2", text_field(record, "sentence2")},
                 {"word", text::encode(std::u32string_view(sentence).substr(begin, end - begin))}};
  return {question_of(record, std::move(fields), label_field(record, 2))};
}

/// Undoes the spaces that tokenised text has around punctuation.
std::string detokenize(std::string text) {
  text = replace_all(text, " n't", "n't");
  text = replace_all(text, " )", ")");
  text = replace_all(text, "( ", "(");
  text = replace_all(text, "\" ", "\"");
  text = replace_all(text, " \"", "\"");
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] == ' ' && (next == '\'' || next == '.' || next == ',')) continue;
    out += text[i];
  }
  return out;
}

/// The passage with stars around the pronoun, whose place is counted in words. The text after it is
/// taken by offset, as if all words before were one space apart.
std::vector<Question> wsc(const Json& record) {
  const Json& target = object_field(record, "target");
  const std::u32string passage = text::decode(text_field(record, "text"));
  const std::u32string pronoun = text::decode(text_field(target, "span2_text"));
  std::vector<std::u32string_view> words = text::split(passage);
  const size_t at = count_field(target, "span2_index");
  if (at >= words.size()) {
    throw Error(ErrorCode::kInput, fmt::format("field 'span2_index' is {}, but the text has {} "
                                               "words",
                                               at, words.size()));
  }
  words.resize(at);
  const std::u32string before = text::join(words, U" ");
  const size_t after = std::min(before.size() + pronoun.size() + 1, passage.size());
  Json fields = {{"passage", detokenize(text::encode(before + U" *" + pronoun + U"*" +
                                                     passage.substr(after)))},
                 {"span1_text", text_field(target, "span1_text")},
                 {"span2_text", text_field(target, "span2_text")}};
  return {question_of(record, std::move(fields), label_field(record, 2))};
}

/// A passage has several questions with several answers each, and each answer is a sample. The
/// harness's gold is the label, although its first choice is "yes": a right answer (label 1) counts
/// as correct if the model prefers "no".
std::vector<Question> multirc(const Json& record) {
  const Json& passage = object_field(record, "passage");
  std::vector<Question> questions;
  for (const Json& question : list_field(passage, "questions")) {
    for (const Json& answer : list_field(question, "answers")) {
      Json fields = {{"paragraph", text_field(passage, "text")},
                     {"question", text_field(question, "question")},
                     {"answer", text_field(answer, "text")}};
      questions.push_back(
          {.id = fmt::format("{}-{}-{}", id_of(record), id_of(question), id_of(answer)),
           .fields = std::move(fields),
           .gold = label_field(answer, 2)});
    }
  }
  return questions;
}

// --- ReCoRD --------------------------------------------------------------------------------------

/// The passage, then what follows each "@highlight" as a list.
std::string record_context(const std::string& passage) {
  constexpr std::string_view kMark = "\n@highlight\n";
  std::string rest = stripped(passage);
  const size_t first = std::min(rest.find(kMark), rest.size());
  std::string context = rest.substr(0, first) + "\n\n";
  rest.erase(0, first);
  while (!rest.empty()) {
    rest.erase(0, kMark.size());
    const size_t end = std::min(rest.find(kMark), rest.size());
    context += fmt::format("  - {}.\n", rest.substr(0, end));
    rest.erase(0, end);
  }
  return context;
}

/// Each entity of the passage fills the query's blank once; `gold` are all the right ones.
std::vector<Sample> record_samples(const Json& record) {
  const Json& passage = object_field(record, "passage");
  const std::string context = record_context(text_field(passage, "text"));
  const std::u32string letters = text::decode(text_field(passage, "text"));
  std::set<std::string> entities;  // sorted by code points, as UTF-8 is
  for (const Json& entity : list_field(passage, "entities")) {
    const size_t begin = count_field(entity, "start");
    const size_t last = count_field(entity, "end");  // inclusive
    if (begin > last || last >= letters.size()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("entity {} to {} is no place in a passage of {} characters", begin,
                              last, letters.size()));
    }
    entities.insert(text::encode(std::u32string_view(letters).substr(begin, last - begin + 1)));
  }
  std::vector<Sample> samples;
  for (const Json& question : list_field(record, "qas")) {
    std::set<std::string> answers;
    for (const Json& answer : list_field(question, "answers")) {
      answers.insert(filled_text_field(answer, "text"));
    }
    std::vector<std::string> choices;
    choices.reserve(entities.size());
    for (const std::string& entity : entities) {
      choices.push_back(fmt::format(
          "  - {}", replace_all(text_field(question, "query"), "@placeholder", entity)));
    }
    if (choices.empty() || answers.empty()) {
      throw Error(ErrorCode::kInput, "a question has no entity to choose or no answer");
    }
    Sample sample = choice_sample(context, choices, 0);
    sample.id = fmt::format("{}-{}", id_of(record), id_of(question));
    sample.reference = {{"entities", std::vector<std::string>(entities.begin(), entities.end())},
                        {"answers", std::vector<std::string>(answers.begin(), answers.end())}};
    const auto gold = std::ranges::find_if(
        entities, [&](const std::string& entity) { return answers.contains(entity); });
    if (gold != entities.end()) {  // the first right one, for examples
      sample.reference["gold"] = std::distance(entities.begin(), gold);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

Scores record_score(const Sample& sample, const Answer& answer) {
  const auto entities = sample.reference.at("entities").get<std::vector<std::string>>();
  const auto answers = sample.reference.at("answers").get<std::vector<std::string>>();
  const std::string& chosen = entities.at(most_likely(answer.log_likelihoods));
  Scores best{{"f1", 0}, {"em", 0}};
  for (const std::string& right : answers) {
    best[0].second = std::max(best[0].second, qa_f1(chosen, right));
    best[1].second = std::max(best[1].second, exact_match(chosen, right) ? 1.0 : 0.0);
  }
  return best;
}

// -------------------------------------------------------------------------------------------------

constexpr std::string_view kSource =
    "https://dl.fbaipublicfiles.com/glue/superglue/data/v2/combined.zip (<task>/val.jsonl)";
constexpr std::string_view kExampleSource =
    "https://github.com/THUDM/P-tuning (FewGLUE_32dev/<task>/train.jsonl)";

struct Dataset {
  std::string_view name;
  std::string_view folder;
  std::string_view category;
  size_t size = 0;
  std::vector<Question> (*questions)(const Json& record);
};

constexpr std::array<Dataset, 7> kDatasets = {
    Dataset{"boolq", "BoolQ", "question_answering", 3270, boolq},
    Dataset{"cb", "CB", "inference", 56, cb},
    Dataset{"copa", "COPA", "causal_reasoning", 100, copa},
    Dataset{"multirc", "MultiRC", "question_answering", 4848, multirc},
    Dataset{"sglue_rte", "RTE", "inference", 277, rte},
    Dataset{"wic", "WiC", "word_sense", 638, wic},
    Dataset{"wsc", "WSC", "coreference", 104, wsc}};
constexpr size_t kRecordSize = 10000;

TaskInfo info_of(std::string_view name, std::string_view folder, std::string_view category) {
  return {.name = std::string(name),
          .category = std::string(category),
          .metric = "f1",
          .file = fmt::format("superglue/{}/val.jsonl", folder),
          .source = std::string(kSource),
          .other_files = {fmt::format("SuperGLUE/{}/val.jsonl", folder),
                          fmt::format("combined/{}/val.jsonl", folder)}};
}

/// FewGLUE's 32 training examples, else SuperGLUE's own training set.
TaskInfo examples_of(std::string_view folder) {
  return {.name = {},
          .category = {},
          .metric = {},
          .file = fmt::format("superglue/{}/train32.jsonl", folder),
          .source = std::string(kExampleSource),
          .other_files = {fmt::format("superglue/{}/train.jsonl", folder),
                          fmt::format("FewGLUE_32dev/{}/train.jsonl", folder),
                          fmt::format("SuperGLUE/{}/train.jsonl", folder),
                          fmt::format("combined/{}/train.jsonl", folder)}};
}

std::vector<RecordTask> record_tasks() {
  std::vector<RecordTask> tasks;
  tasks.reserve(kDatasets.size() + 1);
  for (const Dataset& dataset : kDatasets) {
    tasks.push_back(choice_task({.info = info_of(dataset.name, dataset.folder, dataset.category),
                                 .examples = examples_of(dataset.folder),
                                 .published_size = dataset.size,
                                 .harness_task = std::string(dataset.name),
                                 .questions = dataset.questions}));
  }
  tasks.push_back({.info = info_of("record", "ReCoRD", "question_answering"),
                   .examples = examples_of("ReCoRD"),
                   .published_size = kRecordSize,
                   .samples = record_samples,
                   .score = record_score});
  return tasks;
}

Scores summarize(std::string_view task, std::span<const Scores> samples) {
  return task == "record" ? mean_scores(samples) : summarize_choices(task, samples);
}

}  // namespace

Suite superglue_suite() {
  Suite suite = choice_suite<record_tasks>(
      "superglue",
      "question answering, inference, word sense, coreference (SuperGLUE, prompted choice)");
  suite.summarize = summarize;
  return suite;
}

}  // namespace restkv::eval
