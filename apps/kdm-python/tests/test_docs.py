import ast
import inspect
from pathlib import Path

import kdm

STUBS = Path(kdm.__file__).with_name("__init__.pyi")


def documented():
    """Names and docstrings of the stubs; a class has its constructor's after its own."""
    for node in ast.parse(STUBS.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            members = [member for member in node.body if isinstance(member, ast.FunctionDef)]
            docs = {member.name: ast.get_docstring(member) for member in members}
            parts = [ast.get_docstring(node), docs.pop("__new__", None)]
            yield node.name, "\n\n".join(filter(None, parts))
            for name, text in docs.items():
                if not name.startswith("__"):
                    yield f"{node.name}.{name}", text


def test_help_says_what_the_stubs_say():
    """What `help(kdm)` shows, and a notebook beside a name."""
    seen = 0
    for path, text in documented():
        found = kdm
        for name in path.split("."):
            found = inspect.getattr_static(found, name) if found is not kdm else getattr(kdm, name)
        found = getattr(found, "__func__", found)
        assert text, f"{path} has no docstring in the stubs"
        assert inspect.getdoc(found) == text, path
        seen += 1
    assert seen > 45


def test_signatures_are_told():
    assert "noise=None" in str(inspect.signature(kdm.Student.sample))
    assert "resume=False" in str(inspect.signature(kdm.distill))
