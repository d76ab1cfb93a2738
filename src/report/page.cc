#include "report/page.h"

#include <fmt/format.h>

#include "report/svg.h"

namespace restkv::eval {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:1200px;background:#fff;color:#1f2328;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.5rem;margin:3rem 0 .5rem}
h3{font-size:1.15rem;margin:2.2rem 0 .3rem}p,li,figcaption{max-width:80ch;margin:.4rem 0}
figcaption,.muted{color:#57606a}figure{margin:1rem 0}.wide{overflow-x:auto}
svg{max-width:100%;min-width:640px;height:auto;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.75rem 0;font-size:.92rem}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid #d0d7de}
th.name,td.name{text-align:left}th{border-bottom-width:2px;vertical-align:bottom}
td.long{white-space:pre-wrap;overflow-wrap:anywhere;min-width:24rem}
tr.group td{border-top:2px solid #afb8c1}ul{padding-left:1.2rem}
pre{white-space:pre-wrap;padding:1rem;background:#f6f8fa;border-radius:6px;font-size:.85rem}
mark{background:#ffd59a;color:#1f2328}summary{cursor:pointer}
@media(prefers-color-scheme:dark){
body{background:#0d1117;color:#e6edf3}figcaption,.muted{color:#9da7b3}
th,td{border-color:#30363d}tr.group td{border-top-color:#57606a}pre{background:#161b22}
}
)";

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
      escape(title), kStyle, body);
}

std::string figure_html(std::string_view svg, std::string_view caption) {
  return fmt::format("<figure><div class=\"wide\">{}</div><figcaption>{}</figcaption></figure>\n",
                     svg, escape(caption));
}

}  // namespace restkv::eval
