"""`animate`: a run, frame by frame."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from linreg_jax._files import write_whole
from linreg_jax._plotting.drawing import by_number, names_of
from linreg_jax._plotting.fit_picture import FitPicture
from linreg_jax._plotting.surface import LossFunction, Over, make_surface, walked
from linreg_jax._plotting.surface_plots import (
    MOST_MARKERS,
    draw_path,
    draw_surface,
    mark_minimum,
)
from linreg_jax._training.result import Fit
from linreg_jax.dataset import Dataset
from linreg_jax.losses import mse
from linreg_jax.model import Params


def animate(
    fit: Fit,
    data: Dataset,
    path: str | Path,
    *,
    loss: LossFunction = mse,
    over: Over | None = None,
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
    writer = film_writer(path := Path(path), frames_per_second)
    names = names_of(feature_names, data.X.shape[1])
    surface = make_surface(loss, data, [fit], by_number(over, names))
    points = walked(fit, surface.over)

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_surface(left, surface, names)
    drawn = draw_path(left, points, 0, None)
    star = mark_minimum(left, surface)
    picture = FitPicture(right, data, names, target_name)
    picture.show(fit.state.params)
    title = figure.suptitle("step 0", fontfamily="monospace")
    first_step = int(fit.state.step) - int(fit.num_steps)

    num_marks = min(len(drawn.points) - (drawn.arrow is not None), MOST_MARKERS)

    def show(i: int) -> None:
        for part in (drawn.halo, drawn.line):
            part.set_data(*drawn.points[: i + 1].T)
        drawn.line.set_markevery(list(range(min(i + 1, num_marks))))
        if drawn.arrow is not None:
            drawn.arrow.set_visible(i + 1 >= len(drawn.points))
        last = i == len(points) - 1
        picture.show(fit.state.params if last else _iterate(fit, i), rescale=False)
        taken = int(fit.num_steps) if last else i * record_every
        title.set_text(f"step {first_step + taken}")

    arrows = [] if drawn.arrow is None else [drawn.arrow]
    moving = [drawn.halo, drawn.line, *arrows, star, *picture.moving, title]
    frames = _frames(len(points), num_frames)
    if path.suffix.lower() == ".gif":
        film = _gif(_rendered(figure, moving, frames, show), frames_per_second)
    else:
        frames += [frames[-1]] * frames_per_second
        film = _film(figure, writer, path.suffix.lower(), frames, show)
    write_whole(path, [film])
    return path


def _rendered(
    figure: Figure, moving: Sequence[Artist], frames: Sequence[int], show: Callable[[int], None]
) -> Iterator[Image.Image]:
    """Each frame: what stands still is drawn once, and what moves on top of it."""
    canvas = FigureCanvasAgg(figure)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    figure.set_layout_engine("none")  # which has done its work, and would do it for every frame
    background = canvas.copy_from_bbox(figure.bbox)
    renderer = canvas.get_renderer()
    for frame in frames:
        show(frame)
        canvas.restore_region(background)
        for artist in moving:
            artist.draw(renderer)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _gif(images: Iterable[Image.Image], frames_per_second: int) -> bytes:
    """A GIF that holds its last image for a second; all share the palette of the last."""
    shown = list(images)
    palette = shown[-1].quantize(256, Image.Quantize.FASTOCTREE)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in shown)
    durations = [round(1000 / frames_per_second)] * len(rest) + [1000]
    film = io.BytesIO()
    first.save(film, "gif", save_all=True, append_images=rest, duration=durations, loop=0)
    return film.getvalue()


def _film(
    figure: Figure,
    writer: AbstractMovieWriter,
    suffix: str,
    frames: Sequence[int],
    show: Callable[[int], None],
) -> bytes:
    """The bytes of a film, made in a folder of its own: what is written is whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="linreg_jax-") as folder:
        film = Path(folder) / f"film{suffix}"
        with writer.saving(figure, str(film), dpi=100):
            for frame in frames:
                show(frame)
                writer.grab_frame()
        return film.read_bytes()


def film_writer(path: Path, frames_per_second: int) -> AbstractMovieWriter:
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


def _iterate(fit: Fit, i: int) -> Params:
    """The i-th recorded `Params`."""
    iterate: Params = jax.tree.map(lambda leaf: leaf[i], fit.path)
    return iterate


def _frames(num_points: int, num_frames: int) -> list[int]:
    """Which iterates to show: every one at first, then ever fewer."""
    spread = np.geomspace(1, num_points, num_frames) - 1
    chosen: list[int] = np.unique(np.round(spread).astype(int)).tolist()
    return chosen
