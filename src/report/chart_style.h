#pragma once

#include <string_view>

namespace restkv::eval {

/// Looks that the pictures of reports share, for light and dark mode. `.s0` to `.s6` are Okabe and
/// Ito's colours, which colour-blind readers can distinguish; in dark mode they are brighter.
inline constexpr std::string_view kChartStyle = R"(
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:17px;font-weight:600}.strong{font-weight:600}.muted{fill:#57606a}.small{font-size:11px}
.middle{text-anchor:middle}.end{text-anchor:end}
.paper{fill:#ffffff}.axis{stroke:#8c959f;fill:none}.grid{stroke:#d8dee4;fill:none}
.s0{stroke:#0072b2;color:#0072b2}.s1{stroke:#d55e00;color:#d55e00}.s2{stroke:#009e73;color:#009e73}
.s3{stroke:#b5518d;color:#b5518d}.s4{stroke:#b07a00;color:#b07a00}.s5{stroke:#3a9bd1;color:#3a9bd1}
.s6{stroke:#7a5195;color:#7a5195}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.bar{fill:none;stroke-width:1.3}
.mark{fill:currentColor;stroke-width:1.4;stroke-linejoin:round}
.d1{stroke-dasharray:9 5}.d2{stroke-dasharray:3 4}.d3{stroke-dasharray:12 4 3 4}
.full{fill:none;stroke:#1f2328;stroke-width:1.8;stroke-dasharray:1 4}
.hit{fill:none;stroke:none;pointer-events:all}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.muted{fill:#9da7b3}.paper{fill:#0d1117}.axis{stroke:#6e7681}.grid{stroke:#21262d}
.full{stroke:#e6edf3}
.s0{stroke:#58a6e6;color:#58a6e6}.s1{stroke:#ff9350;color:#ff9350}.s2{stroke:#3fc79a;color:#3fc79a}
.s3{stroke:#e7a0cb;color:#e7a0cb}.s4{stroke:#e9b949;color:#e9b949}.s5{stroke:#9fd6f7;color:#9fd6f7}
.s6{stroke:#bf9be0;color:#bf9be0}
}
)";

}  // namespace restkv::eval
