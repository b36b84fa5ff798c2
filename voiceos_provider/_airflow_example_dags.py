"""Location of the example DAGs, where Airflow looks for those of this distribution.

With `[core] load_examples` on, which is the default, Airflow 3.3 imports every provider under its distribution's
name and looks for `example_dags/` in there. For `airflow-provider-voiceos` that name is `airflow_provider_voiceos`,
and if it cannot be imported, the DAG processor logs an error with a traceback. An installation therefore contains
this file as `airflow_provider_voiceos/__init__.py`; pyproject.toml puts it there.
"""

from pathlib import Path

import voiceos_provider

_INSTALLED = Path(__file__).parent
_CHECKOUT = Path(voiceos_provider.__file__).parents[1]

# A wheel carries the DAGs beside this file; an editable install leaves them in the checkout.
__path__ = [str(_INSTALLED if (_INSTALLED / "example_dags").is_dir() else _CHECKOUT)]
