"""That the benchmarks still fit the program: nothing is measured here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resolve import missing_imports

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ALL = sorted(BENCHMARKS.glob("*.py"))
HERE = [path for path in ALL if sys.platform == "linux" or "Linux only" not in path.read_text(encoding="utf-8")]
HELP_OF_EACH = """
import contextlib, io, runpy, sys, traceback
for path in sys.argv[1:]:
    sys.argv, said = [path, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(path, run_name="__main__")
        print(f"{path}: --help did not end it")
    except SystemExit as end:
        if end.code or not said.getvalue().startswith("usage:"):
            print(f"{path}: ended with {end.code} and said {said.getvalue()[:200]!r}")
    except Exception:
        print(f"{path}: {traceback.format_exc()}")
"""


def test_each_benchmark_imports_what_there_is_and_explains_itself(tmp_path):
    pytest.importorskip("sklearn", reason="one benchmark fits with scikit-learn (extra demo)")
    paths = [str(path) for path in HERE]
    assert len(paths) > 5
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n{HELP_OF_EACH}"
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_benchmark_says_how_to_call_it(path):
    assert f"python benchmarks/{path.name}" in path.read_text(encoding="utf-8").split('"""')[1]


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_within_its_functions_is_there_too(path):
    assert missing_imports(path.read_text(encoding="utf-8")) == []


def test_the_comparison_with_dcm2niix_finds_an_equal_series_equal(tmp_path, made_data, monkeypatch):
    if not shutil.which("dcm2niix"):
        pytest.skip("dcm2niix is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from dcm2niix import apart, folders_in, look, verdict

    folder = next(folders_in([made_data.dicom[0]]))
    said = [verdict(look(folder, files, tmp_path)) for files in apart(folder)]
    assert said and set(said) == {"equal"}
