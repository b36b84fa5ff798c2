"""Errors, and whether a retry may help."""

import inspect
import pickle
import re

import pytest

from voiceos_provider import exceptions
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError

CLASSES = {
    name: kind
    for name, kind in vars(exceptions).items()
    if inspect.isclass(kind) and issubclass(kind, VoiceOSError)
}

ERRORS = [
    kind("GET /conversations: 503.", 503, "req_1", 7.0)
    if issubclass(kind, VoiceOSAPIError)
    else kind("path is empty; give a folder.")
    for kind in CLASSES.values()
]


def test_tree_equals_the_one_in_the_docstring() -> None:
    """Each class has the parent and the retryability that are drawn."""
    parents: list[str] = []
    drawn: dict[str, tuple[str | None, bool]] = {}
    for line in (exceptions.__doc__ or "").splitlines():
        if found := re.match(r"^    ([ │├└─]*)(VoiceOS\w+)(.*)$", line):
            depth = len(found[1]) // 4
            del parents[depth:]
            drawn[found[2]] = (parents[-1] if parents else None, found[3].endswith(" retryable"))
            parents.append(found[2])
    assert drawn.keys() == CLASSES.keys()
    for name, (parent, retryable) in drawn.items():
        if parent is not None:
            assert CLASSES[name].__bases__[0] is CLASSES[parent], name
        assert CLASSES[name].retryable is retryable, name


def test_bad_argument_is_also_a_value_error() -> None:
    """`except ValueError` catches it."""
    assert issubclass(exceptions.VoiceOSValueError, ValueError)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_survives_pickling(error: VoiceOSError) -> None:
    """Class, message and attributes are equal."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error) == error.message
    assert vars(again) == vars(error)
    assert again.retryable == error.retryable


def test_api_error_has_status_request_id_and_wait() -> None:
    """They are attributes and not only text."""
    error = exceptions.VoiceOSRateLimitError("GET /conversations: 429.", 429, "req_1", 7.0)
    assert (error.status_code, error.request_id, error.retry_after) == (429, "req_1", 7.0)
    bare = VoiceOSAPIError("no response")
    assert (bare.status_code, bare.request_id, bare.retry_after) == (None, None, None)


def test_error_without_a_message_has_the_name_of_its_class() -> None:
    """The text is never empty."""
    assert str(exceptions.VoiceOSExportError()) == "VoiceOSExportError"
