"""What stands in for pip where a page is run: is there such an extra, and such a file of requirements?"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def main() -> str | None:
    """An error, if somebody would be told to install what there is not."""
    command, *words = sys.argv[1:]
    if command != "install":
        return f"pip {command} is not known here."
    asked = " ".join(words)
    found = re.findall(rf"{PROJECT['name']}(?:\[([\w,]+)\])?", asked)
    if not found:
        return f"pip is not asked for {PROJECT['name']}: {asked}"
    extras = {extra for some in found for extra in some.split(",") if extra}
    unknown = extras - PROJECT["optional-dependencies"].keys()
    return f"There is no extra {', '.join(sorted(unknown))}." if unknown else None


if __name__ == "__main__":
    sys.exit(main())
