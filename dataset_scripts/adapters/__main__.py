"""`python -m dataset_scripts.adapters`."""

import sys

from .command import main

sys.exit(main())
