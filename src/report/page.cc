#include "report/page.h"

#include <fmt/format.h>

#include "report/heat_chart.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

// Text is narrow, pictures and tables are as wide as the window; at a phone's width everything is
// in one column. Shadows at the edges of what scrolls sideways show that there is more.
constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--muted:#57606a;--rule:#d0d7de;
--group:#8c959f;--box:#f6f8fa;--link:#0550ae;--shade:rgba(31,35,40,.28)}
@media(prefers-color-scheme:dark){:root{--page:#0d1117;--ink:#e6edf3;--muted:#9da7b3;--rule:#30363d;
--group:#6e7681;--box:#161b22;--link:#79b8ff;--shade:rgba(230,237,243,.3)}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:1240px;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
a{color:var(--link)}:focus-visible{outline:2px solid var(--link);outline-offset:2px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .6rem}h2{font-size:1.4rem;margin:2.6rem 0 .5rem}
h3{font-size:1.15rem;margin:2rem 0 .3rem}h4{font-size:1rem;margin:1.2rem 0 .2rem}
p,li,figcaption{max-width:78ch;margin:.4rem 0}
figcaption,.muted{color:var(--muted)}figcaption{font-size:.9rem}figure{margin:1rem 0}
.verdict{font-size:1.08rem}.verdict li{margin:.3rem 0}
.split{display:grid;grid-template-columns:minmax(0,1fr);gap:0 2.5rem}
@media(min-width:860px){.split{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 2.5rem}
nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;margin:.6rem 0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto;background:linear-gradient(90deg,var(--page) 40%,transparent) 0 0/44px 100%
no-repeat local,linear-gradient(270deg,var(--page) 40%,transparent) 100% 0/44px 100% no-repeat local,
linear-gradient(90deg,var(--shade),transparent) 0 0/14px 100% no-repeat scroll,
linear-gradient(270deg,var(--shade),transparent) 100% 0/14px 100% no-repeat scroll}
svg{max-width:100%;height:auto;display:block}figure>svg{width:100%;max-width:560px}.large svg{max-width:none;min-width:700px;width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.75rem 0;font-size:.92rem;
width:100%;max-width:64rem}
caption,.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th.name,td.name{text-align:left}thead th{border-bottom-width:2px;vertical-align:bottom}
tbody th{font-weight:inherit}
.long{white-space:pre-wrap;overflow-wrap:anywhere;min-width:18rem}
tr.group>*{border-top:2px solid var(--group)}ul{padding-left:1.2rem}
pre,code{background:var(--box);border-radius:6px;font-size:.85rem;overflow-wrap:anywhere}
pre{white-space:pre-wrap;padding:.8rem 1rem;margin:.5rem 0}code{padding:.1rem .3rem}
mark{background:#ffd59a;color:#1f2328}summary{cursor:pointer;padding:.2rem 0}
.tokens{max-width:none;line-height:1.5}.tokens span{display:inline-block;white-space:pre;padding:.05rem .1rem;
vertical-align:top;border-radius:3px;margin:1px}.tokens .number{font-weight:700;text-align:center;
padding:.05rem .2rem}.tokens small{display:block;font-size:.68rem;font-weight:400}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.7rem}
.answers>div{border-left:4px solid var(--group);padding:.1rem .7rem;overflow-wrap:anywhere}
.answers>.right{border-left-style:double;border-left-color:#2a78b8;border-left-width:6px}
.answers p{white-space:pre-wrap;margin:.2rem 0}
)";

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</"
      "html>\n",
      escape(title), kStyle, heat_html_style(), body);
}

std::string figure_html(std::string_view svg, std::string_view caption) {
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", svg, escape(caption));
}

}  // namespace restkv::eval
