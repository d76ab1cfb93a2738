#include "document/html_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

#include "base/text.h"
#include "support/refusal.h"

namespace restkv::document {
namespace {

using ::restkv::testing::refusal;
using ::testing::HasSubstr;

std::string text(std::string_view html) { return html_text(html, "page.html"); }

TEST(HtmlText, ReadsWhatAPageSays) {
  EXPECT_EQ(text(R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The harbour</title>
<style>p { color: red }</style><script>if (a < b) document.write("<p>never</p>");</script></head>
<body><nav><ul><li><a href="/">Home</a></ul></nav>
<div role="navigation">Menu</div><p hidden>Secret</p><span aria-hidden="true">icon</span>
<main><h1>A <em>new</em>
 harbour</h1>
<p>It was opened   in&nbsp;1890 &amp; cost &euro;&#160;5&#x2009;million.
<p>Ships:<br>three<br><br>or four.
<blockquote>Said <a href="x">somebody</a>.</blockquote>
<h2></h2><h3>Costs</h3>
<ul><li>stone<li>wood<ol><li>oak</li><li>pine</li></ol><li></ul>
<dl><dt>Depth<dd>9 m</dl>
<pre>
a  b
  c
</pre>
<form>Name <input value="x"><select><option>red</select><button>Send</button></form>
<svg><title>Logo</title><text>svg</text></svg><noscript>Enable scripts</noscript>
</main></body></html>)"),
            R"(The harbour

# A new harbour

It was opened in 1890 & cost € 5)"
            "\u2009"
            R"(million.

Ships:
three

or four.

Said somebody.

### Costs

- stone
- wood
  1. oak
  2. pine

Depth
9 m

a  b
  c

Name
)");
}

TEST(HtmlText, RowsOfTablesAreLines) {
  EXPECT_EQ(text("<p>Before<table><caption>Depths</caption><thead><tr><th>Pier<th>Metres</thead>"
                 "<tr><td>North</td><td><p>9</p></td></tr><tr><td></td><td>7</td></tr>"
                 "<tr><td> <td> </table>After"),
            "Before\n\nDepths\n\nPier | Metres\nNorth | 9\n | 7\n\nAfter\n");
}

TEST(HtmlText, TablesThatArrangeAPageAreParagraphs) {
  EXPECT_EQ(text("<table><tr><td>Left</td><td>One.<br><br>Two.<table><tr><td>a<td>b<tr><td>c<td>d"
                 "</table></td></tr></table>"),
            "Left\n\nOne.\n\nTwo.\n\na | b\nc | d\n");
  EXPECT_EQ(text("<td>no row</td> and more"), "no row\n\nand more\n");
}

TEST(HtmlText, WordsStayApartAndTogether) {
  EXPECT_EQ(text("<b>un</b>believ<i>able</i> <b> x </b>y<div>z</div>w"),
            "unbelievable x y\nz\nw\n");
  EXPECT_EQ(text("plain &lt;tag&gt; &unknown; &#128512;"), "plain <tag> &unknown; \U0001F600\n");
  EXPECT_EQ(text(""), "");
  EXPECT_EQ(text("<p> </p>"), "");
}

TEST(HtmlText, ScriptsWithTagsInTextAreLeftOutWhole) {
  EXPECT_EQ(
      text("a<script>var s = '<b>x</b></p>'; // </scrip\n</script>b<style><!-- p{} --></style>"
           "<!-- <p>comment</p> -->c"),
      "abc\n");
}

TEST(HtmlText, DeepNestingIsRefused) {
  std::string deep;
  for (size_t i = 0; i < 600; ++i) deep += "<div>";
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { (void)text(deep + "x"); }),
              HasSubstr("page.html: is an HTML page whose elements are nested more than 512 deep"));
  deep.resize(deep.size() / 2);
  EXPECT_EQ(text(deep + "x"), "x\n");
}

TEST(HtmlText, AnyBytesGiveSomeText) {
  constexpr std::string_view kPieces[] = {
      "<table>", "</table>",   "<tr>",    "</tr>",    "<td>",  "</td>",  "<ul>", "</ul>",
      "<ol>",    "<li>",       "<p>",     "</p>",     "<pre>", "</pre>", "<h1>", "</h1>",
      "<br>",    "<nav>",      "</nav>",  "<script>", "</div", "<!--",   "-->",  "<![CDATA[",
      "]]>",     "&#x",        "&amp",    "<a b='",   "\"",    ">",      "<",    "</script>",
      "word ",   "\n",         "\u00A0",  "\u20AC",   "<?xml", "<!",     "</",   "\x01",
      "<body>",  "<frameset>", "</html>", "<title>"};
  std::mt19937 random(1);
  for (size_t round = 0; round < 2000; ++round) {
    std::string html;
    const size_t pieces = random() % 60;
    for (size_t i = 0; i < pieces; ++i) html += kPieces[random() % std::size(kPieces)];
    std::string read;
    try {
      read = text(html);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInput) << html;
    }
    EXPECT_EQ(replace_invalid_utf8(read), read) << html;
  }
}

}  // namespace
}  // namespace restkv::document
