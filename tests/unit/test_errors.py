"""Errors keep their parts on the way out of a worker process."""

from __future__ import annotations

import pickle

import pytest

from hisir_edge import errors


@pytest.mark.parametrize("kind", [errors.InputError, errors.ConfigError, errors.BundleError, errors.CameraError])
def test_errors_survive_pickling(kind):
    back = pickle.loads(pickle.dumps(kind(expected="a", received="b", fix="c")))  # noqa: S301
    assert type(back) is kind
    assert (back.expected, back.received, back.fix) == ("a", "b", "c")
    assert str(back) == "expected a; got b; c"
