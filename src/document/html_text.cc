#include "document/html_text.h"

#include <fmt/format.h>
#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "document/text_layout.h"
#include "restkv/error.h"

namespace restkv::document {
namespace {

/// libxml2 looks through all open elements for each tag that fits none.
constexpr size_t kMostNested = 512;

enum class Role {
  kInline,
  kLine,       ///< Begins a line and ends it.
  kParagraph,  ///< The same with empty lines around it.
  kHeading,
  kBulletList,
  kNumberedList,
  kItem,
  kVerbatim,
  kRow,
  kCell,
  kLineBreak,
  kSkipped,
};

Role role_of(std::string_view tag) {
  struct Named {
    std::string_view tag;
    Role role;
  };
  constexpr std::array kRoles{Named{"address", Role::kLine},
                              Named{"article", Role::kParagraph},
                              Named{"aside", Role::kParagraph},
                              Named{"audio", Role::kSkipped},
                              Named{"blockquote", Role::kParagraph},
                              Named{"br", Role::kLineBreak},
                              Named{"button", Role::kSkipped},
                              Named{"canvas", Role::kSkipped},
                              Named{"caption", Role::kParagraph},
                              Named{"center", Role::kLine},
                              Named{"datalist", Role::kSkipped},
                              Named{"dd", Role::kLine},
                              Named{"details", Role::kParagraph},
                              Named{"div", Role::kLine},
                              Named{"dl", Role::kParagraph},
                              Named{"dt", Role::kLine},
                              Named{"fieldset", Role::kLine},
                              Named{"figcaption", Role::kParagraph},
                              Named{"figure", Role::kParagraph},
                              Named{"footer", Role::kParagraph},
                              Named{"form", Role::kLine},
                              Named{"h1", Role::kHeading},
                              Named{"h2", Role::kHeading},
                              Named{"h3", Role::kHeading},
                              Named{"h4", Role::kHeading},
                              Named{"h5", Role::kHeading},
                              Named{"h6", Role::kHeading},
                              Named{"header", Role::kParagraph},
                              Named{"hr", Role::kParagraph},
                              Named{"iframe", Role::kSkipped},
                              Named{"li", Role::kItem},
                              Named{"main", Role::kParagraph},
                              Named{"menu", Role::kBulletList},
                              Named{"nav", Role::kSkipped},
                              Named{"noscript", Role::kSkipped},
                              Named{"object", Role::kSkipped},
                              Named{"ol", Role::kNumberedList},
                              Named{"p", Role::kParagraph},
                              Named{"pre", Role::kVerbatim},
                              Named{"script", Role::kSkipped},
                              Named{"section", Role::kParagraph},
                              Named{"select", Role::kSkipped},
                              Named{"style", Role::kSkipped},
                              Named{"summary", Role::kLine},
                              Named{"svg", Role::kSkipped},
                              Named{"table", Role::kParagraph},
                              Named{"td", Role::kCell},
                              Named{"template", Role::kSkipped},
                              Named{"textarea", Role::kSkipped},
                              Named{"th", Role::kCell},
                              Named{"title", Role::kParagraph},
                              Named{"tr", Role::kRow},
                              Named{"ul", Role::kBulletList},
                              Named{"video", Role::kSkipped}};
  static_assert(std::ranges::is_sorted(kRoles, {}, &Named::tag));
  const auto* const found = std::ranges::lower_bound(kRoles, tag, {}, &Named::tag);
  return found != kRoles.end() && found->tag == tag ? found->role : Role::kInline;
}

std::string_view view_of(const xmlChar* text) { return reinterpret_cast<const char*>(text); }

/// `attributes`: names and values by turns, ended by a null pointer.
bool is_hidden(const xmlChar** attributes) {
  for (; attributes != nullptr && *attributes != nullptr; attributes += 2) {
    const std::string_view name = view_of(attributes[0]);
    const std::string_view value = attributes[1] != nullptr ? view_of(attributes[1]) : "";
    if (name == "hidden" || (name == "aria-hidden" && value == "true") ||
        (name == "role" && value == "navigation")) {
      return true;
    }
  }
  return false;
}

/// Hears of the elements and texts of a page, in order.
class Reader {
 public:
  explicit Reader(htmlParserCtxtPtr parser) : parser_(parser) {}

  void begin(std::string_view tag, const xmlChar** attributes) {
    if (open_.size() >= kMostNested) {
      too_deep_ = true;
      xmlStopParser(parser_);
      return;
    }
    const bool skipped = skipped_ > 0 || role_of(tag) == Role::kSkipped || is_hidden(attributes);
    open_.push_back(skipped ? Role::kSkipped : role_of(tag));
    if (skipped) {
      ++skipped_;
      return;
    }
    switch (open_.back()) {
      case Role::kLine:
        page_.new_line();
        break;
      case Role::kParagraph:
        page_.new_paragraph();
        break;
      case Role::kHeading:
        page_.begin_heading(static_cast<size_t>(tag[1] - '0'));
        break;
      case Role::kBulletList:
        page_.begin_list(false);
        break;
      case Role::kNumberedList:
        page_.begin_list(true);
        break;
      case Role::kItem:
        page_.begin_item();
        break;
      case Role::kVerbatim:
        page_.begin_verbatim();
        break;
      case Role::kRow:
        page_.begin_row();
        break;
      case Role::kCell:
        page_.begin_cell();
        break;
      case Role::kLineBreak:
        page_.line_break();
        break;
      case Role::kInline:
      case Role::kSkipped:
        break;
    }
  }

  void end() {
    if (open_.empty()) return;
    const Role role = open_.back();
    open_.pop_back();
    switch (role) {
      case Role::kLine:
      case Role::kItem:
        page_.new_line();
        break;
      case Role::kParagraph:
        page_.new_paragraph();
        break;
      case Role::kHeading:
        page_.end_heading();
        break;
      case Role::kBulletList:
      case Role::kNumberedList:
        page_.end_list();
        break;
      case Role::kVerbatim:
        page_.end_verbatim();
        break;
      case Role::kRow:
        page_.end_row();
        break;
      case Role::kCell:
        page_.end_cell();
        break;
      case Role::kSkipped:
        --skipped_;
        break;
      case Role::kInline:
      case Role::kLineBreak:
        break;
    }
  }

  void text(std::string_view text) {
    if (skipped_ == 0) page_.add(text);
  }

  /// Calls `work`, out of which nothing may be thrown: the caller is C.
  template <class Work>
  void guarded(const Work& work) {
    if (thrown_ != nullptr || too_deep_) return;
    try {
      work();
    } catch (...) {
      thrown_ = std::current_exception();
      xmlStopParser(parser_);
    }
  }

  [[nodiscard]] bool too_deep() const { return too_deep_; }
  /// Throws what `work` has thrown.
  [[nodiscard]] std::string take() {
    if (thrown_ != nullptr) std::rethrow_exception(thrown_);
    return page_.take();
  }

 private:
  htmlParserCtxtPtr parser_;
  TextLayout page_;
  std::vector<Role> open_;
  size_t skipped_ = 0;  ///< Open elements that are left out.
  bool too_deep_ = false;
  std::exception_ptr thrown_;
};

Reader& reader_of(void* context) { return *static_cast<Reader*>(context); }

void hear_begin(void* context, const xmlChar* tag, const xmlChar** attributes) {
  Reader& reader = reader_of(context);
  reader.guarded([&] { reader.begin(view_of(tag), attributes); });
}
void hear_end(void* context, const xmlChar* /*tag*/) {
  Reader& reader = reader_of(context);
  reader.guarded([&] { reader.end(); });
}
void hear_text(void* context, const xmlChar* text, int bytes) {
  Reader& reader = reader_of(context);
  reader.guarded([&] {
    reader.text({reinterpret_cast<const char*>(text), static_cast<size_t>(bytes)});
  });
}

}  // namespace

std::string html_text(std::string_view html, std::string_view name) {
  const auto refuse = [&](std::string_view why) {
    throw Error(ErrorCode::kInput, fmt::format("{}: is an HTML page {}", name, why));
  };
  if (html.empty()) return {};
  if (html.size() > std::numeric_limits<int>::max()) refuse("of 2 GiB or more; split it");
  const std::unique_ptr<htmlParserCtxt, void (*)(htmlParserCtxtPtr)> parser(
      htmlCreateMemoryParserCtxt(html.data(), static_cast<int>(html.size())), htmlFreeParserCtxt);
  if (parser == nullptr) throw std::bad_alloc();
  // The text is UTF-8, whatever the page says: it has been converted. Without recovery, any end tag
  // in the text of a script would end it.
  htmlCtxtUseOptions(parser.get(), HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                       HTML_PARSE_NONET | HTML_PARSE_IGNORE_ENC);
  xmlSwitchEncoding(parser.get(), XML_CHAR_ENCODING_UTF8);
  Reader reader(parser.get());
  *parser->sax = {};  // no tree is made
  parser->sax->startElement = hear_begin;
  parser->sax->endElement = hear_end;
  parser->sax->characters = hear_text;
  parser->sax->cdataBlock = hear_text;
  parser->sax->ignorableWhitespace = hear_text;
  parser->userData = &reader;
  (void)htmlParseDocument(parser.get());
  if (reader.too_deep()) {
    refuse(
        fmt::format("whose elements are nested more than {} deep; save what the browser shows "
                    "as text",
                    kMostNested));
  }
  std::string text = reader.take();
  if (parser->input != nullptr && parser->input->cur < parser->input->end) {
    refuse(fmt::format("that cannot be read beyond byte {}; save what the browser shows as text",
                       xmlByteConsumed(parser.get())));
  }
  return text;
}

}  // namespace restkv::document
