"""What the package offers, and what importing it does not do."""

import subprocess
import sys

import driftd_sidecar


def test_all_is_sorted_and_complete() -> None:
    public = {name for name in vars(driftd_sidecar) if not name.startswith("_")} | {"__version__"}
    assert driftd_sidecar.__all__ == sorted(driftd_sidecar.__all__)
    assert set(driftd_sidecar.__all__) == public


def test_exported_members_say_where_they_are_documented() -> None:
    for name in driftd_sidecar.__all__:
        if not name.startswith("_"):
            assert getattr(driftd_sidecar, name).__doc__


def python(code: str, *, variables: dict[str, str] | None = None) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin", **(variables or {})}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_no_onnxruntime_and_starts_no_thread() -> None:
    assert (
        python(
            "import sys, threading, driftd_sidecar;"
            "print('onnxruntime' in sys.modules, threading.active_count(),"
            " any(name.split('.')[0] in {'detectors', 'alerts', 'storage', 'monitor'} for name in sys.modules))"
        )
        == "False 1 False"
    )


def test_telemetry_of_onnxruntime_is_off_unless_the_user_said_otherwise() -> None:
    code = (
        "import os, driftd_sidecar\n"
        "from driftd_sidecar._session import _open\n"
        "try: _open(b'no model', {})\n"
        "except Exception as error: print(type(error).__name__, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert python(code).split()[-1] == "1"
    assert python(code, variables={"ORT_DISABLE_TELEMETRY": "0"}).split()[-1] == "0"
