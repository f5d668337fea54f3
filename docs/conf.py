"""Settings of the documentation site; ``make docs`` builds it. The pages are the documents where they stand, and
executed notebooks. What is put into them is in ``pages.py``."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))

project = "v2a_nb"
author = "the authors of v2a_nb"
release = _PROJECT["project"]["version"]
root_doc = "README"
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "data/README.md", "benchmarks/README.md"),
    *("notebooks/README.md", "notebooks/*.ipynb"),
]
exclude_patterns = [".*", "artifacts", "build", "demo", "dist", "notebooks/py", "runs", "tests", "v2a_nb"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# notebooks come executed; nothing runs here, and no page asks for a widget manager on the network
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "v2a_nb"
# plotly's script is the one that the package came with; only pages with a figure of plotly load it
_PLOTLY = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"
html_static_path = ["site.css", "site.js", str(_PLOTLY)]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
templates_path = []

# where the repository would be, until pyproject.toml names it
linkcheck_ignore = [f"https?://.*{_PROJECT['tool']['v2a-nb']['repository']}.*"]
