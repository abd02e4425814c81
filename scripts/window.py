"""Draw the states of the window: `make screenshots`, which brings a virtual screen; look at each picture.

`python scripts/window.py OUT` draws every state at three sizes and in both themes, each in a process of its own, and
the few pictures of the guide into docs/. All of it from simulated heads (nilearn).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {"small": (1366, 768, 1), "middle": (1600, 1000, 1), "dense": (1920, 1080, 2)}
STATES = ("empty", "wrong", "general", "loaded", "settings", "running", "paused", "failed", "done", "runs", "model")
STATES += ("translated", "mapped", "compared")
GUIDE = {"loaded": "window-data.png", "done": "window-train.png", "translated": "window.png"}  # middle, dark
GUIDE |= {"mapped": "window-maps.png"}
DOCS = Path(__file__).resolve().parents[1] / "docs"


def main(out: Path) -> None:
    """All states at all sizes; one process for each size and theme, as the screen and its scale are a process's."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="napari-t1t2-") as home:
        for size, (width, height, scale) in SIZES.items():
            for theme in ("dark", "light"):
                screen = ("xvfb-run", "-a", "-s", f"-screen 0 {width}x{height}x24")
                own = {"QT_SCALE_FACTOR": str(scale), "NAPARI_CONFIG": f"{home}/napari.yaml"}
                command = (*screen, sys.executable, __file__, str(out), size, theme, home)
                subprocess.run(command, check=True, env=os.environ | own)


def draw(out: Path, size: str, theme: str, home: Path) -> None:
    """One window through all states."""
    import napari
    from napari.settings import get_settings
    from qtpy.QtCore import QSettings

    from napari_t1t2.widgets._memory import Memory

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())
    Memory.home = property(lambda _: home / f"trainings-{size}-{theme}")  # type: ignore[assignment, method-assign]
    get_settings().appearance.theme = theme
    width, height, scale = SIZES[size]
    viewer = napari.Viewer()
    viewer.window.resize(width // scale, height // scale)
    dock, cockpit = viewer.window.add_plugin_dock_widget("napari-t1t2", "T1 / T2 contrasts")
    for state in STATES:
        globals()[state](viewer, cockpit)
        live(0.5)
        path = out / f"{state}-{size}-{theme}.png"
        viewer.screenshot(str(path), canvas_only=False, flash=False)
        got = viewer.window._qt_window.size()
        page = page_of(cockpit)
        if state == "compared":
            planes = page.planes_window
            planes.grab().save(str(out / f"planes-{size}-{theme}.png"))
            planes.close()
        print(path.name, f"window {got.width()}x{got.height()}, dock {dock.width()}x{dock.height()}", *cut_off(page))
        if (size, theme) == ("middle", "dark") and state in GUIDE:
            save_small(path, DOCS / GUIDE[state])
            if state == "done":
                animate(cockpit.page(1)._run, DOCS / "training.gif")
    for page in cockpit._pages.values():
        if page.running:
            page.stop.click()
            page.wait()
    viewer.close()


def page_of(cockpit: Any) -> Any:
    """The step that is open."""
    return cockpit.page(cockpit.currentIndex())


def cut_off(page: Any) -> list[str]:
    """The buttons of a page that are not wholly on the screen."""
    from qtpy.QtWidgets import QPushButton

    window = page.window().rect()
    buttons = [b for b in (page.go, page.stop, page.next) if b.isVisible()]
    assert all(isinstance(button, QPushButton) for button in buttons)
    return [
        f"CUT OFF: {b.text()}"
        for b in buttons
        if not window.contains(b.rect().translated(b.mapTo(page.window(), b.rect().topLeft())))
        or b.visibleRegion().boundingRect().size() != b.size()
        or b.fontMetrics().horizontalAdvance(b.text()) > b.width()
    ]


def empty(viewer: Any, cockpit: Any) -> None:
    """Nothing was done yet."""


def wrong(viewer: Any, cockpit: Any) -> None:
    """A folder that is not there, a size that the networks cannot take."""
    load = cockpit.page(0)
    load.form["t1_folder"].value = Path("/data/nowhere")
    load.form["size"].value = 100


def general(viewer: Any, cockpit: Any) -> None:
    """Nothing was trained yet: Translate proposes the general model."""
    cockpit.setCurrentIndex(2)


def loaded(viewer: Any, cockpit: Any) -> None:
    """The sample heads are loaded."""
    cockpit.setCurrentIndex(0)
    load = cockpit.page(0)
    load.reset.click()
    load.more.unfold(False)
    load.sample.click()
    load.wait()


def settings(viewer: Any, cockpit: Any) -> None:
    """The next step, filled in."""
    cockpit.page(0).next.click()


def running(viewer: Any, cockpit: Any) -> None:
    """Some steps are trained."""
    train = cockpit.page(1)
    train.form["steps"].value, train.form["minutes"].value = 1_000_000, 0
    train.form["preview_every"].value = 20
    train.go.click()
    until(lambda: train._step >= 100 or not train.running)
    assert train.running, train.status.text()


def paused(viewer: Any, cockpit: Any) -> None:
    """It stands still."""
    cockpit.page(1).pause.click()


def failed(viewer: Any, cockpit: Any) -> None:
    """Something has gone wrong; the training is stopped before, and kept."""
    train = cockpit.page(1)
    train.stop.click()
    train.wait()
    folder = train.form["t1_folder"].value
    train.form["t1_folder"].value = train.form["run_folder"].value / "previews"
    train.form["t1_series"].value = "3 t1_se"
    train.go.click()
    train.wait()
    train.form["t1_series"].value = ""
    train.form["t1_folder"].value = folder


def done(viewer: Any, cockpit: Any) -> None:
    """A training has ended by itself."""
    train = cockpit.page(1)
    train.form["steps"].value = 300
    train.go.click()
    train.wait()


def runs(viewer: Any, cockpit: Any) -> None:
    """The list of what was trained."""
    cockpit.page(1).earlier.unfold()
    live(0.8)
    from qtpy.QtWidgets import QScrollArea

    area = cockpit.page(1).findChild(QScrollArea)
    area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())


def model(viewer: Any, cockpit: Any) -> None:
    """Before the model is used: what it is."""
    cockpit.page(1).next.click()
    cockpit.page(2).card.more.unfold()


def translated(viewer: Any, cockpit: Any) -> None:
    """A whole head, and the synthetic layer over it."""
    cockpit.page(2).card.more.unfold(False)
    viewer.layers.clear()
    viewer.open_sample("napari-t1t2", "heads")
    viewer.layers.selection.active = viewer.layers[0]
    translate = cockpit.page(2)
    translate.go.click()
    translate.wait()
    viewer.layers[1].visible = False
    viewer.dims.set_current_step(0, viewer.layers[0].data.shape[0] * 45 // 100)
    viewer.reset_view()


def mapped(viewer: Any, cockpit: Any) -> None:
    """Where errors are likely, and how large: maps of a model that was calibrated meanwhile."""
    from napari_t1t2.sample import write_heads

    translate = cockpit.page(2)
    run = translate.form["model"].value.parent
    heads = write_heads(run.parent / "pairs")
    pairs = (str(heads.held_out_t1), str(heads.held_out_t2))
    subprocess.run((sys.executable, "-m", "napari_t1t2", "calibrate", str(run), *pairs), check=True)
    translate.form["uncertainty"].value = translate.form["interval"].value = True
    viewer.layers.remove(viewer.layers[-1])
    translate.go.click()
    translate.wait()
    viewer.reset_view()


def compared(viewer: Any, cockpit: Any) -> None:
    """A curtain between both, the scores, and the three planes."""
    cockpit.page(2).next.click()
    compare = page_of(cockpit)
    compare.go.click()
    compare.wait()
    compare.form["view"].value = "curtain"
    for layer in list(viewer.layers):
        layer.visible = layer == compare.view.layer
    compare.planes.click()
    compare.planes_window.resize(viewer.window._qt_window.size() * 0.8)


def until(done: Callable[[], bool]) -> None:
    """Let the window live until something has happened, however long a busy machine takes for it."""
    while not done():
        live(0.05)


def live(seconds: float) -> None:
    """Let the window live for a while, as `napari.run` does."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


def animate(run: Path, to: Path) -> None:
    """The upper row of each preview of a run, one after the other: T1, the synthetic T2, T1 again."""
    from PIL import Image, ImageDraw

    frames = []
    for path in sorted((run / "previews").glob("*.png")):
        with Image.open(path) as both:
            frame = both.convert("L").crop((0, 0, both.width, both.height // 2))
        frame = frame.point([0 if grey < 24 else grey for grey in range(256)])  # noise in air takes most of the bytes
        ImageDraw.Draw(frame).text((4, 2), f"step {int(path.stem[5:])}", fill=255)
        frames.append(frame.quantize(24, dither=Image.Dither.NONE))
    frames[0].save(to, save_all=True, append_images=frames[1:], duration=[250] * (len(frames) - 1) + [2500], loop=0)


def save_small(path: Path, to: Path) -> None:
    """The picture for the guide: few colours, few bytes."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((1200, 750))
    pixels = np.asarray(small).reshape(-1, 3)[::4]
    vivid = pixels[np.ptp(pixels.astype(int), axis=1) > 40]  # of thin curves, which would become grey: as many of each
    palette = Image.fromarray(np.stack([pixels, np.resize(vivid, pixels.shape)])).quantize(192)
    small.quantize(palette=palette, dither=Image.Dither.NONE).save(to, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        draw(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
