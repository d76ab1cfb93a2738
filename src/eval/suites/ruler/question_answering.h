#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "eval/suites/ruler/generator.h"

namespace restkv::eval::ruler {

/// Questions on documents.
struct QaData {
  struct Question {
    std::string text;
    std::vector<std::string> answers;
    std::vector<size_t> documents;  ///< With the answer: always in the prompt.
    std::vector<size_t> related;    ///< Taken before unrelated ones.
  };
  std::vector<Question> questions;
  std::vector<std::string> documents;  ///< Distinct, in order.
  std::filesystem::path file;
};

/// SQuAD 2.0 in its published form; questions that can be answered. Throws Error(kInput).
QaData read_squad(const std::filesystem::path& file);
/// HotpotQA, distractor setting, in its published form. Throws Error(kInput).
QaData read_hotpotqa(const std::filesystem::path& file);

std::unique_ptr<Generator> question_answering_generator(const Setup& setup,
                                                        std::shared_ptr<const QaData> data);

}  // namespace restkv::eval::ruler
