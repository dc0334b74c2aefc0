"""`/v1/models`, `/v1/baselines` and `/v1/status`."""

import re
from typing import Final

from starlette.responses import Response

from monitor import overview
from monitor.api.endpoint import Call, answer
from monitor.api.problem import ProblemError
from monitor.ingest.schema import ModelHandle
from monitor.operations import (
    VersionFacts,
    list_baselines,
    load_baseline,
    load_training_calibration,
    register_baseline,
)

BASELINE_BYTES: Final = 64 * 2**20
BASELINE_TYPE: Final = "application/octet-stream"
_FACTS: Final = ("artefact_sha256", "run", "dataset", "commit", "stage")
_CALIBRATION: Final = "calibration_bytes"


def show_status(call: Call) -> Response:
    """How the daemon stands."""
    call.query()
    return answer(overview.status(call.service))


def list_models(call: Call) -> Response:
    """Every model in a line."""
    call.query()
    return answer({"models": overview.summaries(call.service)})


def show_model(call: Call) -> Response:
    """One model: versions, states, columns by effect, how they are judged, traffic; of one segment where it is given."""
    segment = call.query("segment").get("segment", "")
    model = known(call, segment)
    return answer(overview.detail(call.service, model, segment))


def known(call: Call, segment: str) -> ModelHandle:
    """The model of the path; 404 where there is none, or it has no such segment ('' the whole)."""
    name = call.path("model")
    model = call.service.catalog.model(name)
    if model is None:
        raise ProblemError(404, f"there is no model {name[:100]!r}")
    if segment and not overview.has_segment(call.service, model, segment):
        raise ProblemError(404, f"model {name[:100]!r} has no segment {segment[:100]!r}")
    return model


def show_baselines(call: Call) -> Response:
    """Baselines, newest first, of one model or of all."""
    query = call.query("model")
    return answer({"baselines": list_baselines(call.service, model=query.get("model"))})


def get_baseline(call: Call) -> Response:
    """The encoded baseline that a version is compared with now."""
    call.query()
    facts, blob = load_baseline(call.service, model=call.path("model"), version=call.path("version"))
    headers = {"ETag": f'"{facts.fingerprint}"', "Cache-Control": "no-cache"}
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(blob, headers=headers, media_type=BASELINE_TYPE)


def get_calibration(call: Call) -> Response:
    """What the training of a version's current baseline taught, encoded; 404 where it taught nothing."""
    call.query()
    blob = load_training_calibration(call.service, model=call.path("model"), version=call.path("version"))
    return Response(blob, headers={"Cache-Control": "no-cache"}, media_type=BASELINE_TYPE)


def put_baseline(call: Call) -> Response:
    """Make an encoded baseline a version's own; facts of the artefact may stand in the query.

    `calibration_bytes` says that the last so many bytes of the body are what its training teaches, encoded: both in
    one request, because no block may be judged between them.
    """
    media = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != BASELINE_TYPE:
        raise ProblemError(415, f"send an encoded baseline as Content-Type: {BASELINE_TYPE}")
    facts = dict(call.query(*_FACTS, _CALIBRATION))
    split = _baseline_length(facts.pop(_CALIBRATION, None), len(call.body))
    done = register_baseline(
        call.service,
        model=call.path("model"),
        version=call.path("version"),
        blob=call.body[:split],
        calibration=call.body[split:] or None,
        facts=VersionFacts(**facts),
        actor=call.who.name,
    )
    return answer(done)


def _baseline_length(calibration: str | None, body: int) -> int:
    """How many bytes of the body are the baseline."""
    if calibration is None:
        return body
    if not re.fullmatch("[1-9][0-9]{0,9}", calibration) or int(calibration) >= body:
        raise ProblemError(
            400,
            f"{_CALIBRATION}: a whole number from 1 to less than the body's {body} bytes, not {calibration[:20]!r}",
        )
    return body - int(calibration)
