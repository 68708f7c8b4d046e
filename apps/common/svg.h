// What the drawings of the apps share: an SVG document under construction, its colours and its text.
#pragma once
#include <array>
#include <string>
#include <string_view>

namespace parabola::svg {

inline constexpr const char* ink = "#1f2933";
inline constexpr const char* muted = "#616e7c";
inline constexpr const char* grid = "#e4e7eb";
inline constexpr const char* baseline = "#9aa5b1";
// Okabe and Ito's colours but yellow, which is hard to see on white.
inline constexpr std::array palette = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"};

struct Point {
  double x, y;
};

std::string escape(std::string_view text);  // as XML text
std::string bold(std::string_view text);    // escaped as well
std::string px(double value);               // a coordinate to a tenth of a pixel

// Elements in the order in which they are drawn. Content of texts is XML.
class Drawing {
 public:
  void text(double x, double y, std::string_view anchor, int size, const char* color, const std::string& content);
  void line(Point from, Point to, const char* color, const std::string& more = "");
  void box(Point corner, double width, double height, const char* color);
  void raw(const std::string& svg) { body_ += svg; }
  std::string finish(double width, double height, const std::string& title) const;  // the document

 private:
  std::string body_;
};

}  // namespace parabola::svg
