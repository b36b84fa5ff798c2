"""`python -m voiceos_provider.cli`, where no `voiceos` is on the PATH."""

import sys

from voiceos_provider.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
