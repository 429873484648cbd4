"""The tables on standard output."""

from . import plan, stats

# Columns of each kind of table: heading, metric, how it is written. A ratio's metric is "name:ratio".
_LOADED = [("CPU µs", "cpu_us_msg"), ("× {ref}", "cpu_us_msg:ratio")]
_LATENCY = [("p50 µs", "p50_us"), ("p99 µs", "p99_us"), ("p99.9 µs", "p999_us")]
COLUMNS = {
    "echo": [("messages/s", "msgs_s"), ("±%", "msgs_s:spread"), ("× {ref}", "msgs_s:ratio"), *_LOADED, *_LATENCY],
    "latency": [("messages/s", "msgs_s"), *_LATENCY, ("p99.99", "p9999_us"), ("max", "max_us"), ("sent late p99", "lag_p99_us"),
                *_LOADED],
    "scale": [("messages/s", "msgs_s"), ("±%", "msgs_s:spread"), ("× {ref}", "msgs_s:ratio"), *_LOADED, *_LATENCY],
    "bcast": [("copies/s", "msgs_s"), ("±%", "msgs_s:spread"), ("× {ref}", "msgs_s:ratio"), *_LOADED,
              ("all p50 µs", "all_p50_us"), ("all p99 µs", "all_p99_us"), ("all p99.9", "all_p999_us")],
    "storm": [("connections/s", "msgs_s"), ("±%", "msgs_s:spread"), ("× {ref}", "msgs_s:ratio"), *_LOADED, *_LATENCY],
    "idle": [("bytes each", "conn_bytes"), ("after an echo", "conn_bytes_echoed"), ("after closing", "conn_bytes_closed"),
             ("process kB", "base_kb"), ("sleeps/s", "sleeps_s"), ("CPU", "server_cpu")],
    "actors": [("per second", "rate"), ("±%", "rate:spread"), ("× {ref}", "rate:ratio"), ("CPU µs", "cpu_us_msg"),
               ("sleeps each", "sleeps_msg")],
    "actors/spawn": [("per second", "rate"), ("±%", "rate:spread"), ("× {ref}", "rate:ratio"), ("kB each", "kb_each")],
    "actors/timers": [("armed/s", "rate"), ("±%", "rate:spread"), ("× {ref}", "rate:ratio"), ("CPU µs", "cpu_us"),
                      ("late p50 ms", "late_p50_ms"), ("late p99 ms", "late_p99_ms"), ("late max ms", "late_max_ms")],
    "contexts": [("round trips/s", "rate"), ("±%", "rate:spread"), ("× {ref}", "rate:ratio"), ("CPU µs", "cpu_us_msg"),
                 ("sleeps each", "sleeps_msg")],
    "startup": [("ms", "ms"), ("±%", "ms:spread"), ("× {ref}", "ms:ratio"), ("CPU ms", "cpu_ms")],
}


def number(x):
    """Three or four digits that say something."""
    if x is None:
        return "–"
    a = abs(x)
    if a >= 1000:
        return f"{x:,.0f}"
    if a >= 100:
        return f"{x:.0f}"
    if a >= 10:
        return f"{x:.1f}"
    if a >= 0.01:
        return f"{x:.2f}"
    return f"{x:.4f}".rstrip("0").rstrip(".") if a >= 0.00005 else "0"


def times(ratio):
    if ratio is None:
        return "–"
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.3f}"


def reference(group, summaries, runtimes, metric=None, lower=None):
    """
    (key, label) of what ratios of a metric (of the group's own, if none is given) are to: the raw C baseline, or the best of
    the other runtimes, or where only builds of nl-jit are compared, the first of them; (None, …): there is none.
    """
    if group.against == "raw":
        return (stats.RAW if stats.RAW in summaries else None), "raw C"
    others = [r["key"] for r in runtimes if r["family"] not in ("nl", "raw")]
    if not others:
        first = next((r for r in runtimes if r["family"] == "nl" and r["key"] in summaries), None)
        return (first["key"], first["label"]) if first else (None, "")
    best = stats.best(summaries, metric or group.metric, group.lower if lower is None else lower, others)
    return best, "best peer"


LIMIT = 0.97  # of a processor: nl-load's one thread can do no more
MARK, MEANING = "*", "nl-load used a whole processor: the server could do more"


def at_limit(summaries, runtime):
    return (stats.median(summaries, runtime, "load_cpu") or 0) >= LIMIT


def cell(summaries, runtime, column, ref):
    metric, _, what = column.partition(":")
    value = stats.median(summaries, runtime, metric)
    if what == "spread":
        s = summaries.get(runtime, {}).get(metric)
        return f"{100 * stats.spread(s):.1f}" if s and s["n"] > 1 else "–"
    if what == "ratio":
        r = stats.ratio(value, stats.median(summaries, ref, metric)) if ref else None
        return times(r)
    return number(value) + (MARK if metric == "msgs_s" and at_limit(summaries, runtime) else "")


def columns(config):
    return COLUMNS.get(config["id"]) or COLUMNS[config["group"]]


def rows(config, summaries, runtimes):
    """(headings, [(runtime, cells)], label of the reference) of one configuration, best first."""
    group = plan.GROUPS[config["group"]]
    ref, ref_label = reference(group, summaries, runtimes)
    heads = [h.format(ref=ref_label) for h, _ in columns(config)]
    order = sorted((r for r in runtimes if r["key"] in summaries),
                   key=lambda r: stats.median(summaries, r["key"], group.metric) or 0, reverse=not group.lower)
    return heads, [(r, [cell(summaries, r["key"], c, ref) for _, c in columns(config)]) for r in order], ref_label


def text(config, summaries, runtimes, failures):
    """One configuration's table as lines of text."""
    heads, body, _ = rows(config, summaries, runtimes)
    label = max([len(r["label"]) for r, _ in body] + [12])
    widths = [max([len(h)] + [len(cells[i]) for _, cells in body]) for i, h in enumerate(heads)]
    lines = [f"{config['id']}: {config['title']}"]
    lines.append("  " + " " * label + "".join(f"  {h:>{w}}" for h, w in zip(heads, widths)))
    for runtime, cells in body:
        lines.append(f"  {runtime['label']:<{label}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths)))
    if any(cell.endswith(MARK) for _, cells in body for cell in cells):
        lines.append(f"  {MARK} {MEANING}")
    for runtime, why in failures:
        lines.append(f"  {runtime}: failed: {why}")
    return "\n".join(lines)


def micro(results):
    lines = ["micro: one operation of a part"]
    width = max(len(r["name"]) for r in results)
    lines.append(f"  {'':<{width}}  {'ns':>8}  {'least':>8}  {'instr.':>8}")
    for r in results:
        instructions = number(r.get("instructions"))
        lines.append(f"  {r['name']:<{width}}  {r['ns']:>8.2f}  {r['ns_min']:>8.2f}  {instructions:>8}  {r['what']}")
    return "\n".join(lines)


def everything(data):
    """All tables of a report's data."""
    summaries = stats.summarise(data["runs"])
    labels = {r["key"]: r["label"] for r in data["runtimes"]}
    blocks = []
    for config in data["configs"]:
        failures = {}
        for run in data["runs"]:
            if run["config"] == config["id"] and "failed" in run:
                failures[labels.get(run["runtime"], run["runtime"])] = run["failed"]
        if config["id"] in summaries:
            blocks.append(text(config, summaries[config["id"]], data["runtimes"], failures.items()))
    if data.get("micro"):
        blocks.append(micro(data["micro"]))
    return "\n\n".join(blocks)
