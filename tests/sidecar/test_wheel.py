"""The built wheel, installed alone in a clean environment: what a serving application gets."""

import email
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.sidecar import onnx_bytes

ROOT = Path(__file__).parents[2]
# What the wheel declares, and what these bring along: linked in, since tests install nothing from a network.
DEPENDENCIES = ["numpy", "numpy.libs", "onnxruntime", "flatbuffers", "packaging", "google"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(place)]
    subprocess.run([*pip, "wheel", *options, str(ROOT / "sidecar")], check=True, timeout=120)
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel in it and no package of the daemon."""
    place = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=120)
    python = place / "bin" / "python"
    told = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    packages = Path(told.stdout.strip())
    with zipfile.ZipFile(wheel) as archive:  # what installing a pure wheel does
        archive.extractall(packages)
    for name in DEPENDENCIES:
        source = Path(sysconfig.get_path("purelib")) / name
        if source.exists():
            (packages / name).symlink_to(source)
    return python


def run(python: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_holds_its_package_its_types_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        told = email.message_from_bytes(archive.read(metadata))
    assert {name.split("/")[0].split("-")[0] for name in names} == {"driftd_sidecar"}
    assert "driftd_sidecar/py.typed" in names
    modules = [name for name in names if name.startswith("driftd_sidecar/") and name.endswith(".py")]
    assert all(name.split("/")[1].startswith("_") for name in modules)  # every module is private
    assert told["Requires-Python"] == ">=3.11"
    requirements = [each.split(">")[0] for each in told.get_all("Requires-Dist", [])]
    assert requirements == ["numpy", "onnxruntime"]
    assert "What it costs" in str(told.get_payload())


def test_importing_it_loads_numpy_and_nothing_else_from_outside(clean: Path) -> None:
    code = (
        "import sys, driftd_sidecar\n"
        "roots = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(root for root in roots if not root.startswith('_')), driftd_sidecar.__version__)"
    )
    assert run(clean, code) == "['driftd_sidecar', 'numpy'] 0.1.0"


def test_it_monitors_a_model_there(clean: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes.classifier())
    code = (
        "import sys, numpy, driftd_sidecar\n"
        "class Transport:\n"
        "    sent = 0\n"
        "    def send(self, url, body, headers, timeout):\n"
        "        self.sent += 1\n"
        "        return driftd_sidecar.Response(status=200, body=b'{\"accepted\": 3}')\n"
        "transport = Transport()\n"
        "with driftd_sidecar.MonitoredSession(sys.argv[1], model='m', endpoint='http://127.0.0.1:9',\n"
        "                                     transport=transport) as session:\n"
        "    session.run(None, {'features': numpy.ones((3, 30), numpy.float32)})\n"
        "print(transport.sent, session.stats().sent)"
    )
    assert run(clean, code, str(path)) == "1 3"
