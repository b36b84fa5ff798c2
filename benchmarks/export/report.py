"""The report of the export benchmark: docs/bench.md and its figures."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Run = dict[str, Any]

_INK, _OURS, _THEIRS = "#333333", "#3b6fb6", "#b8b8b8"

_INSTEAD = "split"
"""The stage that replaces the typed decode for pages that are not as documented."""


_NO_PART_OF_IT = ("download with a bare socket", "find where each conversation ends (msgspec.Raw)")
"""The lower bounds that are part of another one."""


_LEFT = """\
- **The download** is parsed by h11, in Python. Requests without a proxy leave out the layers of httpx, which took
  7.5 µs per conversation in a whole export.
- **Decompression**, if the API compresses, costs another 6.5 µs with zlib. A library for it (isal) saved 4 µs in a
  prototype, about a twentieth of such an export: too little for another dependency.
- **The columns** are texts that Arrow copies from Python, and amounts that are read exactly from their digits. Arrow's
  own JSON reader changes amounts of more than 15 digits and reads `1e-411` as zero.
- **Exactness** takes more requests than there are pages, and an index of all ids, because the API has no snapshot.
- **The spool** holds all rows on disk until they can be published at once.
- **Threads** wait for each other: workers and decoder share Python's interpreter lock.
- **pandas** is imported by Arrow itself, as soon as it converts the first Python object, if pandas is installed."""


@dataclass(frozen=True)
class Measured:
    """All that the report shows.

    :param exports: by size, the figures of each kind of export, and of dlt
    :param growth: the same, with smaller sizes
    :param stages: CPU microseconds per conversation by stage
    :param floors: the same, of the libraries alone
    :param mapped: by their number, the sums over exports at once
    :param slow: by name, exports from a server with latency
    """

    exports: dict[int, dict[str, Run]]
    growth: dict[int, dict[str, Run]]
    stages: dict[str, float]
    floors: dict[str, float]
    mapped: dict[int, Run]
    slow: dict[str, Run]


def machine() -> str:
    """Return a description of this machine, without names or paths."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "msgspec", "apache-airflow"))
    return f"{os.cpu_count()} cores of {model}; {platform.system()}, Python {platform.python_version()}, {versions}"


def markdown(measured: Measured, about: str, load: float) -> str:
    """Return docs/bench.md."""
    runs = {size: kinds["windows"] for size, kinds in measured.exports.items()}
    stages = measured.stages
    each = next(iter(runs.values()))
    times = each["times"]
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
        *_exactness(measured.exports),
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
        *_limits(measured.floors, runs),
        "",
        "What is left above it, and why:",
        "",
        _LEFT,
        "",
        "## Memory",
        "",
        *_memory(measured.exports),
        "",
        "## As work grows",
        "",
        *_growth(measured.growth),
        "",
        *_mapped(measured.mapped),
        "",
        "## Beside dlt",
        "",
        *_beside(measured.exports),
        "",
        "## With latency",
        "",
        *_slow(measured.slow),
        "",
        "`make bench` measures again; `make bench ARGS='--sizes 20000,100000,1000000 --runs 5 --dlt-up-to 1000000'` "
        "measures more.",
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


def _exactness(exports: dict[int, dict[str, Run]]) -> list[str]:
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
            for size, kinds in exports.items()
            for name, run in (("`windows`, the default", kinds["windows"]), ("`pages`", kinds["pages"]))
        ),
    ]


def _limits(floors: dict[str, float], runs: dict[int, Run]) -> list[str]:
    largest = max(runs)
    spent = runs[largest]["cpu"] / largest * 1e6
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
        "credentials, writes costs as rows, and spools all rows to disk. "
        f"An export of {largest:,} conversations costs {spent / needed:.1f} times the minimum.",
    ]


def _memory(exports: dict[int, dict[str, Run]]) -> list[str]:
    return [
        "Peak memory of the process. What is imported includes Arrow, and pandas, which Arrow loads if it is "
        "installed; and Airflow, with what it imports to open any path.",
        "",
        "| conversations | Airflow | imported, MB | peak, MB | for the export, MB |",
        "|---:|---|---:|---:|---:|",
        *(
            f"| {size:,} | {airflow} | {run['imported_bytes'] / 1e6:,.0f} | {run['peak_bytes'] / 1e6:,.0f} "
            f"| {(run['peak_bytes'] - run['imported_bytes']) / 1e6:,.0f} |"
            for size, kinds in exports.items()
            for airflow, run in (("with", kinds["windows"]), ("without", kinds["without Airflow"]))
        ),
        "",
        "It is used by the pages in flight, by what the allocators keep beside what is in use, and by an index of "
        "all ids, which grows by 12 bytes per conversation.",
    ]


def _growth(exports: dict[int, dict[str, Run]]) -> list[str]:
    return [
        "The first conversations pay for what every export does once: probe requests, a guess of the arrival rate, "
        "publication.",
        "",
        "![CPU, requests and memory by size of the export, and by mapped tasks](bench-growth.png)",
        "",
        "| conversations | CPU µs per conversation | requests | requests per full page | memory for the export, MB |",
        "|---:|---:|---:|---:|---:|",
        *(
            f"| {size:,} | {run['cpu'] / size * 1e6:.0f} | {run['requests']:,} | {run['requests'] / (size / 100):.2f} "
            f"| {(run['peak_bytes'] - run['imported_bytes']) / 1e6:,.0f} |"
            for size, run in ((size, kinds["windows"]) for size, kinds in exports.items())
        ),
    ]


def _mapped(mapped: dict[int, Run]) -> list[str]:
    return [
        "The same day by mapped tasks. Each exports an equal part of it in its own process. Memory is the sum "
        "of all; seconds include starting Python and importing Airflow.",
        "",
        "| mapped tasks | conversations | seconds | CPU µs per conversation | requests | peak memory of all, MB |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {tasks} | {run['conversations']:,} | {run['seconds']:.1f} "
            f"| {run['cpu'] / run['conversations'] * 1e6:.0f} | {run['requests']:,} | {run['peak_bytes'] / 1e6:,.0f} |"
            for tasks, run in mapped.items()
        ),
    ]


def _slow(slow: dict[str, Run]) -> list[str]:
    return [
        "The same from a server that waits 100 ms before each response. The workers of an export share one listing; "
        "the resources of dlt's parallel form each list a part of the day.",
        "",
        "| | conversations | seconds | conversations/s | CPU µs per conversation |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {run['conversations']:,} | {run['seconds']:.1f} "
            f"| {run['conversations'] / run['seconds']:,.0f} | {run['cpu'] / run['conversations'] * 1e6:,.0f} |"
            for name, run in slow.items()
        ),
    ]


def _beside(exports: dict[int, dict[str, Run]]) -> list[str]:
    both = {size: kinds for size, kinds in exports.items() if "dlt" in kinds}
    if not both:
        return ["dlt was not measured this time."]
    ours, loads = both[min(both)]["windows"], both[min(both)]["dlt"]
    return [
        f"dlt {loads['version']} reads the same pages with its `rest_api` source, configured as in its documentation, "
        "and writes Parquet to local disk.",
        f"It unnests every array into a separate table ({len(loads['rows'])} tables here) and writes "
        f"{sum(loads['rows'].values()):,} rows of {min(both):,} conversations, where the provider writes",
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
            for kinds in both.values()
            for name, run in (("this provider", kinds["windows"]), ("dlt", kinds["dlt"]))
        ),
    ]


def growth_chart(file: Path, measured: Measured) -> None:
    """Draw what an export costs by its size, and by the number of mapped tasks."""
    plt = _pyplot()
    runs = {size: kinds["windows"] for size, kinds in measured.growth.items()}
    mapped = measured.mapped
    figures = (
        ("CPU, µs per conversation", lambda run: run["cpu"] / run["conversations"] * 1e6),
        ("Requests per full page", lambda run: run["requests"] / (run["conversations"] / 100)),
        ("Memory for the export, MB", lambda run: (run["peak_bytes"] - run["imported_bytes"]) / 1e6),
    )
    figure, rows = plt.subplots(2, 3, figsize=(9.6, 4.8), layout="constrained")
    for axes, (title, of) in zip(rows[0], figures, strict=True):
        axes.plot(list(runs), [of(run) for run in runs.values()], marker="o", color=_OURS)
        axes.set_xscale("log")
        axes.set_xlabel("conversations")
        axes.set_title(title, loc="left", fontsize=10)
    for axes, (title, of) in zip(rows[1], figures, strict=True):
        axes.bar(
            [str(tasks) for tasks in mapped], [of(run) for run in mapped.values()], color=_OURS, width=0.5
        )
        axes.set_xlabel("mapped tasks")
        axes.set_title(title.replace("the export", "all exports"), loc="left", fontsize=10)
    for axes in rows.flat:
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120, metadata={"Software": None})


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "ytick.color": _INK})
    return plt


def chart(file: Path, measured: Measured) -> None:
    """Draw conversations per second and CPU time by stage."""
    plt = _pyplot()
    bars = [
        (f"dlt, {size:,}", run["conversations"] / run["seconds"], _THEIRS)
        if name == "dlt"
        else (f"{size:,}", run["conversations"] / run["seconds"], _OURS)
        for size, kinds in measured.exports.items()
        for name, run in kinds.items()
        if name in ("windows", "dlt")
    ]
    spent = {name: micro for name, micro in measured.stages.items() if name != _INSTEAD}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[2, 3], layout="constrained")
    for axes, title, rows, unit in (
        (left, "Conversations per second, by size of the export", bars, "{:,.0f}"),
        (
            right,
            "CPU by stage, µs per conversation",
            [(name, micro, _OURS) for name, micro in spent.items()],
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
