"""Docstrings of dataclass fields, for command-line help, API schemas and the studio."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from itertools import pairwise


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass and its bases, joined to one line, by field name."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        tree = classes_in(base.__module__).get(base.__name__)
        body = tree.body if tree else []  # a class that `dataclasses.make_dataclass` made has no source
        for field, doc in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
                docs[field.target.id] = " ".join(str(ast.literal_eval(doc.value)).split())
    return docs


@functools.cache
def classes_in(module: str) -> dict[str, ast.ClassDef]:
    """Return the classes that a module defines, by name. `inspect.getsource` of each would parse the module again."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
