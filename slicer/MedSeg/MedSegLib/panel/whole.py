"""The panel: its sections, one below the other, and the timer that lets them hear what happens in the background."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import qt

import slicer
from MedSegLib import settings
from MedSegLib.apply import Apply, Choices, Result
from MedSegLib.models import Model
from MedSegLib.panel.batch import Batch
from MedSegLib.panel.checked import Checked
from MedSegLib.panel.corrections import Corrections
from MedSegLib.panel.desk import Desk
from MedSegLib.panel.input import Inputs
from MedSegLib.panel.loop import Loop
from MedSegLib.panel.model import Models
from MedSegLib.panel.options import Options
from MedSegLib.panel.place import Place
from MedSegLib.panel.results import Results
from MedSegLib.panel.running import Running
from MedSegLib.trouble import Trouble

EVERY_MS = 100


class Panel:
    """Everything below the module's name in Slicer's window.

    Args:
        layout: what the sections are put into.
        store: where settings are kept: a `qt.QSettings`.
    """

    def __init__(self, layout: Any, store: settings.Store) -> None:
        self.desk = Desk(store)
        self._applies: list[tuple[Any, Apply]] = []
        self._scene_runs: set[int] = set()
        self._stale = False
        self.place = Place(layout, self.desk, self._placed)
        self.models = Models(layout, self.desk, self._chosen)
        self.inputs = Inputs(layout, self.desk, self._changed)
        self.options = Options(layout, self.desk, self._changed)
        self.checked = Checked(layout, self.desk, self._judged)
        self.running = Running(layout, self.desk, self.apply)
        self.results = Results(layout, self.desk)
        self.batch = Batch(layout, self.desk, self.apply_batch)
        loop = Loop(self.desk, self.models.look)
        self.corrections = Corrections(layout, self.desk, loop, self.inputs.volumes)
        layout.addStretch(1)
        scene = slicer.mrmlScene
        self._observed = [
            scene.AddObserver(scene.StartCloseEvent, self._scene_closes),
            scene.AddObserver(scene.EndCloseEvent, self._scene_changed),
            scene.AddObserver(scene.NodeAddedEvent, self._scene_changed),
        ]
        self._timer = qt.QTimer()
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        self.place.look()

    def close(self) -> None:
        """End all that runs, and leave nothing behind: Slicer closes, or the module is loaded anew."""
        self._timer.stop()
        for observer in self._observed:
            slicer.mrmlScene.RemoveObserver(observer)
        self.desk.close()
        for _, apply in self._applies:
            apply.close()

    def apply(self, *_: object) -> None:
        """Segment what is chosen, or say why that cannot be."""
        model, work = self.desk.model, self._work()
        if model is None or work is None or not self.checked.ok:
            return
        try:
            number = work.start(self.inputs.volumes(), model, self._choices())
        except Trouble as trouble:
            self.checked.stop(str(trouble.failure))
            return
        self.desk.asks.forget("check")  # it has done its work, and holds memory
        self._scene_runs.add(number)
        self.running.follow()

    def apply_batch(self) -> None:
        """Segment all that is ticked in the section Batch."""
        model, work, batch = self.desk.model, self._work(), self.batch
        stop = self._missing()
        if model is None or work is None or stop:
            batch.say("stop", stop or "Choose a model.")
            return
        try:
            numbers = self._batch(work, model)
        except Trouble as trouble:
            batch.say("stop", str(trouble.failure))
            return
        batch.say("ok" if numbers else "stop", f"{len(numbers)} wait in the list." if numbers else "Tick some cases.")
        self.running.follow()

    def _batch(self, work: Apply, model: Model) -> tuple[int, ...]:
        batch, choices = self.batch, replace(self._choices(), roi=None)
        if batch.from_database:
            into = batch.into()
            if into is None:
                raise Trouble("The results have nowhere to go.", "Choose a folder at 'Results to'.", "folder")
            return work.batch_dicom(slicer.dicomDatabase, batch.cases(), model, choices, into)
        if len(model.channels) != 1:
            raise Trouble(
                f"{model.name} needs {len(model.channels)} volumes for each case: {', '.join(model.channels)}.",
                "Apply them case by case, or take studies of the DICOM database.",
                "channels",
            )
        numbers = work.batch([{model.channels[0]: node} for node in batch.volumes()], model, choices)
        self._scene_runs.update(numbers)
        return numbers

    def _work(self) -> Apply | None:
        if self.desk.backend is None:
            return None
        if not self._applies or self._applies[-1][0] is not self.desk.backend:
            work = Apply(self.desk.backend, self.desk.runs, slicer.mrmlScene, shown=self._shown)
            self._applies.append((self.desk.backend, work))
        return self._applies[-1][1]

    def _choices(self) -> Choices:
        kept = self.desk.settings
        return Choices(
            quality=kept.quality,
            labels=self.options.kept_labels() or (),
            device=kept.device,
            roi=self.inputs.region(),
            uncertainty=kept.uncertainty,
            table=kept.table,
            harden=kept.harden,
        )

    def _missing(self) -> str:
        """What has to be done before anything can be applied, but for the inputs; empty: nothing."""
        if self.desk.backend is None:
            return "Choose where it runs."
        if self.desk.model is None:
            return "Choose a model."
        if not self.models.accepted:
            return "Read the model's licence and intended use, and tick that you have."
        if self.options.kept_labels() is None:
            return "Tick at least one label to keep."
        return ""

    def _tick(self, *_: object) -> None:
        self.desk.asks.poll()
        self.desk.runs.poll()
        for section in (self.models, self.checked, self.batch, self.corrections):
            section.tick()
        self.running.show()
        if self._stale:
            self._stale = False
            former = self.inputs.volumes()
            self.inputs.guess()
            self.batch.look_at_scene()
            if self.inputs.volumes() != former:
                self._changed()

    def _placed(self) -> None:
        self.models.look()

    def _chosen(self) -> None:
        self.inputs.show()
        self.options.show()
        self.corrections.show()
        self._changed()

    def _changed(self, *_: object) -> None:
        self.checked.show(
            self.inputs.volumes(), self.inputs.region(), self.options.kept_labels() or (), self._missing()
        )

    def _judged(self) -> None:
        self.running.apply.setEnabled(self.checked.ok)

    def _shown(self, result: Result) -> None:
        self.results.show(result)
        if result.segmentation is not None:
            self.corrections.offer(result.segmentation)

    def _scene_changed(self, *_: object) -> None:
        self._stale = True  # looked at by the timer: a scene that is loaded adds hundreds of nodes

    def _scene_closes(self, *_: object) -> None:
        """Results of volumes that go away would land beside another patient's."""
        for number in self._scene_runs:
            self.desk.runs.cancel(number)
        self._scene_runs.clear()
