#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/closest_name.h"
#include "restkv/error.h"

namespace restkv {

/// The element of a list whose name, which `name_of` takes from it, is `name`. Throws `Error`
/// (kInvalidArgument): `refusal` says that there is none, first {}, and which names are known,
/// second {}; the name that was probably meant stands behind it.
template <class List, class NameOf>
const auto& find_named(const List& list, NameOf name_of, std::string_view name,
                       fmt::format_string<std::string_view&, std::string&> refusal) {
  const auto found = std::ranges::find(list, name, name_of);
  if (found != std::ranges::end(list)) return *found;
  std::vector<std::string_view> names;
  for (const auto& row : list) names.push_back(std::invoke(name_of, row));
  std::string known = fmt::format("{}", fmt::join(names, ", "));
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format(refusal, name, known) + did_you_mean(name, names));
}

}  // namespace restkv
