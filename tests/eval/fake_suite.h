#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "eval/suite.h"

namespace restkv::testing {

/// A task made of given samples. Its only score, "length", is the size of the text, of the list of
/// log-likelihoods, or the sum of the losses.
class FakeTask : public eval::Task {
 public:
  FakeTask(std::string name, std::vector<eval::Sample> samples)
      : name_(std::move(name)), samples_(std::move(samples)) {}

  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] std::string category() const override { return "fake"; }
  [[nodiscard]] size_t size() const override { return samples_.size(); }
  [[nodiscard]] size_t published_size() const override { return 100; }
  [[nodiscard]] eval::Sample sample(size_t index) const override { return samples_.at(index); }
  [[nodiscard]] eval::Scores score(const eval::Sample& /*sample*/,
                                   const eval::Answer& answer) const override {
    double value = static_cast<double>(answer.text.size() + answer.log_likelihoods.size());
    for (const double loss : answer.token_losses) value += loss;
    return {{"length", value}};
  }

 private:
  std::string name_;
  std::vector<eval::Sample> samples_;
};

}  // namespace restkv::testing
