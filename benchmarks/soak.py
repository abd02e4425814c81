"""Does anything grow? Trainings are begun, paused and stopped, and images translated, again and again in one process.

    python benchmarks/soak.py [--cycles 1000] [--translations 500] [--seconds 600]
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/soak.py --window [--children forked]

Tiny networks on generated slices. Prints memory, threads, open files and temporary files after the warm-up and in the
end, and how much each grew: all must stay flat (memory within a few MiB, as allocators round). With --window the dock
of a real napari is driven, its buttons clicked: Train begins, pauses, continues and stops; Translate makes a layer,
which is then removed. Each training has a child of its own, which loads PyTorch for seconds; "forked", it comes from
one process that has done so, for more cycles in the time (Linux). All else of the window is as users have it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from faults import config_of

WARM_UP = 20  # rounds
# Stands in for a training's child: hands its pipes to the process that forks one, and lives as long as that.
HANDED = """import os, socket, sys
with socket.socket(socket.AF_UNIX) as forks:
    forks.connect(sys.argv[1])
    socket.send_fds(forks, [b"0"], [0, 1, 2])
    os.closerange(0, 3)
    forks.recv(1)
"""


def main() -> None:
    """Repeat both and print a Markdown table."""
    parser = ArgumentParser(description="Look for what grows.")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--translations", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=600.0, help="for both, whatever was reached")
    parser.add_argument("--window", action="store_true", help="in napari")
    parser.add_argument("--children", choices=("real", "forked"), default="real", help="of trainings in the window")
    parser.add_argument("--forks", help="serve trainings at this socket")
    args = parser.parse_args()
    if args.forks:
        serve(args.forks)
    if args.window:
        soak_window(args.cycles, args.translations, args.seconds, forked=args.children == "forked")
        return
    import torch

    torch.set_num_threads(1)
    print("| what | rounds | measured | after the warm-up | in the end |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch  # so that what is left in it is ours
        config = config_of(Path(home), "as it comes", "run")
        soak("start, pause, stop", args.cycles, args.seconds / 2, cycle(config), Path(scratch))
        soak("translate", args.translations, args.seconds / 2, translation(config), Path(scratch))


def cycle(config: Any) -> Callable[[int], None]:
    """Begin a run or go on with it, pause it, let another thread end the pause, stop it; every tenth run is new."""
    from napari_t1t2.events import Failed
    from napari_t1t2.runs.session import Session
    from napari_t1t2.runs.training import train

    config = replace(config, steps=1_000_000, report_every=1)

    def once(number: int) -> None:
        one = replace(config, run_folder=config.run_folder.with_name(f"run{number // 10}"))
        resume = (one.run_folder / "checkpoint.pt").exists()
        session: Session[Any] = Session(lambda stop: train(one, stop=stop, resume=resume))
        for told, event in enumerate(session):
            if isinstance(event, Failed):
                raise RuntimeError(event.sentence)
            if told == 2:
                session.pause()
                threading.Timer(0.01, session.go_on).start()
            if told == 4:
                session.stop()

    return once


def translation(config: Any) -> Callable[[int], None]:
    """Load the model, translate a volume and write it."""
    from napari_t1t2.images.volume import Volume
    from napari_t1t2.images.write import write_image
    from napari_t1t2.model.saved import load_model
    from napari_t1t2.synthesis.translation import translate

    run = config.run_folder.with_name("run0")
    y, x = np.mgrid[-1:1:44j, -1:1:36j]
    head = np.where(np.hypot(y / 0.9, x / 0.7) < 1, 100 + 60 * np.sin(7 * x) * np.cos(5 * y), 0).astype(np.float32)

    def once(_: int) -> None:
        volume = Volume(data=np.repeat(head[None], 4, axis=0), name="head", contrast="T1", affine=np.eye(4))
        write_image(run.with_name("made.nii.gz"), translate(volume, load_model(run), to="T2"))

    return once


def soak(what: str, rounds: int, seconds: float, once: Callable[[int], None], scratch: Path) -> None:
    """Repeat, measure after the warm-up and in the end, and print."""
    began, first, number = time.monotonic(), {}, 0
    for number in range(rounds):
        once(number)
        if number == WARM_UP:
            first = measured(scratch)
        if time.monotonic() - began > seconds:
            break
    for name, value in measured(scratch).items():
        print(f"| {what} | {number + 1} | {name} | {first.get(name, float('nan')):.1f} | {value:.1f} |", flush=True)


def soak_window(cycles: int, translations: int, seconds: float, forked: bool) -> None:
    """Click in one napari window, measure now and then, and print a row for each that may grow."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"XDG_CONFIG_HOME": home, "NAPARI_CONFIG": f"{home}/napari.yaml", "TMPDIR": scratch}
        tempfile.tempdir = scratch
        config = config_of(Path(home), "as it comes", "run")
        window = Window(config)
        server = window.fork_trainings(f"{home}/forks") if forked else None
        began, done, table = time.monotonic(), [0, 0], []
        while sum(done) < cycles + translations and time.monotonic() - began < seconds:
            if done[0] < cycles and done[0] * translations <= done[1] * cycles:  # both get on alike
                window.train(done[0])
                done[0] += 1
            else:
                window.translate()
                done[1] += 1
            if sum(done) in (WARM_UP, 2 * WARM_UP) or not sum(done) % 150:
                table.append((*done, window.measured(Path(scratch))))
                print(*done, round(time.monotonic() - began), table[-1][-1], file=sys.stderr, flush=True)
        table.append((*done, window.measured(Path(scratch))))
        window.viewer.close()
        if server:
            server.kill()
    shown = [*table[:2], table[len(table) // 2], table[-1]]
    print("| trainings + translations |", " | ".join(f"{t} + {m}" for t, m, _ in shown), "|\n|---" + "|---" * 4 + "|")
    for name in table[0][-1]:
        print(f"| {name} |", " | ".join(f"{found[name]:.1f}" for *_, found in shown), "|")


class Window:
    """A napari with our dock, and what a user does there."""

    def __init__(self, config: Any) -> None:
        import napari

        self.viewer, self.config = napari.Viewer(), config
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-t1t2", "T1 / T2 contrasts")
        self.trainer, self.translator = self.dock.page(1), self.dock.page(2)
        self.steps, shown = 0, self.trainer.on_event

        def note(event: Any) -> None:
            self.steps += type(event).__name__ == "Progress"
            shown(event)

        self.trainer.on_event = note
        y, x = np.mgrid[-1:1:44j, -1:1:36j]
        head = np.where(np.hypot(y / 0.9, x / 0.7) < 1, 100 + 60 * np.sin(7 * x) * np.cos(5 * y), 0).astype(np.float32)
        self.viewer.add_image(np.repeat(head[None], 4, axis=0), name="head", metadata={"contrast": "T1"})
        self.live()

    def fork_trainings(self, address: str) -> subprocess.Popen[bytes]:
        """Let children of trainings be forks of a process that has imported all."""
        from napari_t1t2.runs import process

        server = subprocess.Popen([sys.executable, __file__, "--forks", address])
        self.until(Path(address).exists)
        process.COMMAND = (sys.executable, "-S", "-E", "-c", HANDED, address)  # type: ignore[assignment]
        return server

    def train(self, number: int) -> None:
        """Begin a run or resume it, pause, continue, stop; every tenth run is new."""
        page, run = self.trainer, self.config.run_folder.with_name(f"run{number // 10}")
        self.dock.setCurrentIndex(1)
        page.form.fill(replace(self.config, run_folder=run, steps=1_000_000, report_every=1))
        page.start_rows["resume"].value = False
        if (run / "checkpoint.pt").exists():
            page.form["run_folder"].value = run
            page.start_rows["resume"].value = True
            page.form["steps"].value = 1_000_000
        self.steps = 0
        page.go.click()
        self.until(lambda: self.steps > 1 or not page.running)
        page.pause.click()
        self.live()
        assert page.state == "paused" and page.pause.text() == "Continue", page.status.text()
        page.pause.click()
        self.steps = 0
        self.until(lambda: self.steps > 0 or not page.running)
        page.stop.click()
        self.until(lambda: not page.running)
        self.live()
        assert page.state == "stopped", page.status.text()

    def translate(self) -> None:
        """Make a layer and remove it. Between two changes of layers something is drawn: napari's OpenGL needs it."""
        page, count = self.translator, len(self.viewer.layers)
        self.dock.setCurrentIndex(2)
        page.form["layer"].value = self.viewer.layers["head"]
        self.live()
        page.go.click()
        self.until(lambda: not page.running)
        self.live()
        assert page.state == "completed" and len(self.viewer.layers) == count + 1, page.status.text()
        self.viewer.layers.remove(self.viewer.layers[-1])
        self.live()

    def until(self, there: Callable[[], bool]) -> None:
        """Let the window live until something is there."""
        ended = time.monotonic() + 300
        while not there():
            assert time.monotonic() < ended, self.trainer.status.text()
            self.live(0.005)

    def live(self, seconds: float = 0.05) -> None:
        """Let the window draw and answer, and delete what is due: `processEvents` alone would not."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(int(1000 * seconds), loop.quit)
        loop.exec()

    def measured(self, scratch: Path) -> dict[str, float]:
        """What may grow in the window and beside it."""
        from qtpy.QtCore import QObject, QTimer
        from qtpy.QtWidgets import QApplication
        from superqt.utils import WorkerBase

        self.live(0.5)
        objects = gc.get_objects()
        children = [child for child in psutil.Process().children(recursive=True) if "--forks" not in child.cmdline()]
        window = self.viewer.window._qt_window
        events = self.viewer.layers.events, self.viewer.dims.events
        return measured(scratch) | {
            "child processes": float(len(children)),
            "their memory, MiB": sum(child.memory_info().rss for child in children) / 2**20,
            "layers": float(len(self.viewer.layers)),
            "Qt objects of the window": float(len(window.findChildren(QObject))),
            "Qt timers": float(len(window.findChildren(QTimer))),
            "windows": float(len(QApplication.topLevelWidgets())),
            "workers": float(sum(isinstance(one, WorkerBase) for one in objects)),
            "callbacks": float(sum(len(emitter.callbacks) for group in events for emitter in group.emitters.values())),
        }


def serve(address: str) -> None:
    """Fork a training for whoever hands over its pipes."""
    import SimpleITK  # noqa: F401  # all that a training imports
    import skimage.filters  # noqa: F401
    import torch
    import torch._dynamo

    import napari_t1t2.runs.training  # noqa: F401
    from napari_t1t2.runs import process

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        while True:
            asker, _ = door.accept()
            _, pipes, _, _ = socket.recv_fds(asker, 1, 3)
            if not os.fork():
                door.close()
                for number, pipe in enumerate(pipes):
                    os.dup2(pipe, number)
                    os.close(pipe)
                process.main()
                os._exit(0)  # and `asker` is closed, which tells
            asker.close()
            for pipe in pipes:
                os.close(pipe)


def measured(scratch: Path) -> dict[str, float]:
    """What may grow."""
    gc.collect()
    process = psutil.Process()
    return {
        "memory, MiB": process.memory_info().rss / 2**20,
        "threads": float(process.num_threads()),
        "open files": float(process.num_fds() if hasattr(process, "num_fds") else process.num_handles()),
        "temporary files": float(sum(1 for _ in scratch.rglob("*"))),
        "objects": float(len(gc.get_objects())),
    }


if __name__ == "__main__":
    main()
