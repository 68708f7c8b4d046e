#include "apps/common/svg.h"

#include "apps/common/text.h"
#include "engine/core/error.h"
#include "engine/io/strict_json.h"

namespace parabola::svg {

std::string escape(std::string_view text) {
  std::string out;
  for (char c : valid_utf8(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      // XML 1.0 knows no control characters, not even escaped.
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string bold(std::string_view text) { return concat("<tspan font-weight=\"600\">", escape(text), "</tspan>"); }

std::string px(double value) {
  std::string text = format_fixed(value, 1);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

void Drawing::text(double x, double y, std::string_view anchor, int size, const char* color,
                   const std::string& content) {
  body_ += concat("<text x=\"", px(x), "\" y=\"", px(y), "\" font-size=\"", size, "\" fill=\"", color, "\"",
                  anchor == "start" ? "" : concat(" text-anchor=\"", anchor, "\""), ">", content, "</text>\n");
}

void Drawing::line(Point from, Point to, const char* color, const std::string& more) {
  body_ += concat("<path d=\"M", px(from.x), " ", px(from.y), "L", px(to.x), " ", px(to.y), "\" stroke=\"", color, "\"",
                  more, "/>\n");
}

void Drawing::box(Point corner, double width, double height, const char* color) {
  body_ += concat("<rect x=\"", px(corner.x), "\" y=\"", px(corner.y), "\" width=\"", px(width), "\" height=\"",
                  px(height), "\" fill=\"", color, "\"/>\n");
}

std::string Drawing::finish(double width, double height, const std::string& title) const {
  return concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", px(width), "\" height=\"", px(height),
                "\" viewBox=\"0 0 ", px(width), " ", px(height), "\" role=\"img\" fill=\"none\" font-family=\"",
                "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\">\n<title>", escape(title),
                "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", body_, "</svg>\n");
}

}  // namespace parabola::svg
