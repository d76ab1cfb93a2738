#pragma once

#include <span>

/// Agreement of predicted classes with the correct ones over a data set, as in
/// lm-evaluation-harness 0.4.13 (from scikit-learn). Both spans have one class number per sample.
/// All functions throw `Error` (kInvalidArgument) if the lengths differ.
namespace restkv::eval {

/// Matthews correlation, -1 to 1, for any number of classes (cola: mcc). 0 where it is undefined:
/// one side has a single class.
double matthews_correlation(std::span<const int> gold, std::span<const int> predicted);

/// F1 of class `positive` against the rest (mrpc, qqp: f1); 0 if neither side has it.
double f1_of_class(std::span<const int> gold, std::span<const int> predicted, int positive = 1);

/// Mean of `f1_of_class` over the classes 0, 1 and 2 (cb: f1).
double cb_f1(std::span<const int> gold, std::span<const int> predicted);

}  // namespace restkv::eval
