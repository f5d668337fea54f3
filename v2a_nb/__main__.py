"""``python -m v2a_nb`` is the command ``v2a-nb``."""

from v2a_nb.cli import main

raise SystemExit(main())
