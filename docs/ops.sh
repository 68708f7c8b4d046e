#!/bin/sh
# Makes the pages of docs/ops from the headers of engine/ops that declare an OpDef: `make docs`, or docs/ops.sh FOLDER.
# A page shows the header up to its OpDefs. A sentence of a comment goes where its first words say: "Keeps ..." is what
# backward needs, "Cost: ..." the cost; so a header that is written as engine/ops/README.md asks gives a good page.
# Examples are the first calls of each function in apps/tutorial, else in layers, else in tests/ops.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-docs/ops}
mkdir -p "$folder"
rm -f "$folder"/*.md
export LC_ALL=C
headers=$(grep -rl --include='*.h' '^extern const OpDef' engine/ops | sed 's|.*/|& |' | sort -k 2 | tr -d ' ')
examples=$(ls apps/tutorial/*.cc; find layers -name '*.cc' | sort; ls tests/ops/*_test.cc)

# shellcheck disable=SC2086  # lists of paths without spaces
awk -v folder="$folder" '
function markdown(text) {
  gsub(/[*_|<]/, "\\\\&", text)
  return text
}

# Adds one sentence to the part of the page that it belongs to.
function sort_sentence(s) {
  if (s ~ /^(Saved|Recomputed) by default/) policy = s
  else if (s ~ /^Cost:/) cost = substr(s, 7)
  else if (s ~ /^(Keeps|Backward reads|Nothing is kept|What backward reads|Products keep|Sums and differences keep)/)
    kept = kept (kept == "" ? "" : " ") s
  else if (s ~ /^[A-Z][a-z]+Error/) errors = errors (errors == "" ? "" : " ") s
  else if (s ~ /, [12][0-9][0-9][0-9]\.$/) source = source (source == "" ? "" : " ") s
  else formula = formula (formula == "" ? "" : " ") s
}

# A comment, as prose and a list.
function describe(comment,    s) {
  formula = kept = policy = cost = errors = source = ""
  while (match(comment, /\. +[A-Z]/)) {
    sort_sentence(substr(comment, 1, RSTART))
    comment = substr(comment, RSTART + RLENGTH - 1)
  }
  if (comment != "") sort_sentence(comment)
  s = formula == "" ? "" : markdown(formula) "\n\n"
  if (kept != "") s = s "- **for backward**: " markdown(kept) "\n"
  if (policy != "") s = s "- **policy**: " markdown(policy) "\n"
  if (cost != "") s = s "- **cost**: " markdown(cost) "\n"
  if (errors != "") s = s "- **errors**: " markdown(errors) "\n"
  if (source != "") s = s "- **source**: " markdown(source) "\n"
  return s == "" || substr(s, length(s) - 1) == "\n\n" ? s : s "\n"
}

# What the index says of a header: the beginning of a comment, up to the end of its first clause.
function first_clause(text,    end, head, opened, closed) {
  while (match(substr(text, end + 1), /[^.]\. |; /)) {
    end += RSTART + RLENGTH - 1
    head = substr(text, 1, end - 2)
    opened = gsub(/\(/, "(", head)
    closed = gsub(/\)/, ")", head)
    if (opened <= closed) return head  # "[0, K)" closes what was never opened
  }
  sub(/\.$/, "", text)
  return text
}

# The first call of `name` in the files that were read for examples, up to its semicolon.
function example(name,    i, n, text, margin) {
  for (i = 1; i <= lines; ++i) {
    if (line[i] !~ "(^|[^a-z_A-Z0-9.:>\"])" name "\\(" || line[i] ~ /^ *\/\/|{$|"/ || line[i - 1] line[i] ~ /_THROWS/ || i in shown)
      continue
    shown[i]
    match(line[i], /^ */)
    margin = RLENGTH
    text = substr(line[i], margin + 1)
    for (n = i; line[n] !~ /[;{}]$|[;}]  \/\// && n < i + 8; ++n) text = text "\n" substr(line[n + 1], margin + 1)
    return "From [" file[i] "](../../" file[i] "):\n\n```cpp\n" text "\n```\n\n"
  }
  return ""
}

function flush_block(    words) {
  if (block == "") return
  if (comment != "" && block ~ /(^|\n)(Tensor|void) / && summary == "") summary = first_clause(comment)
  page = page describe(comment) "```cpp\n" block "```\n\n"
  comment = block = ""
}

function finish_page(    name, path, i, calls) {
  flush_block()
  name = header
  sub(/.*\//, "", name)
  sub(/\.h$/, "", name)
  for (i = 1; i <= functions; ++i) calls = calls example(function_name[i])
  path = folder "/" name ".md"
  printf "# %s\n\n[%s](../../%s)\n\n%s%s", name, header, header, page, calls == "" ? "" : "## Example\n\n" calls >path
  printf "Made from the header by `make docs`.\n" >path
  close(path)
  index_rows = index_rows "| [" name "](" name ".md) | " markdown(summary) " |\n"
}

FILENAME !~ /\.h$/ { line[++lines] = $0; file[lines] = FILENAME; next }

FNR == 1 {
  if (header != "") finish_page()
  header = FILENAME
  page = comment = block = summary = ""
  functions = inside = done = 0
}
done { next }
/^#pragma once/ && comment != "" { summary = first_clause(comment); page = page describe(comment); comment = ""; next }
/^namespace parabola/ { inside = 1; comment = ""; next }
/^ *\/\// && block == "" { sub(/^ *\/\/ ?/, ""); comment = comment (comment == "" ? "" : " ") $0; next }
!inside { next }
/^$/ { flush_block(); next }
/^extern const OpDef/ { flush_block(); last = 1 }
last {
  ops = ops $0
  if (/;/) {
    gsub(/extern const OpDef|;.*|,/, " ", ops)
    count = split(ops, names, " ")
    page = page (count > 1 ? "Ops:" : "Op:")
    for (i = 1; i <= count; ++i) page = page (i > 1 ? ", " : " ") "`" names[i] "`"
    page = page "\n\n"
    ops = ""
    last = 0
    done = 1
  }
  next
}
{ block = block $0 "\n" }
match($0, /^(Tensor|void) [a-z_0-9]+\(/) {
  function_name[++functions] = substr($0, RSTART, RLENGTH - 1)
  sub(/^[A-Za-z]+ /, "", function_name[functions])
}

END {
  finish_page()
  path = folder "/README.md"
  printf "# The ops\n\nA page for every header that declares one; what an op is: [engine/ops/README.md]" >path
  printf "(../../engine/ops/README.md).\n\n| page | in a line |\n| --- | --- |\n%s\n", index_rows >path
  printf "Made from the headers by `make docs`.\n" >path
}' $examples $headers
