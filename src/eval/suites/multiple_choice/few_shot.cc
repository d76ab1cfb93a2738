#include "eval/suites/multiple_choice/few_shot.h"

#include <fmt/format.h>

#include <utility>

#include "base/random.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// A question and its right choice.
std::string solved(const Sample& example) {
  const Json* gold = example.reference.find("gold");
  if (gold == nullptr) {
    throw Error(ErrorCode::kInput,
                fmt::format("the example {} has no right choice among its own", example.id));
  }
  return example.prompt + example.choices.at(gold->get<size_t>());
}

class FewShotTask : public Task {
 public:
  FewShotTask(std::unique_ptr<Task> task, std::unique_ptr<Task> examples, const FewShot& few_shot)
      : task_(std::move(task)),
        examples_(std::move(examples)),
        few_shot_(few_shot),
        own_file_(examples_->files() == task_->files()) {
    const size_t usable = examples_->size() - (own_file_ ? 1 : 0);
    if (few_shot.shots <= usable) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has {} examples, but {} are asked for; use fewer shots", name(),
                            usable, few_shot.shots));
  }

  [[nodiscard]] std::string name() const override { return task_->name(); }
  [[nodiscard]] std::string category() const override { return task_->category(); }
  [[nodiscard]] size_t size() const override { return task_->size(); }
  [[nodiscard]] bool lower_is_better() const override { return task_->lower_is_better(); }
  [[nodiscard]] size_t published_size() const override { return task_->published_size(); }
  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    return task_->score(sample, answer);
  }

  [[nodiscard]] std::vector<std::string> notes() const override {
    std::vector<std::string> notes = task_->notes();
    notes.push_back(fmt::format("{} of {} examples from {} before each question", few_shot_.shots,
                                examples_->size(), examples_->files().at(0).filename().string()));
    return notes;
  }

  [[nodiscard]] std::vector<std::filesystem::path> files() const override {
    std::vector<std::filesystem::path> files = task_->files();
    if (!own_file_) files.push_back(examples_->files().at(0));
    return files;
  }

  [[nodiscard]] Sample sample(size_t index) const override {
    Sample sample = task_->sample(index);
    Random random(few_shot_.seed, name(), index);
    std::string examples;
    for (size_t drawn : random.sample(examples_->size() - (own_file_ ? 1 : 0), few_shot_.shots)) {
      if (own_file_ && drawn >= index) ++drawn;  // all but the question itself
      examples += solved(examples_->sample(drawn)) + few_shot_.delimiter;
    }
    sample.prompt.insert(0, examples);
    return sample;
  }

 private:
  std::unique_ptr<Task> task_;
  std::unique_ptr<Task> examples_;
  FewShot few_shot_;
  bool own_file_;
};

}  // namespace

std::unique_ptr<Task> with_examples(std::unique_ptr<Task> task, std::unique_ptr<Task> examples,
                                    const FewShot& few_shot) {
  return std::make_unique<FewShotTask>(std::move(task), std::move(examples), few_shot);
}

}  // namespace restkv::eval
