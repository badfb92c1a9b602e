# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events, true beside predicted clusters: an interactive window, or pictures in a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pcperc.datasets import CalorimeterHits
from pcperc.engine.config import ConfigError
from pcperc.engine.messages import say, say_pictures
from pcperc.engine.progress import ProgressDisplay
from pcperc.geometry import HitClusters
from pcperc.visualization import open3d_problem, save_png
from pcperc.visualization.event_colors import COLORINGS
from pcperc.visualization.event_display import draw_event, render_event
from pcperc.visualization.event_frame import EventFrame
from pcperc.visualization.event_viewer import HELP, EventViewer

Predict = Callable[[int, dict], HitClusters | None]


class EventFrames(Sequence):
    """The frames of some events of a data set, each made when it is asked for.

    Args:
        dataset: of events. indices: which, in which order. predict: from index and sample to clusters, or None.
        simulated: the pictures say so.
        trained_on_simulated: of which indices they say that the network of the predictions saw simulated data.
    """

    def __init__(
        self,
        dataset: CalorimeterHits,
        indices: Sequence[int],
        predict: Predict,
        *,
        simulated: bool,
        trained_on_simulated: Callable[[int], bool] = lambda index: False,
    ) -> None:
        self.dataset, self.indices, self.predict, self.simulated = dataset, list(indices), predict, simulated
        self.trained_on_simulated = trained_on_simulated

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> EventFrame:
        index = self.indices[position]
        sample = self.dataset.read_sample(index)
        found = self.predict(index, sample)
        trained = self.trained_on_simulated(index)
        return EventFrame.from_sample(sample, predictions=found, simulated=self.simulated, trained_on_simulated=trained)


def show_events(frames: EventFrames, save: Path | None, color_by: str | None) -> list[Path]:
    """Write two pictures of each event into ``save``, or open a window.

    Returns:
        The pictures that were saved.
    Raises:
        ConfigError: another ``color_by`` than "cluster" and "class". SceneError: there is no display and no ``save``.
    """
    color_by = color_by or COLORINGS[0]
    if color_by not in COLORINGS:
        raise ConfigError(f"--color-by: must be one of {', '.join(COLORINGS)} for events, got '{color_by}'")
    if save is None:
        viewer = EventViewer(frames, color_by=color_by, report=say)
        say(HELP)
        viewer.run()
        return []
    problem = open3d_problem()
    if problem:
        say(f"{problem}; the other pictures are drawn")
    saved = []
    with ProgressDisplay("drawing", len(frames)) as display:
        for position, index in enumerate(frames.indices):
            frame = frames[position]
            stem = f"{index:04d}_{frame.file_name}"
            by = "" if color_by == COLORINGS[0] else f"_{color_by}"  # so that one does not replace the other
            saved.append(save_png(save / f"{stem}_event{by}.png", draw_event(frame, color_by=color_by)))
            if problem is None:
                saved.append(save_png(save / f"{stem}_scene{by}.png", render_event(frame, color_by=color_by)))
            display.update(position + 1)
    say_pictures(len(saved), save, shown=len(frames), of=len(frames.dataset), unit="events")
    return saved
