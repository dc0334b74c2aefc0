"""MonitoredSession: an onnxruntime.InferenceSession that also tells driftd what it saw and said."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from driftd_sidecar._calls import Texts
from driftd_sidecar._logger import MEBIBYTE, PredictionLogger, Times
from driftd_sidecar._recorders import Recorders
from driftd_sidecar._stats import Stats
from driftd_sidecar._transport import Transport

if TYPE_CHECKING:
    import onnxruntime

_UNSET_MODEL_VERSION = 2**63 - 1


class MonitoredSession:
    """Drop-in for `onnxruntime.InferenceSession`.

    Args:
        path_or_bytes_or_session: what InferenceSession takes, or a session that exists.
        version: the model's version. Absent: the model's metadata entry `version`, else its ONNX model version if it
            has one, else `sha256:` and 12 hex digits of the file or the bytes.
        session_kwargs: passed on to InferenceSession.

    The others are those of PredictionLogger. Outputs are those of the real session, bit by bit; its exceptions pass
    unchanged. `run`, `run_async` and `run_with_ort_values` (host memory) are captured; io binding is not, and says so.
    """

    def __init__(
        self,
        path_or_bytes_or_session: "str | bytes | os.PathLike[str] | onnxruntime.InferenceSession",
        *,
        model: str,
        version: str | None = None,
        endpoint: str,
        token: str | None = None,
        clock: Callable[[], int] = time.time_ns,
        tags: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        ca_bundle: str | None = None,
        buffer_bytes: int = 16 * MEBIBYTE,
        batch_rows: int = 1000,
        batch_bytes: int = MEBIBYTE,
        flush_seconds: float = 1.0,
        timeout_seconds: float = 10.0,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_bytes: int = 256 * MEBIBYTE,
        wide_row_bytes: int = 16_384,
        wide_bytes_per_second: int = 262_144,
        mode: Literal["rows", "edge"] = "rows",
        **session_kwargs: Any,
    ) -> None:
        source = path_or_bytes_or_session
        self._session: Any = _open(source, session_kwargs)
        self.logger = PredictionLogger(
            model=model,
            version=version if version is not None else model_version(source, self._session),
            endpoint=endpoint,
            token=token,
            clock=clock,
            tags=tags,
            transport=transport,
            ca_bundle=ca_bundle,
            buffer_bytes=buffer_bytes,
            batch_rows=batch_rows,
            batch_bytes=batch_bytes,
            flush_seconds=flush_seconds,
            timeout_seconds=timeout_seconds,
            spool_dir=spool_dir,
            spool_bytes=spool_bytes,
            wide_row_bytes=wide_row_bytes,
            wide_bytes_per_second=wide_bytes_per_second,
            mode=mode,
        )
        self._recorders = Recorders(self._session, self.logger)
        self._run = self._recorders.run()
        if type(self).run is MonitoredSession.run:
            # Spares the hot path one bound method. A subclass that overrides run keeps its own.
            self.__dict__["run"] = self._run

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """The real session's `run`, then one append."""
        return self._run(output_names, input_feed, run_options)

    def run_tagged(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
        *,
        request_id: Texts | None = None,
        tags: Mapping[str, Texts] | None = None,
    ) -> list[Any]:
        """As `run`, with an id and tags for the rows of this call: one text for all of them, or one per row."""
        try:
            results: list[Any] = self._session.run(output_names, input_feed, run_options)
        except Exception:
            self.logger.buffer.count_failed_inference()
            raise
        self._recorders.keep(output_names, input_feed, results, request_id=request_id, tags=tags)
        return results

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[Any, Any, str], None],
        user_data: Any,
        run_options: Any = None,
    ) -> None:
        """Captured when the results arrive, before `callback` is called; the inputs are those of that moment."""
        recorders, buffer = self._recorders, self.logger.buffer

        def arrived(results: Any, data: Any, error: str) -> None:
            if error:
                buffer.count_failed_inference()
            else:
                recorders.of(output_names)(input_feed, results)
            callback(results, data, error)

        self._session.run_async(output_names, input_feed, arrived, user_data, run_options)

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, Any],
        run_options: Any = None,
    ) -> Sequence[Any]:
        """Captured when every value is in host memory; device memory is not copied for monitoring."""
        try:
            results: Sequence[Any] = self._session.run_with_ort_values(
                output_names, input_dict_ort_values, run_options
            )
        except Exception:
            self.logger.buffer.count_failed_inference()
            raise
        self._recorders.keep_ort_values(output_names, input_dict_ort_values, results)
        return results

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        """Passed on, not captured: bound buffers may be on a device and change under us."""
        self._recorders.unseen("run_with_iobinding")
        self._session.run_with_iobinding(iobinding, run_options)

    def run_with_ortvaluevector(self, *arguments: Any, **options: Any) -> None:
        """Passed on, not captured."""
        self._recorders.unseen("run_with_ortvaluevector")
        self._session.run_with_ortvaluevector(*arguments, **options)

    def log(
        self,
        inputs: Mapping[str, object],
        outputs: Mapping[str, object],
        *,
        time_ns: Times | None = None,
        request_id: Texts | None = None,
        tags: Mapping[str, Texts] | None = None,
    ) -> None:
        """As PredictionLogger.log: for predictions made by a route that is not captured."""
        self.logger.log(inputs, outputs, time_ns=time_ns, request_id=request_id, tags=tags)

    def log_labels(self, request_id: Texts, labels: object, *, time_ns: Times | None = None) -> None:
        """As PredictionLogger.log_labels: what turned out to be true, by the ids that `run_tagged` was given."""
        self.logger.log_labels(request_id, labels, time_ns=time_ns)

    def flush(self, timeout: float = 5.0) -> bool:
        """As PredictionLogger.flush."""
        return self.logger.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Ends the capture. The session itself goes on working."""
        self.logger.close(timeout)

    def stats(self) -> Stats:
        """As PredictionLogger.stats."""
        return self.logger.stats()

    @property  # type: ignore[misc]  # a class by courtesy: isinstance asks for it, and code that checks what it is given
    def __class__(self) -> type:
        return type(self._session)

    def __getattr__(self, name: str) -> Any:
        if name == "_session":  # asked for before __init__ came to it
            raise AttributeError(name)
        return getattr(self._session, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(source: Any, session_kwargs: dict[str, Any]) -> Any:
    if not isinstance(source, str | bytes | os.PathLike):
        if session_kwargs:
            raise TypeError(f"{', '.join(session_kwargs)}: an existing session takes no session arguments")
        return source
    os.environ.setdefault(
        "ORT_DISABLE_TELEMETRY", "1"
    )  # read at import: its Linux wheels phone home since 1.29
    import onnxruntime

    return onnxruntime.InferenceSession(source, **session_kwargs)


def model_version(source: Any, session: Any) -> str:
    """The version that the model tells of itself, else the digest of its file."""
    meta = session.get_modelmeta()
    named = (meta.custom_metadata_map or {}).get("version", "").strip()
    if named:
        return str(named)
    if 0 < int(meta.version) < _UNSET_MODEL_VERSION:
        return str(meta.version)
    if not isinstance(source, str | bytes | os.PathLike):
        source = getattr(session, "_model_bytes", None) or getattr(session, "_model_path", None)
    if isinstance(source, bytes):
        digest = hashlib.sha256(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    else:
        raise ValueError(  # noqa: TRY004 (what is missing is the version, whatever the session is)
            "version must be given: this session names neither a version nor the file it was read from"
        )
    return f"sha256:{digest.hexdigest()[:12]}"
