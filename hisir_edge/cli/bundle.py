"""``hisir-edge bundle``: look at bundles, verify them, compare two."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.errors import InputError

bundle_app = typer.Typer(help="Look at bundles: show, verify, diff.", no_args_is_help=True)

VERIFY_ROUNDS = 3
Folder = Annotated[Path, typer.Argument(help="A bundle.")]


@bundle_app.command()
def show(
    bundle: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as it is.")] = False,
    nodes: Annotated[bool, typer.Option("--nodes", help="The names of the network's nodes, for recipes.")] = False,
) -> None:
    """What a bundle is: product, engine, thresholds, what the acceptance gate saw. Nothing is verified."""
    from hisir_edge.bundle.files import MODEL
    from hisir_edge.bundle.load import manifest_from_folder
    from hisir_edge.engine.facts import lines_of_manifest

    manifest = manifest_from_folder(bundle)
    if nodes:
        for name in _node_names(bundle / MODEL):
            print(name)
    elif as_json:
        print(manifest.model_dump_json(indent=2))
    else:
        print("\n".join(lines_of_manifest(manifest)))


def _node_names(model: Path) -> list[str]:
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            expected="the training packages for --nodes",
            received=str(error),
            fix="in the checkout on the engineering PC: pip install -e '.[train]'",
        ) from error
    return [f"{node.name}  ({node.op_type})" for node in onnx.load(str(model)).graph.node if node.name]


@bundle_app.command()
def verify(
    bundle: Folder,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The draw of planted defects; default: another one each time.")
    ] = None,
) -> None:
    """Check every file against the manifest, load the engine here, run the self-test and a fresh draw of defects."""
    from hisir_edge.backends import inspector_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.inspection.selftest import check_draw, check_first_look, self_test

    loaded = load_bundle(bundle)
    print(f"{len(loaded.manifest.files)} files as the manifest says")
    inspector = inspector_from_bundle(loaded, threads)
    self_test(inspector)
    print(f"self-test: {loaded.manifest.self_test.image} passes, the manifest's planted defects are found")
    chosen = secrets.randbelow(10**9) if seed is None else seed
    draw = check_draw(inspector, chosen, VERIFY_ROUNDS)
    print(f"fresh draw (--seed {chosen}): {sum(draw.found.values())} of {draw.total} planted defects found")
    print(f"  by class: {draw.words()}")
    share = check_first_look(inspector)
    if share is not None:
        print(f"first look: its own boards are judged as without it; {share:.0%} of a good one's tiles go on")
    print(f"{bundle} is whole and judges here as it did when it was built")


@bundle_app.command()
def diff(
    first: Folder,
    second: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: per key both values.")] = False,
) -> None:
    """What two bundles differ in. Exit code 0: in nothing, 1: in what is printed."""
    from hisir_edge.bundle.load import manifest_from_folder
    from hisir_edge.engine.facts import differences

    found = differences(manifest_from_folder(first), manifest_from_folder(second))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for key, (a, b) in found.items():
            print(f"{key}: {a} -> {b}")
    raise typer.Exit(1 if found else 0)
