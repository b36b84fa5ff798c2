"""Pictures of the documentation: the path of an export, shared polls, the tables, and the lineage of the dbt models.

The tables come from their declaration, and the lineage from the models. All pictures have a background, and colours
for light and dark pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from docs.tools import dbt_package
from voiceos_provider.transform import TABLES, Table

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

_WIDTH = 760
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
  .strong { font-weight: 600; font-size: 14px }
  .dim { fill: #59636e; font-size: 12px }
  .code { font-family: ui-monospace, Menlo, "DejaVu Sans Mono", monospace; font-size: 12px }
  .middle { text-anchor: middle }
  .end { text-anchor: end }
  .ground { fill: #ffffff }
  .box { fill: #f6f8fa; stroke: #818b98 }
  .good { fill: #dafbe1; stroke: #1a7f37 }
  .open { fill: #fff1cc; stroke: #9a6700 }
  .blue { fill: #ddf4ff; stroke: #0969da }
  .line { stroke: #59636e; stroke-width: 1.4; fill: none }
  .dashed { stroke: #59636e; stroke-width: 1.4; fill: none; stroke-dasharray: 6 5 }
  .head { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .dim { fill: #b7bdc8 }
    .ground { fill: #151b23 }
    .box { fill: #262c36; stroke: #9198a1 }
    .good { fill: #12381f; stroke: #3fb950 }
    .open { fill: #3d2e00; stroke: #d29922 }
    .blue { fill: #0c2d54; stroke: #4493f8 }
    .line, .dashed { stroke: #b7bdc8 }
    .head { fill: #b7bdc8 }
  }
"""


def picture(height: int, says: str, parts: Iterable[str]) -> str:
    """Return an SVG file.

    :param says: a description for screen readers
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img">',
            f"<title>{escape(says)}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
            f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="8"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a line of text at the start of its baseline."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    """Return a rectangle."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'


def arrow(*points: tuple[float, float], kind: str = "line", tip: bool = True) -> str:
    """Return a line through points, with an arrow head at its end."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    end = ' marker-end="url(#tip)"' if tip else ""
    return f'<polyline class="{kind}" points="{path}"{end}/>'


def card(x: float, y: float, width: float, title: str, lines: Iterable[str], kind: str = "box") -> list[str]:
    """Return a box with a heading and lines."""
    lines = list(lines)
    return [
        box(x, y, width, 36 + 18 * len(lines), kind),
        text(x + 12, y + 23, title, "strong"),
        *(text(x + 12, y + 43 + 18 * nth, line, "dim") for nth, line in enumerate(lines)),
    ]


def walk() -> str:
    """Draw the path of an export."""
    parts = [
        text(20, 28, "1  The interval is split into windows of creation time, one request each", "strong")
    ]
    for start, end, whole in ((20, 210, True), (210, 400, True), (400, 550, False), (550, 740, True)):
        parts.append(box(start + 1, 40, end - start - 2, 28, "good" if whole else "open"))
        says = "has_more: false" if whole else "has_more: true"
        parts.append(text((start + end) / 2, 59, says, "middle"))
    parts += [
        arrow((400, 70), (330, 88), kind="dashed", tip=False),
        arrow((550, 70), (620, 88), kind="dashed", tip=False),
        box(331, 90, 143, 28, "good"),
        text(402, 109, "has_more: false", "middle"),
        box(476, 90, 143, 28, "good"),
        text(547, 109, "has_more: false", "middle"),
        text(322, 108, "split and requested again", "dim end"),
        arrow((130, 70), (130, 146)),
    ]
    for x, title, lines in (
        (
            20,
            "2  Rows of four tables",
            ["undocumented values kept,", "credentials masked, PII redacted"],
        ),
        (270, "3  Local work directory", ["rows are spooled to disk;", "memory holds a few pages"]),
        (520, "4  Encode, then count", ["a wrong count", "publishes nothing"]),
    ):
        parts += card(x, 148, 220, title, lines)
    parts += [arrow((240, 184), (268, 184)), arrow((490, 184), (518, 184))]
    parts += [
        arrow((20, 246), (740, 246), kind="dashed", tip=False),
        text(20, 266, "Above this line nothing is visible. Below it are complete files only.", "dim"),
        arrow((630, 220), (630, 276), (86, 276), (86, 310)),
        text(
            100,
            302,
            "5  Each file is published atomically; conversations after their dependent tables",
            "strong",
        ),
    ]
    names = [*(table.name for table in reversed(TABLES)), "manifest"]
    for nth, name in enumerate(names):
        x = 20 + 147 * nth
        parts.append(box(x, 312, 132, 40, "blue" if name in ("manifest", "conversations") else "box"))
        parts.append(text(x + 66, 337, name.replace("conversation_", "…_"), "middle code"))
        if nth:
            parts.append(arrow((x - 15, 332), (x - 2, 332)))
    parts += [
        arrow((674, 352), (674, 378), (420, 378)),
        text(20, 383, "6  Verify: do all published files belong to this run?", "strong"),
        text(740, 398, "if another run has published meanwhile: publish again", "dim end"),
    ]
    return picture(412, "The path of an export, from an interval to files and their manifest", parts)


def sharing() -> str:
    """Draw many sensors that share one stream of polls."""
    parts = []
    for nth, name in enumerate(("wait, 08–09 h", "wait, 09–10 h", "wait, 09–10 h", "wait, 10–11 h")):
        y = 42 + 46 * nth
        parts += [box(20, y, 150, 34), text(95, y + 22, name, "middle")]
        parts.append(arrow((170, y + 17), (218, 118)))
    parts += [
        text(20, 28, "Deferred tasks", "strong"),
        text(95, 244, "… a thousand of them", "middle dim"),
        text(220, 28, "Triggerer", "strong"),
        *card(
            220,
            62,
            240,
            "One stream of polls",
            [
                "per connection and poke_interval:",
                "is anything open from the first",
                "start to the last end? If so, halve,",
                "until it is known where.",
            ],
            "blue",
        ),
        text(620, 28, "VoiceOS API", "strong"),
        box(600, 62, 140, 108),
        text(670, 112, "queued?", "middle code"),
        text(670, 134, "started?", "middle code"),
        arrow((460, 100), (598, 100)),
        text(529, 92, "one row each", "middle dim"),
        arrow((598, 136), (462, 136)),
        text(529, 154, "open, or none", "middle dim"),
        arrow((340, 170), (340, 262), (95, 262), (95, 254), kind="dashed"),
        text(352, 216, "When two polls agree that all calls of a"),
        text(352, 234, "window have ended, each of its tasks resumes"),
        text(352, 250, "once, and polling for the window stops."),
    ]
    return picture(280, "Many deferred sensors share one stream of polls", parts)


def tables() -> str:
    """Draw the four tables, their keys and their relations."""
    conversations, costs, messages, configs = TABLES
    shown = {
        conversations.name: [
            "agent_config_hash",
            "type",
            "status",
            "started_at",
            "ended_at",
            "total_cost",
            "from_number",
            "extra",
        ],
        costs.name: ["provider", "cost", "quantity", "own_key"],
        messages.name: ["role", "content"],
        configs.name: ["prompt_hash", "prompt", "language_model", "voice_model", "agent_config"],
    }
    parts = [
        *_entity(configs, 20, 70, shown),
        *_entity(conversations, 275, 40, shown),
        *_entity(costs, 530, 24, shown),
        *_entity(messages, 530, 206, shown),
        # From the row of the key that refers to the row of the key that is referred to.
        arrow((275, 100), (252, 100), (252, 114), (230, 114), tip=False),
        text(268, 94, "n", "dim end"),
        text(236, 108, "1", "dim"),
        arrow((485, 82), (508, 82), (508, 66), (530, 66), tip=False),
        arrow((508, 82), (508, 248), (530, 248), tip=False),
        text(490, 76, "1", "dim"),
        text(524, 60, "n", "dim end"),
        text(524, 242, "n", "dim end"),
        text(
            20,
            352,
            "Every table also has _interval_start and _interval_end, between which it was created, and _exported_at.",
            "dim",
        ),
    ]
    return picture(370, "The four tables, their keys, and what refers to what", parts)


def _entity(table: Table, x: float, y: float, shown: dict[str, list[str]]) -> list[str]:
    names = {column.name for column in table.columns}
    columns = [*table.key, *shown[table.name]]
    if missing := [name for name in columns if name not in names]:
        raise SystemExit(
            f"docs/tools/pictures.py shows {', '.join(missing)}, which {table.name} does not have."
        )
    more = len([name for name in names if not name.startswith("_")]) - len(columns)
    height = 34 + 18 * len(columns) + (18 if more else 0)
    lines = [
        box(x, y, 210, height),
        box(x, y, 210, 26, "blue"),
        text(x + 105, y + 18, table.name, "strong middle"),
    ]
    for nth, name in enumerate(columns):
        lines.append(text(x + 12, y + 46 + 18 * nth, name, "code"))
        if name in table.key:
            lines.append(text(x + 198, y + 46 + 18 * nth, "key", "dim end"))
    if more:
        lines.append(text(x + 12, y + 46 + 18 * len(columns), f"and {more} more", "dim"))
    return lines


def lineage() -> str:
    """Draw the tables, the staging models and the marts of the dbt package, and what reads what."""
    step, x_staging, x_mart = 34, 240, 560
    marts = dbt_package.lineage()
    height = 44 + step * len(marts)
    middle = 44 + step * (len(marts) - 1) / 2
    staging = {
        f"stg_voiceos__{table.name}": middle + 2 * step * (nth - (len(TABLES) - 1) / 2)
        for nth, table in enumerate(TABLES)
    }
    parts = [
        text(20, 28, "Sources", "strong"),
        text(x_staging, 28, "Staging: views", "strong"),
        text(x_mart, 28, "Marts", "strong"),
    ]
    for nth, (mart, models) in enumerate(marts.items()):
        top = 44 + step * nth
        parts += [box(x_mart, top, 180, 26, "good"), text(x_mart + 10, top + 17, mart, "code")]
        parts += [
            arrow((x_staging + 272, staging[model] + 13), (x_mart - 2, top + 13)) for model in sorted(models)
        ]
    for model, y in staging.items():
        parts += [box(20, y, 170, 26, "blue"), text(30, y + 17, model.partition("__")[2], "code")]
        parts += [box(x_staging, y, 272, 26), text(x_staging + 10, y + 17, model, "code")]
        parts.append(arrow((190, y + 13), (x_staging - 2, y + 13)))
    return picture(height, "Lineage of the dbt models", parts)


PICTURES = {"walk.svg": walk, "sharing.svg": sharing, "tables.svg": tables, "lineage.svg": lineage}


def main() -> int:
    """Write the pictures with `--write`; otherwise report outdated ones."""
    drawn = {IMAGES / name: draw() for name, draw in PICTURES.items()}
    if sys.argv[1:] == ["--write"]:
        for path, svg in drawn.items():
            path.write_text(svg)
        return 0
    stale = [path for path, svg in drawn.items() if not path.exists() or path.read_text() != svg]
    for path in stale:
        print(
            f"docs/images/{path.name} is not what docs/tools/pictures.py draws; run it with --write.",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
