"""Is the connection well: the API, the token, the clock, the page size, the shape of what it sends?"""

from __future__ import annotations

import click

from voiceos_provider.cli.connecting import Access, api_options, quiet_log
from voiceos_provider.cli.exits import CONTRACT, DONE, exit_code
from voiceos_provider.cli.printing import as_json, console, say_json, verbose

_MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "failed": "[red]FAILED[/red]",
          "unknown": "[dim]unknown[/dim]"}  # fmt: skip


@click.command(short_help="Check the API, the token, the clock, the page size and the API's contract.")
@click.option("--strict", is_flag=True, help="Exit with 4 for a warning, too.")
@api_options
@as_json
@verbose
def doctor(*, access: Access, strict: bool, as_json: bool, verbose: bool) -> int:
    """Check everything that an export relies on, with about eight small requests. Prints no conversation."""
    from voiceos_provider.cli.checks import examine

    with quiet_log(verbose=verbose):
        findings = examine(access.settings)
    failed = [finding.error for finding in findings if finding.error is not None]
    warned = any(finding.outcome == "warning" for finding in findings)
    code = exit_code(failed[0]) if failed else CONTRACT if strict and warned else DONE
    if as_json:
        say_json(
            {
                "base_url": access.settings.base_url,
                "exit_code": code,
                "checks": [finding.as_dict() for finding in findings],
            }
        )
        return code

    from rich.table import Table

    out = console()
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        table.add_row(_MARKS[finding.outcome], finding.name, finding.message)
    out.print(f"{access.settings.base_url}\n")
    out.print(table)
    return code
