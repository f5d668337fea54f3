"""Where the tests find the project's folders."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "v2a_nb"
FIXTURES = ROOT / "tests" / "fixtures"
SCRIPTS = ROOT / "tests" / "js"
