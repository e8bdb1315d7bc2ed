"""3D Slicer's module MedSeg: glue between Slicer and `MedSegLib`, which is imported when the module is first opened, so
that Slicer starts no slower."""

from __future__ import annotations

from typing import Any

from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

import slicer

HELP = """
Segments volumes with medseg models while Slicer stays free for other work: in an environment of its own on this
computer, or at a service. Nothing is installed into Slicer's Python, and nothing is sent anywhere unless you choose a
service. The guide is docs/slicer.md in medseg's own folder.
"""


class MedSeg(ScriptedLoadableModule):
    """What Slicer asks of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "MedSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The medseg authors"]
        parent.helpText = HELP
        parent.acknowledgementText = ""


class MedSegWidget(ScriptedLoadableModuleWidget):
    """The module's panel in Slicer's window."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.panel: Any = None

    def setup(self) -> None:
        """Build the panel; Slicer calls it once, when the module is first opened."""
        import qt

        from MedSegLib.panel.whole import Panel

        super().setup()
        self.logic = MedSegLogic()
        self.panel = Panel(self.layout, qt.QSettings())

    def cleanup(self) -> None:
        """End what runs: Slicer closes, or the module is loaded anew."""
        if self.panel is not None:
            self.panel.close()
            self.panel = None


class MedSegLogic(ScriptedLoadableModuleLogic):
    """For scripts that segment without the panel."""

    def program(self) -> tuple[str, ...]:
        """The words that start medseg, from the environment that the panel was last given; none where there is none."""
        import qt

        from MedSegLib import environment, settings
        from MedSegLib.work import DONE

        folder = settings.read(qt.QSettings()).environment
        outcome = wait(environment.existing(folder)) if folder else None
        return tuple(outcome.facts["program"]) if outcome and outcome.state == DONE else ()


def wait(run: Any, seconds: float = 120.0) -> Any:
    """Its outcome; Slicer's window goes on meanwhile.

    Raises:
        TimeoutError: it did not end; it is cancelled.
    """
    import time

    from MedSegLib.work import Outcome

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in run.poll():
            if isinstance(event, Outcome):
                return event
        slicer.app.processEvents()
        time.sleep(0.02)
    run.cancel()
    raise TimeoutError(f"It did not end within {seconds:g} s.")


class MedSegTest(ScriptedLoadableModuleTest):
    """The self-test that users run inside Slicer: Reload and Test, in developer mode."""

    def runTest(self) -> None:  # Slicer's own name
        """Slicer calls it."""
        self.setUp()
        self.test_phantom()

    def setUp(self) -> None:  # Slicer's own name
        slicer.mrmlScene.Clear()
