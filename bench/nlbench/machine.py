"""What the report says about the machine; nothing that names it."""

import os
import platform
from pathlib import Path


def _field(path, name):
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return ""


def describe():
    kb = _field("/proc/meminfo", "MemTotal").split()
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(kb[0]) / 1e6) if kb else 0,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
    }


def text(m):
    kind = "virtual processors" if m["virtual"] else "processors"
    return f"{m['processor']}, {m['processors']} {kind}, {m['memory_gb']} GB, {m['system']}"
