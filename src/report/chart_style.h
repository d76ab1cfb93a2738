#pragma once

#include <string_view>

namespace restkv::eval {

/// Looks that the pictures of reports share, for light and dark mode.
inline constexpr std::string_view kChartStyle = R"(
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:19px;font-weight:600}.strong{font-weight:600}.muted{fill:#57606a}.small{font-size:11px}
.middle{text-anchor:middle}.end{text-anchor:end}
.paper{fill:#ffffff}.axis{stroke:#8c959f;fill:none}.grid{stroke:#d8dee4;fill:none}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.dashed{stroke-dasharray:6 4}
.full{fill:none;stroke:#1f2328;stroke-width:1.8;stroke-dasharray:2 4}
.s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#cc79a7}.s4{stroke:#e69f00}
.s5{stroke:#56b4e9}.s6{stroke:#7a5195}
.hit{fill:none;stroke:none;pointer-events:all}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.muted{fill:#9da7b3}.paper{fill:#0d1117}.axis{stroke:#6e7681}.grid{stroke:#21262d}
.full{stroke:#e6edf3}
}
)";

}  // namespace restkv::eval
