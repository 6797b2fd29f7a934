"""python -m pihc_zoo.cli, as ``pihc``."""

import sys

from .console import main

sys.exit(main())
