"""The one door for imports that not everybody has installed; its error names the pip line."""

from __future__ import annotations

import importlib
from types import ModuleType

from medseg.refusal import Refusal


def need(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or refuse with the pip line that brings it.

    Args:
        module: dotted import name.
        extra: medseg's extra that installs it.
        purpose: what the user wanted, for the message ("write TensorBoard logs").

    Raises:
        Refusal: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Refusal(
            module,
            found=f"no package '{error.name}' in this environment",
            needed=f"it to {purpose}",
            remedy=f"pip install 'medseg[{extra}]'",
        ) from error
