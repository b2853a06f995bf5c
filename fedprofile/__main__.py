"""``python -m fedprofile`` is the command line."""

import sys

from fedprofile.cli.main import main

sys.exit(main())
