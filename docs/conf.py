"""Configuration of the documentation site; `make docs` builds it."""

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
# The parameters of BaseOperator are documented by Airflow.
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_show_copyright = False
html_theme = "furo"
html_title = "VoiceOS for Airflow"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
