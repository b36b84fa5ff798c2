"""How is the site built? `make docs`."""

from voiceos_provider import __version__

project = "airflow-provider-voiceos"
author = "The airflow-provider-voiceos authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# BaseOperator's parameters are Airflow's to explain.
autodoc_inherit_docstrings = False

html_show_copyright = False
html_theme = "furo"
html_title = "VoiceOS for Airflow"
