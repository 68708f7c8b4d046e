// Which of two values is the larger one, for ops that look for the first maximum.
#pragma once

namespace parabola {

// Whether `value` takes the place of `largest`, the first maximum so far. A NaN is larger than any number, so that it
// is not lost; of several, the first one stays.
template <class T>
constexpr bool exceeds(T value, T largest) {
  return value > largest || (value != value && largest == largest);  // NOLINT(misc-redundant-expression): asks for NaN
}

}  // namespace parabola
