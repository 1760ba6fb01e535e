"""The layout of the package: arrows between rooms point down, no circles, a file is one idea."""

import ast
import graphlib
import re

import pytest

from tests.conformance import inventory

BELOW_MODELS = {"geometry", "learning", "backbones", "ops", "layers"}
BELOW_VERBS = BELOW_MODELS | {"models", "visualization"}

# Which rooms each room may import from. A new room has to be entered here.
ARROWS = {
    "geometry": set(),
    "module_command": set(),
    "folder_walk": set(),
    "learning": set(),
    "backbones": set(),
    "ops": {"geometry"},
    "layers": {"ops", "geometry"},
    "models": BELOW_MODELS,
    "datasets": {"ops", "geometry", "module_command", "folder_walk"},
    "visualization": {"ops", "geometry"},
    "training": BELOW_VERBS,
    "evaluation": BELOW_VERBS,
    "export": BELOW_VERBS | {"module_command", "folder_walk"},
    "interop": BELOW_VERBS,
}


def dotted(path):
    """Returns the module name that a file of the package is imported under."""
    parts = path.relative_to(inventory.ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in sorted(inventory.ROOT.rglob("*.py"))}


def imported(name):
    """Returns the modules of the package that the module `name` imports, lazily or not."""
    path = FILES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                parent = ".".join([*above, parent]) if parent else ".".join(above)
            for alias in node.names:
                inner = f"{parent}.{alias.name}"
                targets.add(inner if inner in FILES else parent)
    return {target for target in targets if target in FILES}


def room(name):
    """Returns the room that a module lies in; '' for the package itself."""
    return [*name.split("."), ""][1]


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"tnet_keras"}))
def test_imports_point_down(name):
    # The package itself is left out: it is the facade that shows every room.
    assert room(name) in ARROWS, "an unknown room"
    reached = {room(target) for target in imported(name)} - {room(name)}
    assert reached <= ARROWS[room(name)]


def test_no_circles():
    graph = {name: imported(name) - {name} for name in FILES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)


def test_the_package_imports_nothing_of_its_repository():
    outside = re.compile(r"^\s*(from|import) (experiments|tests|benchmarks)\b", re.MULTILINE)
    texts = {name: path.read_text(encoding="utf-8") for name, path in FILES.items()}
    assert not [name for name, text in texts.items() if outside.search(text)]


def test_every_folder_is_a_package():
    folders = {path.parent for path in FILES.values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("folder", ["tnet_keras", "experiments", "tests", "benchmarks"])
def test_a_file_is_one_idea(folder, repository):
    for path in (repository / folder).rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 500, f"{path.relative_to(repository)}: {lines} lines"
        assert not re.fullmatch(r"(utils?|helpers?|common|misc)", path.stem), path.name
