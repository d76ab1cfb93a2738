// qa_1 and qa_2: a question on one of many documents.
#include "eval/suites/ruler/question_answering.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/json.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/ruler/python_list.h"
#include "restkv/error.h"

namespace restkv::eval::ruler {
namespace {

/// Reads `file` as JSON and hands it to `read`, which throws `Error` with the reason alone.
QaData read_questions(const std::filesystem::path& file, const char* form,
                      const std::function<void(const Json& content, QaData& data)>& read) {
  QaData data;
  data.file = file;
  const Json content = read_json(file.string());
  try {
    read(content, data);
  } catch (const Error& error) {
    throw Error(ErrorCode::kInput,
                fmt::format("{} is not {}: {}", file.string(), form, error.what()));
  }
  if (data.questions.empty()) {
    throw Error(ErrorCode::kInput, fmt::format("{}: no question in it", file.string()));
  }
  for (const QaData::Question& question : data.questions) {
    const bool has_answers = !question.answers.empty() &&
                             std::ranges::find(question.answers, "") == question.answers.end();
    if (has_answers) continue;
    throw Error(ErrorCode::kInput, fmt::format("{}: the question '{}' lacks an answer; take it out",
                                               file.string(), question.text));
  }
  return data;
}

/// Sorts `documents`, removes duplicates, and returns their positions.
std::map<std::string_view, size_t> number(std::vector<std::string>& documents) {
  std::ranges::sort(documents);
  documents.erase(std::unique(documents.begin(), documents.end()), documents.end());
  std::map<std::string_view, size_t> numbers;
  for (size_t i = 0; i < documents.size(); ++i) numbers[documents[i]] = i;
  return numbers;
}

/// "title\n" and the sentences, which include their spaces.
std::string hotpotqa_document(const Json& paragraph) {
  if (!paragraph.is_array() || paragraph.size() != 2 || !paragraph[0].is_string() ||
      !paragraph[1].is_array()) {
    throw Error(ErrorCode::kInput,
                fmt::format("field 'context' holds {}; expected a title and a list of sentences",
                            shown(paragraph)));
  }
  std::string text = paragraph[0].get<std::string>() + "\n";
  for (const Json& sentence : paragraph[1]) {
    if (!sentence.is_string()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("field 'context' holds the sentence {}", shown(sentence)));
    }
    text += sentence.text();
  }
  return text;
}

class QuestionAnswering : public Generator {
 public:
  QuestionAnswering(const Setup& setup, std::shared_ptr<const QaData> data)
      : data_(std::move(data)),
        template_(setup.text("template")),
        answer_prefix_(setup.text("answer_prefix")),
        document_(setup.prompts->at("qa_document_template").get<std::string>()) {}

  [[nodiscard]] Text make(Random& random, size_t units, size_t index) const override {
    const QaData::Question& question = data_->questions.at(index);
    std::vector<size_t> documents = choose(random, units, question);
    random.shuffle(documents);
    std::string context;
    for (size_t i = 0; i < documents.size(); ++i) {
      if (i > 0) context += "\n\n";
      context += fill_template(
          document_, {{"i", std::to_string(i + 1)}, {"document", data_->documents[documents[i]]}});
    }
    Text text;
    text.set_prompt(fill_prompt(template_, {{"context", context}, {"query", question.text}}));
    text.answer_prefix = answer_prefix_;
    text.answers = question.answers;
    text.fitting_answer = fmt::format(" {}", python_list(question.answers));
    return text;
  }

  [[nodiscard]] size_t step() const override { return 10; }
  [[nodiscard]] size_t available() const override { return data_->documents.size(); }
  [[nodiscard]] size_t questions() const override { return data_->questions.size(); }

 private:
  [[nodiscard]] std::vector<size_t> choose(Random& random, size_t count,
                                           const QaData::Question& question) const {
    std::vector<size_t> chosen = question.documents;
    const auto take = [&](const std::vector<size_t>& from, size_t wanted) {
      for (const size_t i : random.sample(from.size(), std::min(wanted, from.size()))) {
        chosen.push_back(from[i]);
      }
    };
    const size_t missing = count - std::min(count, chosen.size());
    if (missing <= question.related.size()) {
      take(question.related, missing);
      return chosen;
    }
    chosen.insert(chosen.end(), question.related.begin(), question.related.end());
    const std::set<size_t> used(chosen.begin(), chosen.end());
    std::vector<size_t> others;
    for (size_t i = 0; i < data_->documents.size(); ++i) {
      if (!used.contains(i)) others.push_back(i);
    }
    take(others, count - std::min(count, chosen.size()));
    return chosen;
  }

  std::shared_ptr<const QaData> data_;
  std::string template_, answer_prefix_, document_;
};

}  // namespace

QaData read_squad(const std::filesystem::path& file) {
  return read_questions(file, "SQuAD 2.0 in its published form", [](const Json& all, QaData& data) {
    for (const Json& article : list_field(all, "data")) {
      for (const Json& paragraph : list_field(article, "paragraphs")) {
        data.documents.push_back(text_field(paragraph, "context"));
      }
    }
    const auto numbers = number(data.documents);
    const auto number_of = [&](const Json& paragraph) {
      return numbers.at(text_field(paragraph, "context"));
    };
    for (const Json& article : list_field(all, "data")) {
      for (const Json& paragraph : list_field(article, "paragraphs")) {
        QaData::Question question;
        question.documents = {number_of(paragraph)};
        for (const Json& other : list_field(article, "paragraphs")) {
          if (number_of(other) != question.documents.front()) {
            question.related.push_back(number_of(other));
          }
        }
        for (const Json& asked : list_field(paragraph, "qas")) {
          if (bool_field(asked, "is_impossible")) continue;
          question.text = text_field(asked, "question");
          question.answers.clear();
          for (const Json& answer : list_field(asked, "answers")) {
            question.answers.push_back(text_field(answer, "text"));
          }
          data.questions.push_back(question);
        }
      }
    }
  });
}

QaData read_hotpotqa(const std::filesystem::path& file) {
  const char* form = "HotpotQA (distractor setting) in its published form";
  return read_questions(file, form, [](const Json& all, QaData& data) {
    for (const Json& asked : all) {
      for (const Json& paragraph : list_field(asked, "context")) {
        data.documents.push_back(hotpotqa_document(paragraph));
      }
    }
    const auto numbers = number(data.documents);
    for (const Json& asked : all) {
      QaData::Question question;
      question.text = text_field(asked, "question");
      question.answers = {text_field(asked, "answer")};
      for (const Json& paragraph : list_field(asked, "context")) {
        question.documents.push_back(numbers.at(hotpotqa_document(paragraph)));
      }
      data.questions.push_back(std::move(question));
    }
  });
}

std::unique_ptr<Generator> question_answering_generator(const Setup& setup,
                                                        std::shared_ptr<const QaData> data) {
  return std::make_unique<QuestionAnswering>(setup, std::move(data));
}

}  // namespace restkv::eval::ruler
