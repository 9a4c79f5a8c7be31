"""Options and kinds of values that several commands share."""

from __future__ import annotations

import click


def seconds(text: str) -> float:
    """The type of an option that takes a time as in the configuration: 30s, 2h."""
    from devsync.core.quantity import duration

    try:
        return duration(text)
    except ValueError as error:
        raise click.BadParameter(f"'{text}' {error}") from None


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
timeout_option = click.option("--timeout", type=seconds, metavar="T", help="Give up after so long: 30s, 5m.")
