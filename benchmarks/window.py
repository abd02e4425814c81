"""Does the window stay alive while a model trains or translates beside it, and how soon is it there? Prints tables.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/window.py [--data FOLDER] [--seconds 60] [--rounds 3]
        [--only start-up training translating] [--translations 200]

A timer of 10 ms runs in the GUI thread of a real napari from the click on Train on, with the loss curve and live
previews; between two of its ticks the window does not answer. "process" is what the widget does, "thread" drives the
same engine from its worker thread. FOLDER holds T1/ and T2/; without it, the sample heads are written (nilearn).
Each row is a process of its own; rounds take turns. Printed are medians of the rounds, and the worst gap of all; in
brackets, without the time in which other programs had the cores (Linux), as on a machine that does nothing else.

Translating: a ball of noise, 64 slices of 256x256, with the default networks and fresh weights. "First" is from the
click to the slice on screen drawn, "slider" from a move of the slider to that slice drawn while the volume is being
made, "plane" the same of coronal and sagittal slices; "computed" is the time for which window and child had a core
until then, all that a machine with nothing else to do would take. Then come many translations of eight slices in one
window, the result removed after each, and the memory of both processes is told (Linux).
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from napari_t1t2.config import PresetName, cores, preset
from napari_t1t2.events import Progress
from napari_t1t2.sample import write_heads

WAYS = ("idle", "thread", "process")
DOCKS = ("T1 / T2 contrasts", "Load T1/T2 folders", "Train", "Translate", "Evaluate")
PARTS = ("start-up", "training", "translating")
TICK = 10  # ms
LOOKED = 12  # slices that the slider goes to


def main() -> None:
    """Run each row in a process, print."""
    parser = ArgumentParser(description="How long the window does not answer while it trains, and how soon it opens.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--preset", choices=("laptop", "notebook", "gpu"), default="laptop")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--translations", type=int, default=200)
    parser.add_argument("--model", type=Path, help="made where it is not given")
    parser.add_argument("--one", help="a way or a dock, measured in this process; prints JSON")
    args = parser.parse_args()
    if args.one in WAYS:
        print(json.dumps(train(args.one, args.data, args.preset, args.seconds)))
        return
    if args.one == "translating":
        print(json.dumps(translate(args.model, args.translations)))
        return
    if args.one:
        print(json.dumps({"seconds": opened(args.one)}))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{date.today()}, commit {commit}, {platform.machine()}, {cores()} CPU cores, {args.rounds} rounds\n")
    if "start-up" in args.only:
        start_up(args.rounds)
    with tempfile.TemporaryDirectory() as name:
        if "training" in args.only:
            if args.data is None:
                write_heads(Path(name) / "sample heads")
            training(args.data or Path(name) / "sample heads", args.preset, args.seconds, args.rounds)
        if "translating" in args.only:
            translating(args.model, Path(name), args.translations)


def start_up(rounds: int) -> None:
    """How soon things are there, each in a cold Python."""
    print("| what, in a new Python | median s | worst s |")
    print("|---|---|---|", flush=True)
    python = (sys.executable, "-c", "pass")
    for what, command in (
        ("Python itself", python),
        ("`import napari_t1t2`, with Python", (sys.executable, "-c", "import napari_t1t2")),
        ("`napari-t1t2 --help`", (sys.executable, "-m", "napari_t1t2", "--help")),
    ):
        row(what, [seconds_of(command) for _ in range(rounds)])
    for dock in DOCKS:
        row(f"first opening of {dock}", [in_a_process("--one", dock)["seconds"] for _ in range(rounds)])
    print()


def training(data: Path, preset_name: str, seconds: float, rounds: int) -> None:
    """Gaps between the ticks, and what was trained meanwhile."""
    print(f"Preset {preset_name}, {data.name}, {seconds:g} s from the click on Train:\n")
    print("| the engine runs in | median gap ms | 99th percentile | worst | steps | steps/s once it trains |")
    print("|---|---|---|---|---|---|", flush=True)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            more = ("--data", str(data), "--preset", preset_name, "--seconds", str(seconds))
            found[way].append(in_a_process("--one", way, *more))
    for way, runs in found.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        gaps = f"{middle['median']:.1f} | {middle['p99']:.0f} ({middle['own p99']:.0f})"
        worst = f"{max(run['worst'] for run in runs):.0f} ({max(run['own worst'] for run in runs):.0f})"
        print(f"| {way} | {gaps} | {worst} | {middle['steps']:.0f} | {middle['rate']:.2f} |")


def translating(model: Path | None, folder: Path, translations: int) -> None:
    """How soon slices are there, gaps between the ticks, and memory."""
    if model is None:
        from memory import make_model  # brings torch, which the window never loads

        model = make_model(folder)
    found = in_a_process("--one", "translating", "--model", str(model), "--translations", str(translations))
    print("\n| translating beside the window | |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.0f} |")


def row(what: str, seconds: list[float]) -> None:
    """Print one line of the first table."""
    print(f"| {what} | {statistics.median(seconds):.3f} | {max(seconds):.3f} |", flush=True)


def seconds_of(command: tuple[str, ...]) -> float:
    """How long a program takes from start to end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def in_a_process(*arguments: str) -> dict[str, float]:
    """What this file prints in a new Python."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def opened(dock: str) -> float:
    """Seconds that the first opening of a dock takes in a running napari."""
    import napari

    viewer = napari.Viewer()
    live(0.5)
    began = time.perf_counter()
    viewer.window.add_plugin_dock_widget("napari-t1t2", dock)
    live(0)
    seconds = time.perf_counter() - began
    viewer.close()
    return seconds


def train(way: str, data: Path, preset_name: PresetName, seconds: float) -> dict[str, float]:
    """Train from the widget and watch the ticks. Gaps are in ms."""
    import napari
    import numpy as np
    from qtpy.QtCore import Qt, QTimer

    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    _, widget = viewer.window.add_plugin_dock_widget("napari-t1t2", "Train")
    if way == "thread":
        import napari_t1t2.widgets.train as module

        module.train_in_process = in_thread  # type: ignore[assignment]
    ticks: list[tuple[float, float]] = []
    arrived: list[tuple[int, float]] = []  # steps at the reports within the time, and when the window saw them

    def note(event: Any) -> None:
        if isinstance(event, Progress) and timer.isActive():
            arrived.append((event.step, time.perf_counter()))
        shown(event)

    shown, widget.on_event = widget.on_event, note
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(lambda: ticks.append((time.perf_counter(), waited())))
    live(1)
    with tempfile.TemporaryDirectory() as run:
        widget.form.fill(preset(preset_name))
        for row, value in (("t1_folder", data / "T1"), ("t2_folder", data / "T2"), ("run_folder", Path(run) / "run")):
            widget.form[row].value = value
        widget.form["minutes"].value = 60
        timer.start(TICK)
        if way != "idle":
            widget.go.click()
        live(seconds)
        timer.stop()
        if widget.running:
            widget.stop.click()
            widget.wait(60)
    viewer.close()
    gaps, waits = 1000 * np.diff(ticks, axis=0).T
    found = {"median": float(np.median(gaps)), "steps": 0.0, "rate": 0.0}
    for own, some in (("", gaps), ("own ", gaps - waits)):
        found |= {f"{own}p99": float(np.percentile(some, 99)), f"{own}worst": float(some.max())}
    if len(arrived) > 1:
        (first, began), (last, ended) = arrived[0], arrived[-1]
        found |= {"steps": last, "rate": (last - first) / (ended - began)}
    return found


def translate(model: Path, translations: int) -> dict[str, float]:
    """Translate from the widget, move the slider meanwhile, watch the ticks; then many times. Times are in ms."""
    import napari
    import numpy as np
    from qtpy.QtCore import Qt, QTimer

    from napari_t1t2.runs.translating import Glimpsed

    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    _, widget = viewer.window.add_plugin_dock_widget("napari-t1t2", "Translate")
    z, y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (64, 256, 256))
    inside = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 0.9
    data = inside * (300 + 100 * np.random.default_rng(0).random(inside.shape, dtype=np.float32))
    source = viewer.add_image(data, name="ball", metadata={"contrast": "T1"})
    viewer.dims.set_current_step(0, 40)
    widget.form["model"].value = model
    live(10)  # until the child has read the model
    ticks: list[tuple[float, float]] = []
    drawn: list[float] = []
    shown = widget.on_event

    def note(event: Any) -> None:
        shown(event)
        if isinstance(event, Glimpsed) and event.at == widget._looking.at:
            viewer.window._qt_viewer.canvas.native.repaint()
            drawn.append(time.perf_counter())

    def look(move: Any) -> tuple[float, float]:
        """Until the slice that a move leads to is drawn; and what window and child have computed until then."""
        count, began = len(drawn), time.perf_counter()
        both = scheduled()[0] + scheduled(widget._child._process.pid)[0]
        move()
        while len(drawn) == count and widget.running and time.perf_counter() - began < 10:
            live(0.001)
        took = 1000 * (drawn[-1] - began) if len(drawn) > count else float("nan")
        own = 1000 * (scheduled()[0] + scheduled(widget._child._process.pid)[0] - both)
        live(0.2)
        return took, own

    widget.on_event = note
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(lambda: ticks.append((time.perf_counter(), waited())))
    timer.start(TICK)
    first = look(widget.go.click)
    slider = [look(partial(viewer.dims.set_current_step, 0, 63 - i)) for i in range(LOOKED)]
    planes = []
    for axis in (1, 2):
        viewer.dims.order = (axis, *(other for other in range(3) if other != axis))
        planes += [look(partial(viewer.dims.set_current_step, axis, 100 + i)) for i in range(LOOKED // 2)]
    viewer.dims.order = (0, 1, 2)
    widget.wait()
    timer.stop()
    gaps, waits = 1000 * np.diff(ticks, axis=0).T
    found = {}
    for name, times in (("first", [first]), ("slider", slider), ("plane", planes)):
        for what, of in (("median", np.nanmedian), ("worst", np.nanmax)):
            took, own = of(np.array(times), axis=0)
            found |= {f"{name}, {what} ms": float(took), f"{name}, {what} ms computed": float(own)}
    for name, some in (("", gaps), (" without what others took", gaps - waits)):
        found |= {f"gap, 99 % ms{name}": float(np.percentile(some, 99)), f"gap, worst ms{name}": float(some.max())}

    viewer.layers.remove(viewer.layers[-1])
    live(0.1)  # napari crashes under software OpenGL where layers go and come in one frame
    few = viewer.add_image(data[28:36], name="few", metadata={"contrast": "T1"})
    live(0.1)
    viewer.layers.remove(source)
    live(0.1)
    for count in range(translations):
        widget.form["layer"].value = few
        widget.go.click()
        widget.wait()
        live(0.02)
        viewer.layers.remove(viewer.layers[-1])
        live(0.02)
        if count in (20, translations // 2, translations - 1):
            for name, process in (("window", "self"), ("child", widget._child._process.pid)):
                found[f"{name}, MiB after {count + 1} translations"] = resident(process)
    viewer.close()
    return found


def resident(process: int | str) -> float:
    """MiB of a process."""
    status = Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1]
    return int(status.split()[0]) / 1024


def waited() -> float:
    """Seconds for which this thread could have run, but other programs had the cores; 0 where Linux does not say."""
    return scheduled()[1]


def scheduled(process: int | None = None) -> tuple[float, float]:
    """Seconds for which this thread, or a process's main one, has run and has waited for a core; 0 without Linux."""
    schedule = Path(f"/proc/{process}/schedstat" if process else "/proc/thread-self/schedstat")
    ran, waits = (int(n) / 1e9 for n in schedule.read_text().split()[:2]) if schedule.exists() else (0.0, 0.0)
    return ran, waits


def in_thread(config: Any, **options: Any) -> Any:
    """The engine in the worker thread of the window's own process, as it would be without a child."""
    from napari_t1t2.runs.training import train

    return train(config, **options)


def live(seconds: float) -> None:
    """Let the window live for a while, as `napari.run` does."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


if __name__ == "__main__":
    main()
