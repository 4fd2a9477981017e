"""One feature of a camera at a time: read, set and read back, with words for what it does not take.

Works on any node map of genapi, and on what shows another library's features in that way.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

RW, READABLE = 4, (3, 4)
"""EAccessMode of GenApi: readable and writable; readable."""
SAME_SHARE = 0.02
"""Numbers that a camera rounds by so much are taken."""
MOST_LISTED = 12


class SetupError(Exception):
    """The camera cannot be used; carries (expected, received, fix)."""


def node_of(node_map: Any, name: str) -> Any | None:
    """The feature; None where the camera has none of that name."""
    try:
        return getattr(node_map, name)
    except Exception:  # genapi raises a type per reason
        return None


def is_writable(node_map: Any, name: str) -> bool:
    """Whether a feature is there and can be set now."""
    try:
        return bool(node_of(node_map, name).get_access_mode() == RW)  # type: ignore[union-attr]
    except Exception:  # a camera without it
        return False


def symbolics(node_map: Any, name: str) -> tuple[str, ...]:
    """The values that an enumeration can take now."""
    try:
        return tuple(getattr(node_map, name).symbolics)
    except Exception:  # a camera without it
        return ()


def text_of(node_map: Any, name: str) -> str | None:
    """A feature's value as text; None where it is not there or cannot be read now."""
    try:
        node = getattr(node_map, name)
        return str(node.to_string()) if node.get_access_mode() in READABLE else None
    except Exception:  # a camera without it
        return None


def value_of(node_map: Any, name: str) -> Any | None:
    """A feature's value; None where it is not there or cannot be read now."""
    try:
        return getattr(node_map, name).value
    except Exception:  # a camera without it
        return None


ENDLESS = 1e300


def set_feature(node_map: Any, name: str, value: Any, key: str = "", wanted: Any = None) -> None:
    """Set and read back; SetupError where the camera has no such feature, refuses, or has another value afterwards.

    What cannot be set and has the value already is as it should be. ``key``: of line.toml, named in the message.
    ``wanted``: what was asked for, where ``value`` is that in the feature's own kind.
    """
    wanted = value if wanted is None else wanted
    node = node_of(node_map, name)
    asked = f"source.{key} ({name})" if key else name
    if node is None:
        raise SetupError(f"a camera with {name}", "one that has no such feature", f"take {asked} out")
    if not is_writable(node_map, name) and value_of(node_map, name) == value:
        return
    if not is_writable(node_map, name):  # said before it is written: not every library looks
        raise SetupError(
            f"the camera to let {name} be set",
            "it is locked, or not there as the camera is set now",
            f"see what decides over it in the camera's own tool, or take {asked} out",
        )
    limits = limits_of(node)
    try:
        check_limits(limits, value)
        node.value = value
        back = node.value
    except Exception as error:
        raise SetupError(
            f"the camera to take {name} = {value}", first_line(error), f"set {asked} to {nearest(limits, value)}"
        ) from error
    if not same_value(wanted, back):
        raise SetupError(
            f"{name} = {value}", f"{back} after setting it", f"set {asked} to {nearest(limits, value)}, or {back}"
        )


def set_if_there(node_map: Any, name: str, value: Any) -> None:
    """As ``set_feature``, of a feature that can be set now; nothing where it is not."""
    if is_writable(node_map, name):
        set_feature(node_map, name, value)


def same_value(wanted: Any, back: Any) -> bool:
    """Whether a value that was read is the one that was set; numbers may be rounded by the camera."""
    if isinstance(wanted, float):
        return bool(abs(back - wanted) <= SAME_SHARE * abs(wanted))
    return bool(back == wanted)


def limits_of(node: Any) -> dict[str, Any]:
    """``min``, ``max`` and ``inc`` of a number, ``symbolics`` of an enumeration, as far as the camera tells them."""
    found: dict[str, Any] = {}
    for part in ("min", "max", "inc", "symbolics"):
        with suppress(Exception):  # not of this kind of feature, or without a step
            found[part] = getattr(node, part)
    return {part: value for part, value in found.items() if value is not None and _says_something(value)}


def _says_something(limit: Any) -> bool:
    """Not one without end, or a step of next to nothing, which is how some libraries say that they know none."""
    return not isinstance(limit, float) or limit == 0 or 1 / ENDLESS < abs(limit) < ENDLESS


def check_limits(limits: dict[str, Any], value: Any) -> None:
    """ValueError for a number beyond what the feature takes; Aravis writes it, unless it is asked to look."""
    low, high = limits.get("min"), limits.get("max")
    if low is None or high is None or low > high or isinstance(value, bool) or not isinstance(value, int | float):
        return  # limits that exclude all are none: seen while a camera is set to more than its sensor has
    if not low <= value <= high:
        raise ValueError(f"{_number(value)} is beyond {_number(low)} to {_number(high)}")


def nearest(limits: dict[str, Any], value: Any) -> str:
    """Words for the nearest value that a feature takes."""
    if listed := [str(one) for one in limits.get("symbolics", ())]:
        more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
        return f"one of {', '.join(listed[:MOST_LISTED])}{more}"
    low, high, step = limits.get("min"), limits.get("max"), limits.get("inc")
    if low is None or high is None or low > high or isinstance(value, str | bool):
        return "a value that the camera supports"
    kept = min(max(value, low), high)
    if step:
        kept = min(low + round((kept - low) / step) * step, low + (high - low) // step * step)
    steps = f" in steps of {_number(step)}" if step and step != 1 else ""
    return f"{_number(kept)} (it takes {_number(low)} to {_number(high)}{steps})"


def _number(value: Any) -> str:
    """A whole number as one, as line.toml wants it."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else f"{value:.6g}"


def first_line(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    lines = str(getattr(error, "message", "") or error).splitlines()
    return lines[0] if lines else type(error).__name__
