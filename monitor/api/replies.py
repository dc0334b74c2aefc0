"""What a sender is told of its batch once it is on disk, or that nothing of it can be."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from monitor.api.ports import SubmitResult
from monitor.api.problem import issue_list, problem
from monitor.ingest.accept import Accepted
from monitor.ingest.accept_counts import AcceptedCounts
from monitor.ingest.labels import AcceptedLabels

Outcome = Accepted | AcceptedCounts


def refused(accepted: Outcome | AcceptedLabels) -> Response:
    """The answer where no row can be taken."""
    return problem(
        422,
        f"none of the {accepted.rejected} rows can be taken",
        issues=accepted.errors,
        extra={"accepted": 0, "rejected": accepted.rejected, "warnings": issue_list(accepted.warnings)},
    )


def reply(
    accepted: Outcome, result: SubmitResult, *, idempotent: bool, extra: Mapping[str, Any] | None = None
) -> Response:
    """What a sender is told of a batch that is on disk, or whose id is taken; `extra` are members of its own."""
    if result.status == "conflict":
        return problem(
            422, f"the id {result.batch_key!r} is taken by a batch with another body; send a new id"
        )
    body = {
        "id": result.batch_key,
        "accepted": accepted.accepted if result.accepted is None else result.accepted,
        "rejected": accepted.rejected if result.rejected is None else result.rejected,
        "errors": issue_list(accepted.errors),
        "warnings": issue_list(accepted.warnings),
        "idempotent": idempotent,
        "duplicate": result.status == "duplicate",
        **(extra or {}),
    }
    return Response(json.dumps(body).encode("ascii"), media_type="application/json")
