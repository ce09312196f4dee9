"""The normal form of code: what changes it, and what does not."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import preddiff
from preddiff.storage.normal_form import Stripper, spelled
from preddiff.storage.python_names import bindings

PACKAGE = Path(preddiff.__file__).parent


def _form(text: str) -> str:
    tree = ast.parse(text)
    imports = [part for part in ast.walk(tree) if isinstance(part, ast.Import | ast.ImportFrom)]
    return "\n".join(map(spelled, Stripper(tree, bindings(imports, "toy")).strip(tree.body)))


SAME = {
    "comments, white space, brackets": ("x = 1 + 2", "# Sum.\nx = (1 +\n     2)  # of two\n"),
    "docstring of a module": ('"""One."""\nx = 1', '"""Two."""\nx = 1'),
    "docstring of a function": ('def f():\n    """One."""\n    return 1', "def f():\n    return 1"),
    "docstring of a class": ('class A:\n    """One."""', 'class A:\n    """Two."""'),
    "strings below variables": ('x = 1\n"""One."""', "x = 1"),
    "pass and dots": ("def f():\n    pass", "def f():\n    ..."),
    "raised message": ('raise ValueError(f"{a}: one")', 'raise ValueError("two", b)'),
    "cause": ("raise ValueError from error", 'raise ValueError("no") from None'),
    "message of an assertion": ('assert x, "one"', "assert x"),
    "printed": ("def f():\n    print(1, file=a)\n    return 1", "def f():\n    return 1"),
    "warned": ('import warnings\nwarnings.warn("one")', "import warnings"),
    "warned by another name": (
        'from warnings import warn as w\nw("one")',
        "from warnings import warn as w",
    ),
    "logged": (
        'import logging\nlog = logging.getLogger("x")\nlog.info("one %s", 1)',
        'import logging\nlog = logging.getLogger("x")\nlog.info("two")',
    ),
    "text of a bar": ('bar.set_description("one")', 'bar.set_description("two")'),
    "shown by the module progress": (
        'from toy.progress import say\nsay("one")',
        'from toy.progress import say\nsay("two")',
    ),
    "returned exception": (
        'from toy.errors import Bad\ndef f():\n    return Bad("one")',
        'from toy.errors import Bad\ndef f():\n    return Bad("two", 3)',
    ),
    "description": ('x = Field(1, description="one")', 'x = Field(1, title="two", examples=[2])'),
    "bar": (
        'from toy.progress import progress as show\nx = show(total=3, desc="one", unit="item")',
        "from toy.progress import progress as show\nx = show(total=3)",
    ),
    "types of parameters": ("def f(x: int, *a: str) -> float: ...", "def f(x, *a): ..."),
    "types of variables": ("def f():\n    x: int = 1\n    y: str", "def f():\n    x = 1"),
    "command line": ("def add_arguments(p):\n    p.add('x')", ""),
    "command line of a class": (
        "class A:\n    x = 1\n    @classmethod\n    def add_arguments(cls, p):\n        p.add('x')",
        "class A:\n    x = 1",
    ),
    "text that only a message uses": (
        'def f(a):\n    hint = f": {a}?" if a else ""\n    raise ValueError(f"no{hint}")',
        "def f(a):\n    raise ValueError",
    ),
    "text in several steps": (
        'def f(a):\n    s = ", ".join(a)\n    s += "."\n    t = "on " + s\n    print(t)',
        "def f(a): ...",
    ),
    "caught error that only a message uses": (
        'def g():\n  try:\n    f()\n  except OSError as e:\n    raise ValueError(f"{e}")',
        "def g():\n  try:\n    f()\n  except OSError:\n    raise ValueError",
    ),
    "method that only prints": (
        'class A:\n  def say(self, t):\n    print(t)\n  def f(self):\n    self.say("one")',
        'class A:\n  def say(self, t):\n    print(2)\n  def f(self):\n    self.say("two")',
    ),
    "function that only prints, or not": (
        'def say(t):\n    for i in t:\n        if i:\n            print(i)\ndef f():\n    say("a")',
        'def say(t):\n    for i in t:\n        if i:\n            print(1)\ndef f():\n    say("b")',
    ),
}
DIFFERENT = {
    "operator": ("x = 1 + 2", "x = 1 - 2"),
    "number": ("x = 1", "x = 1.0"),
    "boolean": ("x = 1", "x = True"),
    "text that is a value": ('x = "one"', 'x = "two"'),
    "name": ("def f(a, b):\n    return a", "def f(a, b):\n    return b"),
    "default": ("def f(a=1): ...", "def f(a=2): ..."),
    "default of a setting": ('x = Field(1, description="")', 'x = Field(2, description="")'),
    "bound of a setting": ("x = Field(1, ge=0)", "x = Field(1, ge=1)"),
    "type in a class": ("class A:\n    x: int", "class A:\n    x: float"),
    "decorator": ("@a\ndef f(): ...", "@b\ndef f(): ..."),
    "base": ("class A(B): ...", "class A(C): ..."),
    "kind of error": ("raise ValueError", "raise TypeError"),
    "condition of an error": ('if x < 1: raise ValueError("")', 'if x < 2: raise ValueError("")'),
    "assertion": ("assert x", "assert y"),
    "returned or not": ("def f():\n    return None", "def f():\n    return"),
    "text that is returned": (
        'def f():\n    s = "one"\n    return s',
        'def f():\n    s = "two"\n    return s',
    ),
    "call whose result nothing uses": ("def f(g):\n    x = g()", "def f(g):\n    ..."),
    "global text": (
        'def f():\n    global s\n    s = "one"',
        'def f():\n    global s\n    s = "two"',
    ),
    "text of an outer function": (
        'def f():\n  s = ""\n  def g():\n    nonlocal s\n    s = "one"\n  g()\n  return s',
        'def f():\n  s = ""\n  def g():\n    nonlocal s\n    s = "two"\n  g()\n  return s',
    ),
    "printed and used": ("x = print(1)", "x = print(2)"),
    "method that does nothing, for others to replace": (
        "class A:\n    def step(self, x): ...\n    def f(self):\n        self.step(1)",
        "class A:\n    def step(self, x): ...\n    def f(self):\n        self.step(2)",
    ),
    "method that prints and more": (
        "class A:\n    def s(self, x):\n        print(x)\n        self.x = x\n"
        "    def f(self):\n        self.s(1)",
        "class A:\n    def s(self, x):\n        print(x)\n        self.x = x\n"
        "    def f(self):\n        self.s(2)",
    ),
    "what is done with a warning": (
        'import warnings\nwarnings.simplefilter("error")',
        'import warnings\nwarnings.simplefilter("ignore")',
    ),
    "logarithm": ("import numpy as np\nnp.log(x, out=x)", "import numpy as np\nnp.log(x, out=y)"),
    "method called progress": ("def f(a):\n    a.progress(1)", "def f(a):\n    a.progress(2)"),
    "attribute called errors": ("x = a.errors.add(1)", "x = a.errors.add(2)"),
    "unit that is no bar's": ('x = f(unit="s")', 'x = f(unit="ms")'),
}


@pytest.mark.parametrize("case", SAME)
def test_what_cannot_change_a_number_leaves_the_form_as_it_is(case: str) -> None:
    before, after = SAME[case]
    assert _form(before) == _form(after)


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_can_change_a_number_changes_the_form(case: str) -> None:
    before, after = DIFFERENT[case]
    assert _form(before) != _form(after)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.stem)
def test_the_form_of_a_form_is_the_same(file: Path) -> None:
    tree = ast.parse(file.read_bytes())
    stripper = Stripper(tree, {})
    once = stripper.strip(tree.body)
    forms = [spelled(one) for one in once]
    assert [spelled(one) for one in stripper.strip(once)] == forms


constants = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=2)
)
expressions = st.recursive(
    st.builds(ast.Constant, constants) | st.builds(ast.Name, st.sampled_from("ab")),
    lambda part: (
        st.builds(ast.Tuple, st.lists(part, max_size=2))
        | st.builds(ast.List, st.lists(part, max_size=2))
        | st.builds(ast.UnaryOp, st.sampled_from([ast.Not(), ast.USub()]), part)
        | st.builds(ast.BinOp, part, st.sampled_from([ast.Add(), ast.Sub()]), part)
        | st.builds(ast.Slice, st.none() | part, st.none() | part, st.none() | part)
    ),
    max_leaves=4,
)


@given(expressions, expressions)
def test_spelling_tells_trees_apart_as_python_does(one: ast.expr, other: ast.expr) -> None:
    assert (spelled(one) == spelled(other)) == (ast.dump(one) == ast.dump(other))
