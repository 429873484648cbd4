"""bench/report.html: one file without references to anything outside it."""

from html import escape

from . import machine, plan, stats, svg, table

PERCENTILES = [("p50_us", "p50"), ("p75_us", "p75"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"),
               ("p9999_us", "p99.99"), ("max_us", "max")]

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --muted: #6a7078; --grid: #e7e7e4;
  --line: #dcdcd8; --warn: #8a5300; --warn-bg: #fff4dd;
  --c-nl: #1f5fd6; --c-raw: #7a7f87; --c-go: #0b8f8a; --c-erlang: #b3267a; --c-node: #5a8a12; --c-luv: #c26a00;
  --c-tarantool: #7446c9; --c-luajit: #8a5a3c; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --card: #1d2024; --ink: #e8e9eb; --muted: #9aa1aa; --grid: #2d3137; --line: #33373d;
    --warn: #ffcf80; --warn-bg: #3a2c10;
    --c-nl: #6ea0ff; --c-raw: #9aa1aa; --c-go: #3cc7c0; --c-erlang: #f07ab8; --c-node: #9ccc4e; --c-luv: #f2a24a;
    --c-tarantool: #b195f5; --c-luajit: #d0a184; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 4px; }
h3 { font-size: 14px; margin: 0 0 8px; font-weight: 600; }
p { max-width: 76ch; margin: 6px 0 14px; } .muted { color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 22px 0 8px; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.tile { padding: 12px 16px; } .tile b { display: block; font-size: 25px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 13px; line-height: 1.35; display: block; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 14px; }
.card { padding: 14px 16px 10px; min-width: 0; } svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .small { font-size: 11px; fill: var(--muted); } svg .value { font-size: 11px; paint-order: stroke;
  stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; } svg .strong { font-weight: 700; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--muted); } svg .range { stroke: var(--ink); opacity: .65; }
svg .ref { stroke: var(--muted); stroke-dasharray: 3 3; }
details { margin-top: 6px; } summary { cursor: pointer; color: var(--muted); font-size: 13px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px 3px 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { font-weight: 600; color: var(--muted); } th:first-child, td:first-child, td.left, th.left { text-align: left; }
tr.ours td { font-weight: 700; } .warn { background: var(--warn-bg); color: var(--warn); border-radius: 8px; padding: 10px 14px; }
li { max-width: 76ch; margin: 4px 0; }
"""

ABOUT = {
    "echo": "A server takes each message out of the stream as a value of its language and sends it back, its length in front. "
            "Every byte of every reply is checked. Bars: messages a second, median of the rounds; the thin line runs from the "
            "worst round to the best. Behind them: the ratio to raw C. Longer is better.",
    "latency": "Messages are due at fixed times, whatever the server does, and latency counts from the due time: what had to "
               "wait because something stalled is counted with all its waiting. Both axes end where the data do; the vertical "
               "one is logarithmic. Lower is better.",
    "scale": "One message outstanding on each connection. Higher is better.",
    "bcast": "One connection sends, the server passes each message on to all. Copies delivered a second; longer is better.",
    "storm": "Connect, send a message, get it back, close. Longer is better.",
    "idle": "Memory of the server's process (anonymous pages) for each connection that rests after one message, and how often "
            "its threads wake up meanwhile. Shorter is better.",
    "actors": "Contexts of nl-jit (each a Lua state of its own), goroutines with channels, Erlang's processes, Node's workers "
              "with message ports, Tarantool's fibers with channels. Ratios are to the best of the others. Longer is better.",
    "contexts": "Half of the contexts call, the other half answer, all at once. Higher is better.",
    "startup": "From start to end of the process. Shorter is better.",
}


def _row(runtime, value, s, note):
    return {"label": runtime["label"], "family": runtime["family"], "faint": runtime["variant"], "value": value,
            "low": s["min"], "high": s["max"], "note": note}


def bar_chart(config, summaries, runtimes, metric, lower, label):
    """Bars of one metric, best first, with the ratio to the reference."""
    group = plan.GROUPS[config["group"]]
    ref, ref_label = table.reference(group, summaries, runtimes, metric, lower)
    base = stats.median(summaries, ref, metric) if ref else None
    rows = []
    for r in runtimes:
        s = summaries.get(r["key"], {}).get(metric)
        if s:
            ratio = stats.ratio(s["median"], base)
            mark = table.MARK if metric == "msgs_s" and table.at_limit(summaries, r["key"]) else ""
            note = svg.short(s["median"]) + mark + (f" · {table.times(ratio)} ×" if ratio is not None else "")
            rows.append(_row(r, s["median"], s, note))
    if not rows:
        return ""
    rows.sort(key=lambda r: r["value"], reverse=not lower)
    return svg.bars(rows, label, (base, ref_label) if base else None)


def line_series(configs, summaries, runtimes, metric):
    """For a group that grows: each runtime's medians over x."""
    series = []
    for r in runtimes:
        points = {}
        for c in configs:
            value = stats.median(summaries.get(c["id"], {}), r["key"], metric)
            if value is not None:
                points[c["x"]] = value
        if points:
            series.append({"label": r["label"], "family": r["family"], "faint": r["variant"], "points": points})
    return series


def percentile_series(config, summaries, runtimes):
    series = []
    for r in runtimes:
        points = {name: v for metric, name in PERCENTILES if (v := stats.median(summaries, r["key"], metric)) is not None}
        if points:
            series.append({"label": r["label"], "family": r["family"], "faint": r["variant"], "points": points})
    return series


def html_table(config, summaries, runtimes):
    heads, body, _ = table.rows(config, summaries, runtimes)
    out = ['<div class="scroll"><table><tr><th></th>', *(f"<th>{escape(h)}</th>" for h in heads), "</tr>"]
    for runtime, cells in body:
        ours = ' class="ours"' if runtime["family"] == "nl" and not runtime["variant"] else ""
        out.append(f"<tr{ours}><td>{escape(runtime['label'])}</td>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    marked = any(c.endswith(table.MARK) for _, cells in body for c in cells)
    return "".join(out) + "</table></div>" + (f'<p class="muted">{table.MARK} {table.MEANING}.</p>' if marked else "")


def card(title, chart, figures="", open_=False):
    details = f"<details{' open' if open_ else ''}><summary>Figures</summary>{figures}</details>" if figures else ""
    return f'<div class="card"><h3>{escape(title)}</h3>{chart}{details}</div>'


def _bar_cards(configs, summaries, runtimes, metric, lower, what):
    cards = []
    for c in configs:
        s = summaries.get(c["id"], {})
        title = f"{c['name']}: {c['title']}" if c["group"] == "actors" else c["title"]
        chart = bar_chart(c, s, runtimes, metric, lower, f"{title}: {what}")
        if chart:
            cards.append(card(title, chart, html_table(c, s, runtimes)))
    return cards


# What else is worth a chart than the metric of the group: config, metric, title. Less is better in all of them.
MORE = [
    ("actors/spawn", "kb_each", "spawn: memory of each, in kB"),
    ("actors/timers", "cpu_us", "timers: CPU time of each, in µs"),
    ("actors/timers", "late_p99_ms", "timers: lateness in ms, 99th percentile"),
    ("idle/i10000", "base_kb", "the process with no connections, in kB"),
]


def _more_cards(configs, summaries, runtimes):
    cards = []
    for c in configs:
        for config, metric, title in MORE:
            if config == c["id"] and (chart := bar_chart(c, summaries.get(config, {}), runtimes, metric, True, title)):
                cards.append(card(title, chart))
    return cards


def _section(title, about, cards):
    if not cards:
        return ""
    return f'<h2>{escape(title)}</h2><p class="muted">{escape(about)}</p><div class="cards">{"".join(cards)}</div>'


def sections(data, summaries):
    runtimes = data["runtimes"]
    groups = {}
    for c in data["configs"]:
        groups.setdefault(c["group"], []).append(c)
    for name, group in plan.GROUPS.items():
        configs = groups.get(name, [])
        if not configs:
            continue
        about = ABOUT[name]
        if name == "latency":
            cards = []
            for c in configs:
                s = summaries.get(c["id"], {})
                order = [n for _, n in PERCENTILES]
                chart = svg.lines(percentile_series(c, s, runtimes), order, c["title"], "percentile", "latency",
                                  x_text=str, y_text=svg.microseconds, y_log=True)
                if chart:
                    cards.append(card(c["title"], chart, html_table(c, s, runtimes)))
            yield _section(group.title, about, cards)
        elif name in ("scale", "contexts"):
            configs = sorted(configs, key=lambda c: c["x"])
            what = "connections" if name == "scale" else "contexts"
            xs = [c["x"] for c in configs]
            cards = []
            for metric, title, y_title in ((group.metric, group.unit, ""), ("cpu_us_msg", "CPU time for each", "µs")):
                series = line_series(configs, summaries, runtimes, metric)
                chart = svg.lines(series, xs, f"{group.title}: {title}", what, y_title, x_log=True) if series else ""
                if chart:
                    cards.append(card(title, chart))
            figures = "".join(f"<h3>{escape(c['title'])}</h3>" + html_table(c, summaries[c["id"]], runtimes)
                              for c in configs if c["id"] in summaries)
            if cards:
                yield _section(group.title, about, cards) + f"<details><summary>Figures</summary>{figures}</details>"
        else:
            cards = _bar_cards(configs, summaries, runtimes, group.metric, group.lower, group.unit)
            yield _section(group.title, about, cards + _more_cards(configs, summaries, runtimes))
            if name == "echo":
                cards = _bar_cards(configs, summaries, runtimes, "cpu_us_msg", True, "CPU time of the server for each message")
                about = "User and system time of the server's process for each message, in µs: steadier than messages a second, " \
                        "and what is left for other work. Shorter is better."
                yield _section("What an echo costs the server", about, cards)
    if data.get("micro"):
        yield micro_section(data["micro"])


def micro_section(results):
    counted = next((r["counted_by"] for r in results if r.get("counted_by")), None)
    how = f"Instructions as counted by {counted}." if counted else "Instructions could not be counted on this machine."
    out = ["<h2>Parts of nl-jit by themselves</h2>",
           f'<p class="muted">One operation: median and least of several runs, in nanoseconds. {escape(how)}</p>',
           '<div class="scroll"><table><tr><th></th><th>ns</th><th>least</th><th>instructions</th><th class="left">one operation'
           "</th></tr>"]
    for r in results:
        out.append(f"<tr><td>{escape(r['name'])}</td><td>{r['ns']:.2f}</td><td>{r['ns_min']:.2f}</td>"
                   f"<td>{table.number(r.get('instructions'))}</td><td class=\"left\">{escape(r['what'])}</td></tr>")
    return "".join(out) + "</table></div>"


def tiles(data, summaries):
    """The few figures at the top: only those that were measured."""
    ours = next((r["key"] for r in data["runtimes"] if r["family"] == "nl" and not r["variant"]), None)
    if ours is None:
        return ""
    found = []

    def add(value, text):
        if value is not None:
            found.append(f"<div class='tile'><b>{escape(value)}</b><span>{escape(text)}</span></div>")

    def to_raw(config, metric="msgs_s"):
        s = summaries.get(config, {})
        r = stats.ratio(stats.median(s, ours, metric), stats.median(s, stats.RAW, metric))
        return f"{r:.2f} ×" if r is not None else None

    def to_best(bench):
        s = summaries.get(f"actors/{bench}", {})
        ref, _ = table.reference(plan.GROUPS["actors"], s, data["runtimes"])
        r = stats.ratio(stats.median(s, ours, "rate"), stats.median(s, ref, "rate")) if ref else None
        return f"{r:.2f} ×" if r is not None else None

    add(to_raw("echo/d1"), "raw C in framed echo, one message outstanding")
    add(to_raw("echo/d16"), "raw C with 16 outstanding")
    p99 = stats.median(summaries.get("latency/r20k", {}), ours, "p99_us")
    add(svg.microseconds(p99) if p99 is not None else None, "99th percentile at 20,000 messages a second")
    add(to_best("pingpong"), "the best other runtime in round trips between two contexts")
    add(to_best("pairs"), "the best other runtime with 100 pairs at once")
    for config in ("idle/i10000", "idle/i2000"):
        b = stats.median(summaries.get(config, {}), ours, "conn_bytes_echoed")
        if b is not None:
            add(f"{b:,.0f} bytes", "of memory for an idle connection")
            break
    return f'<div class="tiles">{"".join(found)}</div>' if found else ""


def noise(data):
    """How much else went on while measuring, in words; and whether that is too much."""
    foreign = [f for run in data["runs"] if (f := (run.get("metrics") or {}).get("foreign_cpu")) is not None]
    steal = [f for run in data["runs"] if (f := (run.get("metrics") or {}).get("steal")) is not None]
    if not foreign:
        return "", False
    median = stats.summary(foreign)["median"]
    loud = sum(f > 0.15 for f in foreign)
    words = (f"Other processes used {median:.2f} of a processor in the median run, and more than 0.15 in {loud} of {len(foreign)} "
             f"runs; the hypervisor took away {100 * stats.summary(steal)['median']:.1f} %.")
    return words, loud > len(foreign) / 4


def methodology(data):
    o = data["options"]
    words, _ = noise(data)
    items = [
        f"{o['rounds']} round{'s' if o['rounds'] != 1 else ''} of {o['seconds']:g} s each after {o['warmup']:g} s of warm-up. "
        "In each round the runtimes take turns within a configuration, in an order that rotates from round to round, each in a "
        "fresh process. Figures are medians over the rounds, ratios those of medians.",
        "Load and server share the machine and its loopback interface; nothing is pinned, nothing is tuned. Each runtime works "
        "with its defaults unless its name says otherwise.",
        "The load comes from nl-load, one thread on epoll. It stamps every message and compares every byte that comes back; a "
        "wrong byte, or a connection that fails, makes the whole run count as failed. A * marks figures where it "
        "used its whole processor: there the server could do more than is shown, and CPU time tells them better apart.",
        "Latency at fixed rates is measured open loop: each message has a due time, set beforehand, and its latency counts from "
        "that, so that a stall is seen by all messages that it delays, not only by the one that was on its way (coordinated "
        "omission). Messages due within the window are waited for beyond its end; what never came counts with the time until "
        "then. How late nl-load itself was in sending is listed, and included. Latencies beside peak rates are closed loop.",
        "raw C is bench/baseline.c: epoll and nothing else, one thread, looking at the length heads but never copying a message. "
        "It marks what kernel and machine allow.",
        "CPU time is the server process's user and system time as the kernel's scheduler accounts for it; for actors it includes "
        "the start of the process. Memory for each connection is the growth of its anonymous pages.",
        "The peers' programs are in bench/peers: each joins the replies to one packet in its own idiom, as its users would.",
    ]
    if words:
        items.append(words)
    return "<h2>How this was measured</h2><ul>" + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>"


def versions(data):
    named = [f"{r['label']} {r['version']}" for r in data["runtimes"] if not r["variant"] and r["version"]]
    return ", ".join(dict.fromkeys(named))


def failures(data):
    labels = {r["key"]: r["label"] for r in data["runtimes"]}
    seen = dict.fromkeys(f"{run['config']}, {labels.get(run['runtime'], run['runtime'])}: {run['failed']}"
                         for run in data["runs"] if "failed" in run)
    if not seen:
        return ""
    return ('<div class="warn"><b>Failed measurements</b><ul>' + "".join(f"<li>{escape(f)}</li>" for f in seen) + "</ul></div>")


def html(data):
    """The page for a report's data (as in report.json)."""
    summaries = stats.summarise(data["runs"])
    words, loud = noise(data)
    warnings = f'<p class="warn">The machine was not quiet. {escape(words)}</p>' if loud else ""
    if data["options"]["quick"]:
        warnings += '<p class="warn">A quick look: short runs, few configurations. Not to be quoted.</p>'
    body = [
        "<h1>nl-jit: benchmarks</h1>",
        f'<p class="muted">{escape(data["made"])} · {escape(machine.text(data["machine"]))}<br>{escape(versions(data))}</p>',
        warnings, failures(data), tiles(data, summaries), *sections(data, summaries), methodology(data),
    ]
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            'content="width=device-width, initial-scale=1"><title>nl-jit: benchmarks</title>'
            f"<style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(b for b in body if b) + "\n</main></body></html>\n")
