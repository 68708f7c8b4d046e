#!/usr/bin/env python3
"""Draws docs/step.svg, one training step as it flows through the house: python3 docs/step.py > docs/step.svg

It follows one residual block of resnet20 with quadratic adapters and frozen BatchNorm under the policy `default`. LIVES
says when the bytes of each tensor are there (docs/architecture.md says why), and the count at the foot is added up from
it. Colours are Okabe and Ito's; shapes and words say the same, so that nothing hangs on colour alone.
"""
from html import escape

# Columns of time. 0 to 3: forward. 4, 5: the rest of the net. 6 to 10: backward, 7 of it replay. 11: blocks before this
# one. 12, 13: the optimizer.
COLUMNS, PITCH, LEFT, RIGHT = 14, 96, 196, 30
BEFORE = -0.3  # the time at which the drawing begins
FORWARD = [("conv1", "save"), ("bn1+relu", "recompute"), ("conv2", "save"), ("bn2+x+relu", "recompute")]
# Column, node, what its backward reads.
BACKWARD = [(6, 3, "y, γ, σ²"), (8, 2, "r₁, W …"), (9, 1, "r₁, γ, σ²"), (10, 0, "x, W …")]
REPLAY = (7, 1)  # column, node

# Name, what it is, spans of its bytes, span of its gradient's bytes: (begin, end, how it ends, words). "in place": the
# bytes become those of the gradient one row up.
LIVES = [
    ("x", "the block's input", [(BEFORE, 11.6, "fade", "stays: input of a CheckpointScope")], (6, 11.6, "fade")),
    ("c₁", "conv1(x)", [(0, 8, "", "stays: saved, since a convolution is dear to repeat")], (9, 11, "")),
    ("r₁", "relu(bn1(c₁))", [(1, 3, "evicted", "evicted when let go"), (7, 10, "replayed", "")], (8, 9, "in place")),
    ("c₂", "conv2(r₁)", [(2, 4.3, "dead", "stays while y might be replayed")], (6, 9, "")),
    ("y", "relu(bn2(c₂) + x)", [(3, 7, "", "stays: input of the next block, and its own relu reads it")],
     (5.5, 6, "in place")),
]
SPANS = [span for _, _, values, gradient in LIVES for span in [*values, gradient]]
ROW, BAR = 38, 18  # heights

INK, SOFT, LINE, PAPER, PANEL = "#1b1f24", "#57606a", "#d0d7de", "#ffffff", "#f6f8fa"
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6e7781"
WIDTH = LEFT + COLUMNS * PITCH + RIGHT
svg = []


def at(column):
    return LEFT + column * PITCH


def text(x, y, words, size=14, fill=INK, anchor="start", **style):
    kind = "mono" if style.pop("mono", False) else "sans"
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    svg.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{more}>'
               f"{escape(words)}</text>")


def box(x, y, width, height, fill, stroke="none", radius=5, more=""):
    svg.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{fill}" '
               f'stroke="{stroke}" {more}/>')


def line(x1, y1, x2, y2, stroke, width=1.0, more=""):
    svg.append(f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" fill="none" stroke="{stroke}" stroke-width="{width}" {more}/>')


def arrow(x1, x2, y, colour):
    line(x1, y, x2 - 6, y, colour, 1.6)
    svg.append(f'<path d="M{x2 - 8:g} {y - 4.5:g} L{x2:g} {y:g} L{x2 - 8:g} {y + 4.5:g} Z" fill="{colour}"/>')


def chip(column, y, words, colour, columns=1.0, fill=PAPER, size=14):
    x, width = at(column) + 4, columns * PITCH - 8
    box(x, y - 14, width, 28, fill, colour, more='stroke-width="1.6"')
    text(x + width / 2, y + 5, words, size, INK, "middle")


def node(column, y, number, colour, fill=PAPER):
    svg.append(f'<circle cx="{at(column + 0.5):g}" cy="{y:g}" r="15" fill="{fill}" stroke="{colour}" stroke-width="2"/>')
    text(at(column + 0.5), y + 5, str(number), 14, INK, "middle", font_weight="bold")


def value_bar(begin, end, how, words, y):
    x, width = at(begin) + 1, (end - begin) * PITCH - 2
    fill = {"replayed": "url(#again)", "fade": "url(#fade-blue)"}.get(how, BLUE)
    box(x, y, width, BAR, fill, ORANGE if how == "replayed" else "none", 3)
    text(max(x, at(0)) + 8, y + 13.5, words, 12, PAPER)
    right, middle = at(end), y + BAR / 2
    if how == "dead":
        line(right + 4, middle - 5, right + 14, middle + 5, RED, 2.4)
        line(right + 4, middle + 5, right + 14, middle - 5, RED, 2.4)
    if how == "evicted":
        line(right + 2, middle, at(REPLAY[0]) - 3, middle, BLUE, 1.6, 'stroke-dasharray="3 5"')


def alive(time):
    """How many tensors of the block have their bytes at this time."""
    return sum(begin <= time < end for begin, end, *_ in SPANS)


# ---- The lanes, from the top of the house to its cellar
lanes, y = {}, 122
for name, height, *about in [("apps/", 58, "the training loop"), ("layers/", 82, "modules, adapters"),
                             ("engine/ops/", 95, "one op, one file"),
                             ("engine/tape/", 100, "tape: a node an op", "executor: runs kernels"),
                             ("kernels", 56, "tasks on all threads"),
                             ("engine/core/", 68 + ROW * (len(LIVES) + 1) + 12, "the arena: bytes in use"),
                             ("count", 118, "of the block’s tensors,", "gradients included")]:
    box(12, y, WIDTH - 24, height, PANEL, radius=8)
    text(26, y + 25, name, 15, mono=True, font_weight="bold")
    for i, words in enumerate(about):
        text(26, y + 44 + 17 * i, words, 12.5, SOFT)
    lanes[name] = y
    y += height + 8
HEIGHT = y + 58
memory = lanes["engine/core/"] + 62

text(26, 44, "One training step", 27, font_weight="bold")
text(26, 72, "A residual block of resnet20 with quadratic adapters and frozen BatchNorm, policy “default”. Time runs to the "
     "right; calls go down.", 15, SOFT)
for begin, end, words, colour in [(0, 4, "forward", BLUE), (4, 6, "rest of the net", GREY), (6, 11, "backward", GREEN),
                                  (12, 14, "update", INK)]:
    box(at(begin) + 3, 90, (end - begin) * PITCH - 6, 24, colour, radius=12)
    text(at((begin + end) / 2), 107, words, 14, PAPER, "middle", font_weight="bold")

# Light lines from each kernel down to the bytes that it makes.
for column, row, colour in [(c, c + 1, LINE) for c in range(4)] + [(REPLAY[0], 2, "#f0c670")]:
    line(at(column) + 1.6, lanes["kernels"] + 42, at(column) + 1.6, memory + ROW * row + 5, colour, 1.2)

top = lanes["apps/"] + 34
for middle, code in [(2, "Tape tape(options);  logits = model(images);"), (5, "cross_entropy"),
                     (8.5, "tape.backward(loss);"), (13, "optimizer.step();")]:
    text(at(middle), top, code, 14, INK, "middle", mono=True)

top = lanes["layers/"]
box(at(0) - 3, top + 7, 4 * PITCH + 6, 68, "none", BLUE, 8, 'stroke-dasharray="5 4" stroke-width="1.4"')
text(at(0) + 8, top + 25, "layer1.0, a CheckpointScope: its input x stays", 12.5, BLUE)
for column, (words, _) in enumerate(FORWARD):
    chip(column, top + 53, words, BLUE, size=13)
chip(4.1, top + 53, "layer1.1 …", GREY, 1.8)
text(at(8.5), top + 46, "layers take no part: the tape has noted all that backward needs", 14.5, SOFT, "middle",
     font_style="italic")

top = lanes["engine/ops/"]
for middle, code, about in [
        (2, "apply(op, inputs, attributes)", ["layout: what it makes · cost: flops, bytes",
                                              "needs: what backward reads"]),
        (8.5, "op.cpu.backward(args)", ["given the bytes that needs named, and no others;",
                                        "adds to gradients already there"]),
        (13, "adamw_op", ["on no tape"])]:
    text(at(middle), top + 33, code, 14, INK, "middle", mono=True)
    for i, words in enumerate(about):
        text(at(middle), top + 56 + 18 * i, words, 12.5, SOFT, "middle")

top = lanes["engine/tape/"]
y, note = top + 34, top + 82
text(at(-0.05), note, "policy", 12.5, SOFT, "end", font_style="italic")
for column, (_, policy) in enumerate(FORWARD):
    arrow(at(column + 0.5) + 16, at(column + 1.5) - (16 if column < 3 else 30), y, BLUE)
    node(column, y, column, BLUE)
    line(at(column) + 8, note - 16, at(column + 1) - 8, note - 16, BLUE, 1.4)
    text(at(column + 0.5), note, policy, 12.5, INK, "middle")
text(at(5), y + 5, "4, 5, …", 14, SOFT, "middle")
arrow(at(5) + 40, at(6.5) - 16, y, GREEN)
text(at(5.98), note, "reads", 12.5, SOFT, "end", font_style="italic")
for column, number, reads in BACKWARD:
    arrow(at(column + 0.5) + 16, at(column + 1.5) - 16, y, GREEN)
    node(column, y, number, GREEN)
    text(at(column + 0.5), note, reads, 12.5, INK, "middle")
column, number = REPLAY
arrow(at(column + 0.5) + 16, at(column + 1.5) - 16, y, ORANGE)
node(column, y, number, ORANGE, "url(#again)")
text(at(column + 0.5), note, "for r₁: replay", 12.5, INK, "middle")
text(at(11.5), y + 5, "…", 16, SOFT, "middle")

y = lanes["kernels"] + 28
for column in range(4):
    chip(column, y, "fwd", BLUE)
for column, _, _ in BACKWARD:
    chip(column, y, "bwd", GREEN)
chip(REPLAY[0], y, "again", ORANGE, fill="url(#again)")
chip(12.2, y, "AdamW", INK, 1.6)

# ---- What is in memory when
for row, (name, formula, values, (begin, end, how)) in enumerate(LIVES):
    y = memory + ROW * row
    line(26, y - 3, WIDTH - 26, y - 3, "#e4e8ec")
    text(26, y + 21, name, 15, font_weight="bold")
    text(54, y + 21, formula, 13, SOFT)
    if how == "in place":
        line(at(end), y - ROW + BAR + 10, at(end), y + BAR + 14, GREEN, 2)
    for span in values:
        value_bar(*span, y + 4)
    box(at(begin) + 1, y + BAR + 6, (end - begin) * PITCH - 2, 8, "url(#fade-green)" if how == "fade" else GREEN, radius=3)
y = memory + ROW * len(LIVES)
line(26, y - 3, WIDTH - 26, y - 3, "#e4e8ec")
text(26, y + 21, "u v p", 15, font_weight="bold")
text(78, y + 21, "adapters", 13, SOFT)
box(at(BEFORE), y + 4, at(COLUMNS) - at(BEFORE), BAR, GREY, radius=3)
text(at(0) + 9, y + 17.5, "parameters; the base is frozen: no gradients, nothing kept for them", 12, PAPER)
box(at(8) + 1, y + BAR + 6, at(13.5) - at(8), 8, GREEN, radius=3)

text(at(8.15), memory + ROW * 1 + 17, "r₁ is there again, and that was all c₁ was kept for", 12.5)
text(at(10.15), memory + ROW * 2 + 17, "node 1, its own relu, was the last to read it", 12.5)
text(at(4.6), memory + ROW * 3 + 17, "the next block keeps y: nothing will ask for c₂ again", 12.5)

# ---- The count, added up from LIVES
base, step = lanes["count"] + 100, 14
points = [(at(BEFORE), base)]
times = sorted({time for begin, end, *_ in SPANS for time in (begin, end)})
for time, after in zip(times, times[1:]):
    level = base - step * alive(time)
    points += [(at(time), level), (at(after), level)]
points.append((at(times[-1]), base))
svg.append(f'<path d="M{" L".join(f"{x:g} {y:g}" for x, y in points)} Z" fill="#cfe3f1" stroke="{BLUE}" '
           'stroke-width="1.6" stroke-linejoin="round"/>')
line(at(BEFORE), base, at(COLUMNS), base, GREY)
for time in (0.5, 1.5, 2.5, 3.5, 5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.3):
    text(at(time), base - step * alive(time) + 17, str(alive(time)), 13, INK, "middle", font_weight="bold")

# ---- Legend
y = HEIGHT - 34
x = 26
def legend(width, draw, words):
    global x
    draw(x)
    text(x + width + 9, y + 5, words, 13)
    x += width + 9 + 7.3 * len(words) + 26

legend(34, lambda x: box(x, y - 6.5, 34, 13, BLUE, radius=3), "value")
legend(34, lambda x: box(x, y - 4, 34, 8, GREEN, radius=3), "gradient")
legend(2, lambda x: line(x + 1, y - 8, x + 1, y + 8, GREEN, 2), "the next gradient, in the same bytes")
legend(34, lambda x: line(x, y, x + 34, y, BLUE, 1.6, 'stroke-dasharray="3 5"'), "evicted, to be replayed")
legend(34, lambda x: box(x, y - 6.5, 34, 13, "url(#again)", ORANGE, 3), "replayed: the same bits again")
legend(12, lambda x: (line(x, y - 5, x + 10, y + 5, RED, 2.4), line(x, y + 5, x + 10, y - 5, RED, 2.4)),
       "dead: nothing needs it")
legend(34, lambda x: box(x, y - 6.5, 34, 13, GREY, radius=3), "parameters")

print(f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT:g}" role="img">
<title>One training step of Parabola</title>
<desc>Forward, backward and update of a residual block, lane by lane: app, layers, ops, tape, kernels, memory.</desc>
<style>.sans {{ font-family: "DejaVu Sans", Verdana, "Segoe UI", sans-serif }}
.mono {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace }}</style>
<defs>
<pattern id="again" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="7" height="7" fill="#fff4dc"/><rect width="2.6" height="7" fill="#f3c363"/></pattern>
<linearGradient id="fade-blue"><stop offset="0.955" stop-color="{BLUE}"/><stop offset="1" stop-color="{PANEL}"/>
</linearGradient>
<linearGradient id="fade-green"><stop offset="0.9" stop-color="{GREEN}"/><stop offset="1" stop-color="{PANEL}"/>
</linearGradient>
</defs>
<rect width="{WIDTH}" height="{HEIGHT:g}" rx="12" fill="{PAPER}"/>""")
print("\n".join(svg))
print("</svg>")
