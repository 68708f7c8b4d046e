"""Drawings of docs/bench.md: cost against batch, image side or rank, as the apps' drawings look (apps/common/svg.h)."""
import math

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
PALETTE = ["#0072b2", "#d55e00", "#009e73"]
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, FOOT = 960, 400, 64, 84, 370, 92, 56


class Scale:
    """Positions of values, logarithmic where they span more than a factor of 10, with ticks at 1, 2 and 5 times powers
    of ten, or at round numbers."""

    def __init__(self, values, low, high):
        least, most = min(values), max(values)
        self.log = least > 0 and most > 10 * least
        if self.log:
            marks = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5)]
            first = max(m for m in marks if m <= least * 1.001)
            last = min(m for m in marks if m >= most * 0.999)
            self.ticks = [m for m in marks if first <= m <= last]
            if len(self.ticks) > 8:
                self.ticks = [m for m in self.ticks if round(math.log10(m), 6).is_integer()]
        else:
            step = next(s for s in (m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5)) if most / s <= 6)
            first, last = 0, step * math.ceil(most / step - 1e-9)
            self.ticks = [step * i for i in range(round(last / step) + 1)]
        to = math.log10 if self.log else float
        self.position = lambda v: low + (to(v) - to(first)) / (to(last) - to(first)) * (high - low)


def drawing(axis, curves, escape):
    """A panel for the time of a step, measured (line with dots) and by the roofline (dashed), and one for its peak."""
    out = []

    def text(x, y, words, size=12, color=MUTED, anchor="start"):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">'
                   f"{escape(words)}</text>")

    def path(points, color, more=""):
        out.append('<path d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + f'" stroke="{color}"{more}/>')

    text(20, 32, f"Cost of a training step against {axis}", 17, INK)
    for i, curve in enumerate(curves):
        x = 20 + 260 * i
        path([(x, 52), (x + 24, 52)], PALETTE[i], ' stroke-width="2"')
        text(x + 32, 56, curve.net, 12, INK)
    path([(560, 52), (584, 52)], MUTED, ' stroke-width="1.5" stroke-dasharray="5 4"')
    text(592, 56, "what the roofline allows", 12, INK)
    panels = [("milliseconds", lambda c: [c.ms, c.least]), ("peak of activations, MiB", lambda c: [c.mib])]
    for p, (title, lines_of) in enumerate(panels):
        left, bottom = LEFT + p * (PANEL + GAP), HEIGHT - FOOT
        across = Scale([v for c in curves for v in c.points], left, left + PANEL)
        up = Scale([of(v) for c in curves for of in lines_of(c) for v in c.points], bottom, TOP + 16)
        text(left, TOP, title)
        for tick in up.ticks:
            y = up.position(tick)
            path([(left, y), (left + PANEL, y)], GRID)
            text(left - 8, y + 4, f"{tick:,.6g}", anchor="end")
        for v in dict.fromkeys(v for c in curves for v in c.points):
            text(across.position(v), bottom + 20, str(v), 11, anchor="middle")
        text(left + PANEL / 2, bottom + 42, axis, anchor="middle")
        for i, curve in enumerate(curves):
            for j, of in enumerate(lines_of(curve)):
                points = [(across.position(v), up.position(of(v))) for v in curve.points]
                path(points, PALETTE[i], ' stroke-width="1.5" stroke-dasharray="5 4"' if j else ' stroke-width="2"')
                out.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{PALETTE[i]}"/>' for x, y in points if not j)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'role="img" fill="none" font-family="system-ui, \'Segoe UI\', \'Helvetica Neue\', Arial, \'DejaVu Sans\', '
            f'sans-serif">\n<title>Cost of a training step against {escape(axis)}</title>\n'
            '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(out) + "\n</svg>\n")
