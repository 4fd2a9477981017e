"""Which of the cameras that are seen is meant."""

from __future__ import annotations

from dataclasses import dataclass

from hisir_edge.camera.driver.nodes import SetupError

MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """A camera in a list: what it may be called (serial number first), its model, whether another program has it."""

    names: tuple[str, ...]
    model: str = ""
    held: bool = False

    @property
    def words(self) -> str:
        """Model and serial number."""
        return " ".join(word for word in (self.model, next((name for name in self.names if name), "")) if word)


def chosen(found: list[Seen], name: str, position: int | None = None) -> int:
    """The number of the one that is meant; SetupError where none or several are.

    ``name``: any of its names; a serial number counts before the others. ``position``: for cameras without a name;
    with several that have one it is refused: what is plugged in next may stand before it.
    """
    listed = ", ".join(one.words or f"number {n}" for n, one in enumerate(found[:MOST_LISTED]))
    if name:
        matching = [n for n, one in enumerate(found) if one.names and one.names[0] == name]
        matching = matching or [n for n, one in enumerate(found) if name in one.names]
        if len(matching) == 1:
            return matching[0]
        raise SetupError(
            f"one camera called {name}",
            f"{len(matching)} of that name" if matching else f"{listed or 'none at all'}",
            "correct source.serial; check power, cable and address",
        )
    if not found:
        raise SetupError("a camera", "none found", "check power, cable and the camera's address")
    if position is not None and position >= len(found):
        raise SetupError(f"source.device below {len(found)}", str(position), "choose one of the cameras found")
    serials = [one.names[0] if one.names else "" for one in found]
    told_apart = all(serials) and len(set(serials)) == len(serials)
    if len(found) > 1 and (told_apart or position is None):
        raise SetupError(
            "source.serial, with more than one camera in sight", listed, "set source.serial to the one that is meant"
        )
    return 0 if position is None else position


def in_use(camera: Seen) -> SetupError:
    """For a camera that another program has opened."""
    return SetupError(
        f"{camera.words or 'the camera'} to be free",
        "another program holds it",
        "close that program, or wait until it ends",
    )
