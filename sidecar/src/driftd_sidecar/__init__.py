"""Ships the predictions of an ONNX Runtime session to driftd, without slowing the session down.

`MonitoredSession` takes the place of `onnxruntime.InferenceSession`; `PredictionLogger` is for every other route.
Importing this loads no onnxruntime and starts nothing.
"""

from driftd_sidecar._logger import PredictionLogger
from driftd_sidecar._session import MonitoredSession
from driftd_sidecar._stats import Stats
from driftd_sidecar._transport import Response, Transport
from driftd_sidecar._version import __version__

__all__ = ["MonitoredSession", "PredictionLogger", "Response", "Stats", "Transport", "__version__"]
