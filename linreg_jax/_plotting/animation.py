"""`animate`: a run, frame by frame."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.figure import Figure

from linreg_jax._files import write_whole
from linreg_jax._plotting.drawing import names_of
from linreg_jax._plotting.fit_picture import FitPicture
from linreg_jax._plotting.surface import make_surface, walked
from linreg_jax._plotting.surface_plots import (
    MOST_MARKERS,
    draw_path,
    draw_surface,
    in_sight,
    mark_minimum,
)
from linreg_jax._training.result import Fit
from linreg_jax.dataset import Dataset
from linreg_jax.losses import mse


def animate(
    fit: Fit,
    data: Dataset,
    path: str | Path,
    *,
    loss: Any = mse,
    over: tuple[int | str, int | str] | None = None,
    feature_names: Sequence[str] | str | None = None,
    target_name: str = "y",
    record_every: int = 1,
    num_frames: int = 60,
    frames_per_second: int = 12,
) -> Path:
    """A film of a run: its path over the loss on the left, the model beside the data on the right.

    Early steps, which are longest, get most of the frames. A GIF is written without other programs,
    an MP4 where ffmpeg is installed. The file appears when it is whole.

    Args:
      fit: result of `fit(..., record_params=True)`.
      data: the `Dataset` it was fitted to, with one target.
      path: the file to write, .gif or .mp4.
      loss: what was minimised.
      over: two parameters, as in `plot_surface`.
      feature_names: d names, with their units.
      target_name: name of the target, with its unit.
      record_every: what was given to `fit`.
      num_frames: at most.
      frames_per_second: how fast.

    Returns:
      The path.

    Raises:
      ValueError: another kind of file, or an MP4 without ffmpeg; and as `plot_surface` says.
      OSError: the file cannot be written.
    """
    path = Path(path)
    writer = film_writer(path, frames_per_second)
    names = names_of(feature_names, data.X.shape[1])
    surface = make_surface(loss, data, [fit], over)
    points = walked(fit, surface.over)

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_surface(left, surface, names)
    halo, line = draw_path(left, points, 0, None)
    mark_minimum(left, surface)
    picture = FitPicture(right, data, names, target_name)
    picture.show(fit.state.params)
    seen = in_sight(left, points)
    first_step = int(fit.state.step) - int(fit.num_steps)

    # Made elsewhere, so that the film is there whole or not at all.
    with tempfile.TemporaryDirectory(prefix="linreg_jax-") as folder:
        film = Path(folder) / f"film{path.suffix.lower()}"
        with writer.saving(figure, str(film), dpi=100):
            for i in _frames(len(points), num_frames, frames_per_second):
                for part in (halo, line):
                    part.set_data(*seen[: i + 1].T)
                line.set_markevery(range(min(i + 1, MOST_MARKERS)))
                last = i == len(points) - 1
                picture.show(fit.state.params if last else _iterate(fit, i), rescale=False)
                taken = int(fit.num_steps) if last else i * record_every
                figure.suptitle(f"step {first_step + taken}", fontfamily="monospace")
                writer.grab_frame()
        write_whole(path, [film.read_bytes()])
    return path


def film_writer(path, frames_per_second):
    """The writer for a kind of file.

    Raises:
      ValueError: another kind of file, or ffmpeg is needed and not there.
    """
    if path.suffix.lower() == ".gif":
        return PillowWriter(fps=frames_per_second)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path}: a film is a .gif or an .mp4 file")
    if shutil.which("ffmpeg") is None:
        raise ValueError(f"{path}: an .mp4 needs the program ffmpeg on the PATH; write a .gif")
    return FFMpegWriter(fps=frames_per_second)


def _iterate(fit, i):
    """The i-th recorded `Params`."""
    return jax.tree.map(lambda leaf: leaf[i], fit.path)


def _frames(num_points, num_frames, frames_per_second):
    """Which iterates to show: every one at first, then ever fewer; the last one for a second."""
    spread = np.geomspace(1, num_points, num_frames) - 1
    chosen = np.unique(np.round(spread).astype(int)).tolist()
    return [*chosen, *[num_points - 1] * frames_per_second]
