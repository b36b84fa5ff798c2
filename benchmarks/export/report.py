"""The report of the export benchmark: docs/bench.md and docs/bench.png."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

Run = dict[str, Any]

_INSTEAD = "split"
"""The stage that replaces the typed decode for pages that are not as documented."""


_NO_PART_OF_IT = ("download with a bare socket", "find where each conversation ends (msgspec.Raw)")
"""The lower bounds that are part of another one."""


def machine() -> str:
    """Return a description of this machine, without names or paths."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "msgspec", "apache-airflow"))
    return f"{os.cpu_count()} cores of {model}; {platform.system()}, Python {platform.python_version()}, {versions}"


def markdown(
    runs: dict[int, Run],
    stages: dict[str, float],
    floors: dict[str, float],
    loads: dict[str, Any] | str,
    about: str,
    load: float,
) -> str:
    """Return docs/bench.md."""
    each, times = next(iter(runs.values())), next(iter(runs.values()))["times"]
    of_runs = "of one run" if times == 1 else f"the median of {times} runs"
    once = [f"{size:,}" for size, run in runs.items() if run["times"] == 1 < times]
    of_runs += f" (of one for {', '.join(once)} conversations)" if once else ""
    configs = each["rows"]["agent_configs"]
    lines = [
        "# What an export costs",
        "",
        "<!-- written by `make bench` -->",
        "",
        "This benchmark runs the operator's `execute` in a new process: all four tables, from an API on the loopback "
        "interface to Parquet on local disk.",
        f"A conversation has {each['bytes_each'] / 1000:.1f} KB of JSON, a page has 100 of them, and they share "
        f"{configs} configurations. The pages are",
        "prepared beforehand and served by another process without delay. This measures the provider; a real API is "
        "slower.",
        f"Each figure is {of_runs}. CPU is user and system time of the exporting process. "
        "Memory is that of the whole process, Airflow included.",
        "",
        f"Measured on {about}.",
        *_busy(load),
        "",
        "| conversations | rows of all tables | seconds | conversations/s | rows/s | CPU µs per conversation "
        "| peak memory, MB | bytes written, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_line(run) for run in runs.values()),
        "",
        "![Conversations per second, and CPU by stage](bench.png)",
        "",
        "## What exactness costs",
        "",
        *_exactness(runs),
        "",
        "## Where the CPU goes",
        "",
        "The stages of an export, each measured alone:",
        "",
        "| stage | CPU µs per conversation |",
        "|---|---:|",
        *(f"| {name} | {spent:.1f} |" for name, spent in stages.items() if name != _INSTEAD),
        f"| **total** | **{sum(spent for name, spent in stages.items() if name != _INSTEAD):.1f}** |",
        "",
        f"A page that does not match the documentation is split instead of decoded, for "
        f"{stages[_INSTEAD]:.1f} µs. Those of its",
        "conversations that do not match are then decoded value by value, which costs more.",
        "",
        "## What limits it",
        "",
        *_limits(floors),
        "",
        "## Memory",
        "",
        *_memory(runs),
        "",
        "## Beside dlt",
        "",
        *_beside(runs, loads),
        "",
        "`make bench` measures again; `make bench ARGS='--sizes 20000,1000000 --with-dlt'` measures more.",
    ]
    return "\n".join(lines) + "\n"


def _busy(load: float) -> list[str]:
    """Return a warning if other processes kept the machine busy."""
    cores = os.cpu_count() or 1
    if load < cores:
        return []
    return [
        f"**The machine was busy with other work (a load of {load:.0f} on {cores} cores), so time and CPU are higher "
        "than on a quiet one; memory and bytes are not.**"
    ]


def _line(run: Run) -> str:
    return (
        f"| {run['conversations']:,} | {sum(run['rows'].values()):,} | {run['seconds']:.1f} "
        f"| {run['conversations'] / run['seconds']:,.0f} | {sum(run['rows'].values()) / run['seconds']:,.0f} "
        f"| {run['cpu'] / run['conversations'] * 1e6:.0f} | {run['peak_bytes'] / 1e6:,.0f} "
        f"| {run['bytes'] / 1e6:,.1f} |"
    )


def _exactness(runs: dict[int, Run]) -> list[str]:
    return [
        'The same export with `read_strategy="pages"`, which may lose conversations while others are '
        "deleted or change; see [exact reading](exact-reading.md).",
        "Windows are filled to four fifths, and some overflow and are split. This costs additional requests and CPU. "
        "Four concurrent requests hide the latency of the API.",
        "",
        "| conversations | read_strategy | requests | seconds | CPU µs per conversation | peak memory, MB |",
        "|---:|---|---:|---:|---:|---:|",
        *(
            f"| {size:,} | {name} | {run['requests']:,} | {run['seconds']:.1f} "
            f"| {run['cpu'] / size * 1e6:.0f} | {run['peak_bytes'] / 1e6:,.0f} |"
            for size, exact in runs.items()
            for name, run in (("`windows`, the default", exact), ("`pages`", exact["by_pages"]))
        ),
    ]


def _limits(floors: dict[str, float]) -> list[str]:
    needed = sum(spent for name, spent in floors.items() if name not in _NO_PART_OF_IT)
    return [
        "The minimum that the libraries need for the same conversations, each called alone, without any code of the "
        "provider:",
        "",
        "| piece of work | CPU µs per conversation |",
        "|---|---:|",
        *(f"| {name} | {spent:.1f} |" for name, spent in floors.items()),
        f"| **minimum for any such export** | **{needed:.1f}** |",
        "",
        "The bare socket and the search for ends are not part of the sum. They show how much of the download is HTTP "
        "in Python, and how much of the",
        "typed decode is parsing rather than creating objects. Beyond this minimum, the provider decodes numbers "
        "exactly, searches texts for",
        "credentials, writes costs as rows, and spools all rows to disk.",
    ]


def _memory(runs: dict[int, Run]) -> list[str]:
    return [
        "Peak memory of the process. It includes what is imported: Airflow, Arrow, and pandas, which Arrow loads if it "
        "is installed.",
        "",
        "| conversations | Airflow | imported, MB | peak, MB | for the export, MB |",
        "|---:|---|---:|---:|---:|",
        *(
            f"| {size:,} | {airflow} | {run['imported_bytes'] / 1e6:,.0f} | {run['peak_bytes'] / 1e6:,.0f} "
            f"| {(run['peak_bytes'] - run['imported_bytes']) / 1e6:,.0f} |"
            for size, with_airflow in runs.items()
            for airflow, run in (("with", with_airflow), ("without", with_airflow["alone"]))
        ),
    ]


def _beside(runs: dict[int, Run], loads: dict[str, Any] | str) -> list[str]:
    if isinstance(loads, str):
        return [loads]
    ours = runs[min(runs)]
    return [
        f"dlt {loads['version']} reads the same pages with its `rest_api` source, configured as in its documentation, "
        "and writes Parquet to local disk.",
        f"It unnests every array into a separate table ({len(loads['rows'])} tables here) and writes "
        f"{sum(loads['rows'].values()):,} rows, where the provider writes",
        f"{sum(ours['rows'].values()):,}, because it repeats the tools, webhooks and hooks of a configuration for each "
        "conversation. It does not mask secrets, mark",
        "own keys or keep amounts exact. Both read the same conversations.",
        "",
        "| | conversations | seconds | conversations/s | CPU µs per conversation | peak memory, MB "
        "| bytes written, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {run['conversations']:,} | {run['seconds']:.1f} "
            f"| {run['conversations'] / run['seconds']:,.0f} | {run['cpu'] / run['conversations'] * 1e6:,.0f} "
            f"| {run['peak_bytes'] / 1e6:,.0f} | {run['bytes'] / 1e6:,.1f} |"
            for name, run in (("this provider", ours), ("dlt", loads))
        ),
    ]


def chart(file: Path, runs: dict[int, Run], stages: dict[str, float], loads: dict[str, Any] | str) -> None:
    """Draw conversations per second and CPU time by stage."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ink, ours, theirs = "#333333", "#3b6fb6", "#b8b8b8"
    plt.rcParams.update({"font.size": 9, "text.color": ink, "axes.labelcolor": ink, "ytick.color": ink})
    bars = [(f"{size:,}", run["conversations"] / run["seconds"], ours) for size, run in runs.items()]
    if isinstance(loads, dict):
        bars.append((f"dlt, {loads['conversations']:,}", loads["conversations"] / loads["seconds"], theirs))
    spent = {name: micro for name, micro in stages.items() if name != _INSTEAD}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[2, 3], layout="constrained")
    for axes, title, rows, unit in (
        (left, "Conversations per second, by size of the export", bars, "{:,.0f}"),
        (
            right,
            "CPU by station, µs per conversation",
            [(name, micro, ours) for name, micro in spent.items()],
            "{:.1f}",
        ),
    ):
        names, values, colours = zip(*rows, strict=True)
        drawn = axes.barh(names, values, color=colours, height=0.6)
        axes.bar_label(drawn, [unit.format(value) for value in values], padding=3)
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlim(0, max(values) * 1.18)
        axes.xaxis.set_visible(False)
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(file, dpi=120, metadata={"Software": None})
