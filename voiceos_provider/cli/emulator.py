"""Command `voiceos emulator`."""

from __future__ import annotations

import click


@click.command(
    short_help="Serve the API on this machine, with invented conversations.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(*, arguments: tuple[str, ...]) -> int:
    """Serve the API on this machine; its options are those of `python -m voiceos_provider.emulator`."""
    from voiceos_provider.emulator.__main__ import main

    return main(arguments, prog="voiceos emulator")
