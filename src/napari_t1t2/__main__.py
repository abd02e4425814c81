"""The command line: check, train, calibrate, translate, evaluate, demo. It prints the events that the widgets show."""

from __future__ import annotations

import signal
import threading

# Within the half second of these imports Ctrl-C ends the program without a word, not with the place it has reached.
BEGINNING = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if BEGINNING:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import io
import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from . import __version__
from .commands.cache import cache
from .commands.check import check
from .commands.demo import demo
from .commands.evaluate import calibrate, evaluate
from .commands.export import export
from .commands.info import info
from .commands.progress import say
from .commands.train import train
from .commands.translate import translate
from .config import ModelConfig, Planes, Precision, PresetName, TrainConfig
from .errors import shown

if TYPE_CHECKING:
    from .images.volume import Volume

EPILOG = """\
Folders hold PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM files; T1 and T2 need not pair, and may lie in one folder.
Exit codes: 0 done, also when a training is stopped with Ctrl-C (the run is saved); 1 some of several images failed;
2 could not be done, with the reason; 130 stopped with Ctrl-C: what is done is kept.
Synthetic images are not for diagnosis."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a pipe Windows takes a code page, without most names
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own sentence names the file
        if args.command is not train and int(os.environ.get("RANK", 0)) and "TORCHELASTIC_RUN_ID" in os.environ:
            return 0  # only training takes several processes: of all else, torchrun's first one does it alone
        result = args.command(args)
        if isinstance(result, int):  # the exit code of a batch
            return result
        if result:  # of the demo, where there is a screen
            _show(result)
    except KeyboardInterrupt:
        say("napari-t1t2: interrupted; what was finished is kept.", file=sys.stderr)
        return 130
    except Exception as error:
        from .runs.session import explain

        for sentence in explain(error).splitlines():
            say(f"napari-t1t2: {sentence}", file=sys.stderr)
        return 2
    return 0


def _show(volumes: Sequence[Volume]) -> None:
    try:
        from .widgets._layers import show_volumes
    except ImportError as error:
        say(f"No window: napari needs a Qt binding, pip install 'napari-t1t2[all]' ({error}).", file=sys.stderr)
    else:
        show_volumes(volumes)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(shown(message))  # names of files that a shell has put in the place of a *


def _parser() -> ArgumentParser:
    parser = _Parser(
        "napari-t1t2",
        description="Synthetic T1 and T2 MRI contrasts with a CycleGAN.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Any, name: str) -> ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__.rstrip("."), description=run.__doc__)
        added.set_defaults(command=run)
        return added

    checks = command(check, "check")
    _folders(checks)
    for config_class, names in (
        (TrainConfig, ("t1_series", "t2_series", "t1_volume", "t2_volume")),
        (ModelConfig, ("t1_label", "t2_label", "size", "plane", "pixel")),
    ):
        for name in names:
            _flag(checks, _named(config_class, name), get_type_hints(config_class)[name])

    _volume_number(checks)
    checks.add_argument("--json", action="store_true", help="print one JSON document, see docs/scripting.md")

    trains = command(train, "train")
    _folders(trains)
    _volume_number(trains)
    trains.add_argument("--run", dest="run_folder", type=_path, required=True, metavar="RUN", help="folder of the run")
    trains.add_argument("--preset", choices=get_args(PresetName), help="settings to begin with [laptop]")
    trains.add_argument("--resume", action="store_true", help="continue the earlier training in RUN")
    for config_class in (TrainConfig, ModelConfig):
        for f in fields(config_class):
            if not f.name.endswith("_folder") and f.name != "model":
                _flag(trains, f, get_type_hints(config_class)[f.name])

    translates = command(translate, "translate")
    translates.add_argument("inputs", type=_path, nargs="+", metavar="IN", help="image files, or one folder")
    translates.add_argument(
        "--model",
        type=_path,
        required=True,
        metavar="RUN_OR_FILE",
        help="run folder or model file; sample: the general model that comes with napari-t1t2",
    )
    translates.add_argument("--to", required=True, metavar="CONTRAST", help="what to make, such as T2")
    where = translates.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=_path, metavar="PATH", help="file (.png, .tif, .nii.gz) or folder")
    bids = "IN is a BIDS data set: make a derivative data set of the subjects who lack the contrast; continues one"
    where.add_argument("--bids", type=_path, metavar="OUT", help=bids)
    translates.add_argument(
        "--series",
        default="",
        metavar="S",
        help="series of a folder to use, with commas; empty: chosen automatically",
    )
    _volume_number(translates, default=0)
    translates.add_argument(
        "--planes",
        choices=get_args(Planes),
        default="one",
        help="three averages axial, coronal and sagittal slices: smoother, at least 3 times slower [one]",
    )
    translates.add_argument(
        "--uncertainty",
        "--trust",  # its name before
        dest="maps",
        action="append_const",
        const="expected error",
        default=[],
        help="write a map of the expected error beside each result",
    )
    translates.add_argument(
        "--interval",
        dest="maps",
        action="append_const",
        const="interval",
        help="write one of half the width of the interval that holds 90 %% of voxels; the model must be calibrated",
    )
    _ensemble(translates)
    _report(translates)
    translates.add_argument("--overwrite", action="store_true", help="replace files that exist")
    anonymous = "write nothing that tells whose images these are (DICOM PS3.15); names of files other than DICOM stay"
    translates.add_argument("--anonymous", action="store_true", help=anonymous)
    translates.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="bfloat16 is faster on new GPUs and CPUs with AMX, and up to 1 %% of the range off [float32]",
    )
    _flag(translates, _named(TrainConfig, "device"), get_type_hints(TrainConfig)["device"], default="auto")

    calibrates = command(calibrate, "calibrate")
    calibrates.add_argument("model", type=_path, metavar="RUN_OR_FILE", help="run folder or model file")
    calibrates.add_argument("t1", type=_path, metavar="T1", help="file or folder, not trained on")
    calibrates.add_argument("t2", type=_path, metavar="T2", help="of the same heads, paired by name, on one grid")
    _ensemble(calibrates)
    _report(calibrates)
    _flag(calibrates, _named(TrainConfig, "device"), get_type_hints(TrainConfig)["device"], default="auto")

    evaluates = command(evaluate, "evaluate")
    evaluates.add_argument("fake", type=_path, metavar="FAKE", help="synthetic file, or folder")
    evaluates.add_argument("real", type=_path, metavar="REAL", help="real file, or folder with equal names")
    evaluates.add_argument(
        "--match-intensities",
        "--own-scale",  # its name before
        action="store_true",
        help="first scale the synthetic image so that both heads have the same median: MR units are arbitrary",
    )
    _report(evaluates)
    evaluates.add_argument(
        "--lesions", type=_path, metavar="MASK", help="say how much of each lesion of this mask the synthetic one shows"
    )
    evaluates.add_argument("--json", action="store_true", help="print JSON, each image by itself too")

    infos = command(info, "info")
    infos.add_argument("model", type=_path, metavar="RUN_OR_FILE", help="run folder, model file, or sample")
    infos.add_argument("--markdown", type=_path, metavar="PATH", help="write the card to this file, as a README")
    for name, text in (
        ("data", "describe the training images, without names of patients"),
        ("licence", "under which the model may be used"),
        ("citation", "of what is to be cited"),
    ):
        infos.add_argument(f"--{name}", metavar="TEXT", help=f"note in the model: {text}")

    exports = command(export, "export")
    exports.add_argument("model", type=_path, metavar="RUN_OR_FILE", help="run folder, model file, or sample")
    exports.add_argument("--to", required=True, metavar="CONTRAST", help="the direction: what it makes, such as T2")
    exports.add_argument(
        "--out", type=_path, required=True, metavar="PATH", help=".onnx, .ts for TorchScript, .zip for bioimage.io"
    )
    exports.add_argument("--overwrite", action="store_true", help="replace a file that exists")

    caches = command(cache, "cache")
    caches.add_argument("--delete", metavar="NAME", help="delete this slice cache, or all")

    demos = command(demo, "demo")
    demos.add_argument("--out", type=_path, default=Path("demo"), help="folder for what it makes [demo]")
    demos.add_argument("--minutes", type=float, default=4.0, help="time to train for [4]")
    demos.add_argument(
        "--window", action=BooleanOptionalAction, default=True, help="open napari where there is a screen"
    )
    return parser


def _path(text: str) -> Path:
    if not text:  # of a variable that a script has left empty; Path() would be the folder one stands in
        raise ArgumentTypeError("is empty: give a path")
    path = Path(text)
    return path if path != Path() else path.resolve()  # Path() stands for "not given" in a config


def _ensemble(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ensemble",
        type=_path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="models trained with other seeds, for the uncertainty map",
    )


def _report(parser: ArgumentParser) -> None:
    text = "write a CSV file with a row for each input: what became of it, in how many seconds"
    parser.add_argument("--report", type=_path, metavar="FILE", help=text)


def _folders(parser: ArgumentParser) -> None:
    parser.add_argument("t1_folder", type=_path, metavar="T1", help=_help(_named(TrainConfig, "t1_folder")))
    parser.add_argument("t2_folder", type=_path, metavar="T2", help=_help(_named(TrainConfig, "t2_folder")))


def _named(config_class: type, name: str) -> Field[Any]:
    return next(f for f in fields(config_class) if f.name == name)


def _help(field: Field[Any]) -> str:
    text: str = field.metadata["help"]
    return text.rstrip(".").replace("%", "%%")


def _flag(parser: ArgumentParser, field: Field[Any], hint: Any, default: Any = None) -> None:
    """One flag for one field; None means not given."""
    laptop = TrainConfig()
    value = getattr(laptop, field.name) if hasattr(laptop, field.name) else getattr(laptop.model, field.name)
    options: dict[str, Any] = {"default": default, "help": f"{_help(field)} [{value}]"}
    if hint is bool:
        options["action"] = BooleanOptionalAction
    elif get_origin(hint) is Literal:
        options["choices"] = get_args(hint)
    else:
        options |= {"type": hint, "metavar": hint.__name__[0].upper()}
    parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name, **options)


def _volume_number(parser: ArgumentParser, default: int | None = None) -> None:
    """The flag for the volume of 4D files, whatever their contrast."""
    text = "volume number of 4D files, from 0; 3D files are taken as they are [0]"
    parser.add_argument("--volume-number", "--frame", dest="frame", type=int, metavar="I", default=default, help=text)


if BEGINNING:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    sys.exit(main())
