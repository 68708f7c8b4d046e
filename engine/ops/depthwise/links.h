// How the lists of a pass are made: lanes in groups, walks.
#pragma once
#include "engine/ops/depthwise/tables.h"

namespace parabola::depthwise {

// Lists each(emit) emits: counted first, so that the scratch can be taken; written where there is memory.
template <class Each>
Links make_links(Scratch& scratch, Each&& each) {
  int64_t count = 0;
  each([&](Link) { ++count; });
  Link* links = scratch.take<Link>(count);
  if (Link* next = links) each([&](Link link) { *next++ = link; });
  return {links, static_cast<size_t>(count)};
}

// link_of(row, column) for all cells of a grid, in groups; by_rows: a group does not reach over the end of a row.
template <class LinkOf>
Links make_lanes(Scratch& scratch, int64_t rows, int64_t columns, int group, bool by_rows, LinkOf&& link_of) {
  return make_links(scratch, [&](auto&& emit) {
    int64_t count = 0;
    Link link{};
    const auto fill_group = [&] {
      for (; count % group != 0; ++count) emit(Link{link.source, -1});
    };
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column, ++count) emit(link = link_of(row, column));
      if (by_rows) fill_group();
    }
    fill_group();
  });
}

// link_of(row, column) for every `step`th cell of each row, where it has one.
template <class LinkOf>
Links make_walk(Scratch& scratch, int64_t rows, int64_t columns, int64_t step, LinkOf&& link_of) {
  return make_links(scratch, [&](auto&& emit) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; column += step)
        if (const std::optional<Link> next = link_of(row, column)) emit(*next);
  });
}

}  // namespace parabola::depthwise
