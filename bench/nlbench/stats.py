"""Medians and ratios over the rounds of a measurement."""

import math
import statistics

RAW = "raw"  # key of the C baseline


def summary(values):
    """What is kept of one metric's values: median, least, greatest, number. None if there is no value."""
    values = [v for v in values if v is not None and math.isfinite(v)]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def spread(s):
    """Half the distance between least and greatest, as a share of the median."""
    return (s["max"] - s["min"]) / 2 / abs(s["median"]) if s["n"] > 1 and s["median"] else 0.0


def summarise(runs):
    """{config: {runtime: {metric: summary}}} of a list of runs; a failed run counts for nothing. Orders are kept."""
    values = {}
    for run in runs:
        runtime = values.setdefault(run["config"], {}).setdefault(run["runtime"], {})
        for metric, value in (run.get("metrics") or {}).items():
            runtime.setdefault(metric, []).append(value)
    return {
        config: {
            runtime: {m: s for m, v in metrics.items() if (s := summary(v))} for runtime, metrics in runtimes.items()
        }
        for config, runtimes in values.items()
    }


def median(summaries, runtime, metric):
    """The median of a metric in one config's summaries, or None."""
    s = summaries.get(runtime, {}).get(metric)
    return s["median"] if s else None


def ratio(a, b):
    return a / b if a is not None and b else None


def best(summaries, metric, lower, runtimes):
    """The runtime among those with the best median, or None."""
    have = [(v, r) for r in runtimes if (v := median(summaries, r, metric)) is not None]
    return (min(have) if lower else max(have))[1] if have else None


def percent_busy(before, after):
    """Processors in use and stolen between two samples of /proc/stat's first line (lists of ticks), as shares of one."""
    delta = [b - a for a, b in zip(before, after)]
    user, nice, system, idle, wait, irq, soft, steal = (delta + [0] * 8)[:8]
    total = sum(delta[:8])
    if total <= 0:
        return 0.0, 0.0
    return (user + nice + system + irq + soft + steal) / total, steal / total
