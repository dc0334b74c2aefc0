"""`/v1/reload`: the configuration's file, read again."""

from starlette.responses import Response

from monitor.api.endpoint import Call, answer
from monitor.api.problem import ProblemError
from monitor.ingest.errors import Issue
from monitor.reloading import ReloadRefused, reload


def reload_config(call: Call) -> Response:
    """Put the file's configuration in force; 422 with every reason where it cannot be, and the old one stays."""
    call.query()
    load = call.service.reload_from
    if load is None:
        raise ProblemError(409, "no daemon runs here, so there is nothing to reload")
    try:
        return answer(reload(call.service, load, actor=call.who.name))
    except ReloadRefused as error:
        issues = tuple(Issue(pointer="", detail=line) for line in error.errors)
        raise ProblemError(422, "the old configuration stays", issues=issues) from None
