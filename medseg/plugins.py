"""The folder is the registry: `medseg/<kind>/<name>.py` is the component `<name>` of that kind.

Nothing registers itself and nothing is imported before it is asked for. A name with a dot in it is a module outside
the package, which is imported as it is: a recipe that names one is a program.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import tokenize
from functools import cache
from pathlib import Path
from types import ModuleType

from medseg.refusal import Refusal

PACKAGE = Path(__file__).parent
KINDS = ("models", "datasets", "readers", "outputs", "losses", "metrics", "postprocess")


@cache
def names(kind: str) -> tuple[str, ...]:
    """The components of a kind, sorted; found by listing files, importing nothing."""
    return tuple(sorted(file.stem for file in (PACKAGE / kind).glob("*.py") if not file.stem.startswith("_")))


def nearest(name: str, known: tuple[str, ...]) -> str:
    """`did you mean 'x'?` for a mistyped name, or the whole list when nothing is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'" if close else f"choose one of: {', '.join(known)}"


def find(kind: str, name: str) -> ModuleType:
    """Import the component `name` of `kind`.

    Raises:
        Refusal: no such component; the message names the nearest one.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except (ModuleNotFoundError, TypeError) as error:  # a leading dot is a TypeError
            raise Refusal(
                name, found=str(error), needed="an importable module", remedy="install it or correct the name"
            ) from error
    if name not in names(kind):
        raise Refusal(
            f"{kind}: {name}",
            found=f"'{name}'",
            needed=f"the name of one of medseg's {kind}",
            remedy=nearest(name, names(kind)),
        )
    return importlib.import_module(f"medseg.{kind}.{name}")


def summary(kind: str, name: str) -> str:
    """First line of the component's docstring, read without importing it (or parsing more of it, which takes most of
    the time of `medseg list`)."""
    with (PACKAGE / kind / f"{name}.py").open(encoding="utf-8") as lines:
        for token in tokenize.generate_tokens(lines.readline):
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                text = ast.literal_eval(token.string) if token.type == tokenize.STRING else ""
                return str(text).partition("\n")[0]
    return ""


def description(kind: str, name: str) -> list[str]:
    """The lines of the component's docstring after the first, read without importing it."""
    tree = ast.parse((PACKAGE / kind / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[1:]


def constant(kind: str, name: str, wanted: str) -> object:
    """What the component sets this name to at its top, read without importing it; None where it does not."""
    for node in ast.parse((PACKAGE / kind / f"{name}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == wanted:
            return ast.literal_eval(node.value)
    return None


def options(kind: str, name: str) -> list[str]:
    """One line an option of the component, `name: type = default  what it does`, read without importing it; those that
    its `Options` inherit from settings elsewhere in medseg come first."""
    return _fields(PACKAGE / kind / f"{name}.py", "Options")


def _fields(file: Path, wanted: str) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medseg.")
        for alias in node.names
    }
    lines: list[str] = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != wanted:
            continue
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in modules:
                lines += _fields(PACKAGE.joinpath(*modules[base.id].split(".")[1:]).with_suffix(".py"), base.id)
        for entry, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(entry, ast.AnnAssign):
                default = f" = {ast.unparse(entry.value)}" if entry.value else ""
                lines.append(
                    f"{ast.unparse(entry.target)}: {ast.unparse(entry.annotation)}{default}  {_docstring(after)}"
                )
    return lines


def _docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
