"""Every public function and class says what it is, what goes in, what comes out, what it raises."""

import ast
import importlib
import inspect
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance import inventory

CLASSES = inventory.public_objects(inspect.isclass)
FUNCTIONS = inventory.public_objects(inspect.isfunction)
EXPORTED = inventory.exported_objects()

# What Keras asks of a class is documented there; `call` is held against its class's docstring.
KERAS_PROTOCOL = {"build", "get_config", "from_config", "call"}
# Parameters that need no words.
SELF_EXPLAINING = {"self", "cls", "training"}
HEADING = re.compile(r"^(Args|Attributes|Call arguments|Returns|Yields|Raises|Example):[ ]*(.*)$")


def new_members(cls):
    """Yields (name, method or property) of what a class has and none of its bases has."""
    for name, value in vars(cls).items():
        inherited = any(name in vars(base) for base in cls.__mro__[1:])
        if not (name.startswith("_") or inherited or name in KERAS_PROTOCOL):
            yield name, getattr(value, "__func__", value)


MEMBERS = {
    f"{owner}.{name}": (cls, value)
    for owner, cls in CLASSES.items()
    for name, value in new_members(cls)
    if isinstance(value, property) or inspect.isfunction(value)
}
METHODS = {name: value for name, (_, value) in MEMBERS.items() if inspect.isfunction(value)}
PROPERTIES = {name: value for name, (_, value) in MEMBERS.items() if isinstance(value, property)}


def shown(table):
    """Returns the names in a table whose function or class, or the class around it, is exported."""
    return {name for name, value in table.items() if any(value is x for x in EXPORTED)} | {
        name for name in table if name in MEMBERS and any(MEMBERS[name][0] is x for x in EXPORTED)
    }


def sections(documented):
    """Splits a docstring at its unindented headings; the summary stands under ''."""
    found, current = {"": []}, ""
    for line in inspect.cleandoc(documented.__doc__ or "").splitlines():
        heading = HEADING.match(line)
        if heading:
            current = heading[1]
            found[current] = [heading[2]]
        else:
            found[current].append(line)
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}


def parameters(function):
    """Returns the names of the parameters that need words."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in SELF_EXPLAINING and parameter.kind is not parameter.VAR_KEYWORD
    ]


def introduces(text, name):
    """Tells whether a line of an Args section introduces a parameter."""
    return re.search(rf"^\s*(?:[\w*`]+, )*[*`]*{name}\b[^:]*:", text, re.MULTILINE)


def own_statements(function):
    """Yields the syntax nodes of a function's body, leaving out functions nested in it."""
    nodes = list(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body)
    while nodes:
        node = nodes.pop()
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield node
            nodes.extend(ast.iter_child_nodes(node))


def gives_value(node):
    """Tells whether a syntax node returns or yields something."""
    return isinstance(node, ast.Return | ast.Yield) and node.value is not None


@pytest.mark.parametrize("name", inventory.module_names())
def test_module(name):
    assert importlib.import_module(name).__doc__, "no docstring"


@pytest.mark.parametrize("name", FUNCTIONS | METHODS)
def test_says_what_it_is_and_takes(name):
    function = (FUNCTIONS | METHODS)[name]
    assert sections(function)[""].strip(), "no docstring"
    silent = [x for x in parameters(function) if not re.search(rf"\b{x}\b", function.__doc__)]
    assert not silent, "parameters that the docstring does not mention"


@pytest.mark.parametrize("name", sorted(shown(FUNCTIONS | METHODS)))
def test_exported_function_is_documented_in_full(name):
    function = (FUNCTIONS | METHODS)[name]
    found = sections(function)
    names = parameters(function)
    assert all(introduces(found.get("Args", ""), x) for x in names), f"Args: {names}"
    body = list(own_statements(function))
    if names and any(gives_value(node) for node in body):
        assert found.keys() & {"Returns", "Yields"}, "what does it return?"
    if any(isinstance(node, ast.Raise) and node.exc is not None for node in body):
        assert "Raises" in found, "what does it raise, and when?"


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    assert PROPERTIES[name].__doc__, "no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    cls = CLASSES[name]
    found = sections(cls)
    assert found[""].strip(), "no docstring"
    if "__init__" in vars(cls):
        described = found.get("Args", "") + "\n" + found.get("Attributes", "")
        silent = [x for x in parameters(cls.__init__) if not introduces(described, x)]
        assert not silent, "not described under Args or Attributes"
    if "call" in vars(cls) and not cls.call.__doc__:
        assert re.search(r"\[[\w.,· ]+\]", cls.__doc__), "what shapes does `call` take and give?"


@pytest.mark.parametrize("name", sorted(shown(inventory.public_objects(inventory.is_layer))))
def test_exported_layer_has_an_example(name):
    assert sections(CLASSES[name]).get("Example"), "no Example:"


@pytest.mark.parametrize(
    "name", [name for name, x in (CLASSES | FUNCTIONS).items() if sections(x).get("Example")]
)
def test_example_runs(name, monkeypatch, tmp_path):
    documented = (CLASSES | FUNCTIONS)[name]
    example = sections(documented)["Example"]
    fenced = re.findall(r"```(?:python)?\n(.*?)```", example, re.DOTALL)
    code = textwrap.dedent("".join(fenced) if fenced else example)
    # An example may use what its own file can, and the usual three names.
    names = {"keras": keras, "np": np, "tf": tf} | vars(
        importlib.import_module(documented.__module__)
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"<example of {name}>", "exec"), names)
    assert code.strip()
