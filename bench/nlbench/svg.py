"""Charts as SVG elements for an HTML page that defines the colours: --ink, --muted, --grid, --c-FAMILY."""

import math
from html import escape

WIDTH = 480


def nice_step(span, most):
    """A step of 1, 2 or 5 times a power of ten that cuts the span into at most so many pieces."""
    raw = span / most
    power = 10 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        if factor * power >= raw * (1 - 1e-9):
            return factor * power
    return 10 * power


def linear_ticks(top, most=5):
    """Ticks from 0 to at least top."""
    if top <= 0:
        return [0, 1]
    step = nice_step(top, most)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def log_ticks(low, high):
    """Ticks within low … high: powers of ten, with 2 and 5 between them if there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(ticks) < 3:
        ticks = [f * 10.0**p for p in powers for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    return ticks


def short(x):
    """1.5k, 20M: a number on an axis."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= limit:
            return f"{x / limit:.3g}{unit}"
    return f"{x:.3g}"


def microseconds(x):
    if x >= 1e6:
        return f"{x / 1e6:.3g} s"
    return f"{x / 1e3:.3g} ms" if x >= 1e3 else f"{x:.3g} µs"


def spread_labels(wanted, gap, low, high):
    """Moves positions apart until they are at least `gap` from each other, within low … high; their order is kept."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(1, len(order) - 1)) if len(order) > 1 else gap
    placed = [0.0] * len(wanted)
    previous = low - gap
    for i in order:
        previous = placed[i] = max(wanted[i], previous + gap)
    limit = high
    for i in reversed(order):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed


def _text(x, y, text, anchor="start", cls="", style=""):
    more = (f' class="{cls}"' if cls else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _line(x1, y1, x2, y2, cls):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>'


def _svg(height, parts, label):
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
            + "".join(parts) + "</svg>")


def bars(rows, label, reference=None):
    """
    Horizontal bars. A row: label, family, faint (a variant), value, low, high, note (stands behind the bar). reference:
    (value, name) of a line across all.
    """
    row, left, right, top = 21, 138, 112, 20 if reference else 4
    room = WIDTH - left - right
    most = max([r["high"] for r in rows] + ([reference[0]] if reference else [])) or 1
    height = top + row * len(rows) + 4
    parts = []

    def at(v):
        return left + room * v / most

    if reference:
        parts.append(_line(at(reference[0]), top - 4, at(reference[0]), height - 2, "ref"))
        parts.append(_text(at(reference[0]), top - 8, reference[1], "middle", "small"))
    for i, r in enumerate(rows):
        y = top + row * i
        ours = r["family"] == "nl"
        tip = f'{r["label"]}: {r["note"]}'
        parts.append(f"<g><title>{escape(tip)}</title>")
        parts.append(_text(left - 8, y + 14, r["label"], "end", "strong" if ours and not r["faint"] else ""))
        opacity = ";opacity:.55" if r["faint"] else ""
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{max(1.0, at(r["value"]) - left):.1f}" height="{row - 7}" rx="2" '
                     f'style="fill:var(--c-{r["family"]}){opacity}"/>')
        if r["high"] > r["low"]:
            parts.append(_line(at(r["low"]), y + row / 2, at(r["high"]), y + row / 2, "range"))
        parts.append(_text(at(max(r["value"], r["high"])) + 6, y + 14, r["note"], "start", "value"))
        parts.append("</g>")
    return _svg(height, parts, label)


def lines(series, xs, label, x_title, y_title, x_text=short, y_text=short, x_log=False, y_log=False):
    """
    One line for each series: label, family, faint, points {x: y}. xs: the places on the horizontal axis, evenly spaced
    unless x_log.
    """
    height, left, top, bottom = 300, 52, 22, 40
    right = 30 + 7 * max([len(s["label"]) for s in series] + [8])  # room for the names at the lines' ends
    values = [y for s in series for y in s["points"].values() if y > 0]
    if not values:
        return ""
    if y_log:
        low, high = min(values) / 1.25, max(values) * 1.25
        ticks = log_ticks(low, high)
    else:
        ticks = linear_ticks(max(values))
        low, high = 0, ticks[-1]

    def at_y(v):
        share = math.log(v / low) / math.log(high / low) if y_log else (v - low) / (high - low)
        return height - bottom - (height - bottom - top) * share

    def at_x(x):
        if len(xs) == 1:
            share = 0.5
        elif x_log:
            share = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        else:
            share = xs.index(x) / (len(xs) - 1)
        return left + (WIDTH - left - right) * share

    parts = [_text(left - 44, top - 10, y_title, "start", "small")]
    for t in ticks:
        parts.append(_line(left, at_y(t), WIDTH - right, at_y(t), "grid"))
        parts.append(_text(left - 6, at_y(t) + 4, y_text(t), "end", "small"))
    for x in xs:
        parts.append(_line(at_x(x), height - bottom, at_x(x), height - bottom + 4, "axis"))
        parts.append(_text(at_x(x), height - bottom + 16, x_text(x), "middle", "small"))
    parts.append(_line(left, height - bottom, WIDTH - right, height - bottom, "axis"))
    parts.append(_text((left + WIDTH - right) / 2, height - 6, x_title, "middle", "small"))

    drawn = [s for s in series if any(s["points"].get(x, 0) > 0 for x in xs)]
    drawn.sort(key=lambda s: s["family"] == "nl")  # ours on top
    ends = []
    for s in drawn:
        points = [(at_x(x), at_y(s["points"][x]), x) for x in xs if s["points"].get(x, 0) > 0]
        ends.append(points[-1][1])
        color = f"var(--c-{s['family']})"
        dash = ";stroke-dasharray:4 3" if s["faint"] else ""
        width = 2.6 if s["family"] == "nl" else 1.6
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline points="{path}" style="fill:none;stroke:{color};stroke-width:{width}{dash}"/>')
        for x, y, where in points:
            tip = f'{s["label"]}, {x_text(where)}: {y_text(s["points"][where])}'
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.2 + (s["family"] == "nl"):.1f}" style="fill:{color}">'
                         f"<title>{escape(tip)}</title></circle>")
    placed = spread_labels(ends, 14, top, height - bottom)
    for s, end, y in zip(drawn, ends, placed):
        color = f"var(--c-{s['family']})"
        x = at_x([x for x in xs if s["points"].get(x, 0) > 0][-1])
        parts.append(f'<line x1="{x + 4:.1f}" y1="{end:.1f}" x2="{WIDTH - right + 12}" y2="{y:.1f}" '
                     f'style="stroke:{color};stroke-width:1;opacity:.6"/>')
        parts.append(_text(WIDTH - right + 15, y + 4, s["label"], "start", "strong" if s["family"] == "nl" else "",
                           f"fill:{color}"))
    return _svg(height, parts, label)
