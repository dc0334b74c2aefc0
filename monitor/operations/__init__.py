"""What operators do: each act one storage transaction, with its entry in the audit trail.

Every function takes the Service first and may block on the database; the HTTP API and the commands call the
same ones. What cannot be done raises an OperationError.
"""

from monitor.operations.accepting import Acceptance, accept
from monitor.operations.acknowledging import acknowledge
from monitor.operations.baselines import (
    BaselineFacts,
    VersionFacts,
    list_baselines,
    load_baseline,
    load_training_calibration,
    register_baseline,
)
from monitor.operations.errors import Conflicting, Invalid, NotKnown, OperationError
from monitor.operations.from_traffic import TrafficBaseline, TrafficOptions, baseline_from_traffic
from monitor.operations.silencing import add_silence, expire_silence, list_silences, state_of
from monitor.operations.traffic import Span
from monitor.operations.trial import Exchange, try_receiver

__all__ = [
    "Acceptance",
    "BaselineFacts",
    "Conflicting",
    "Exchange",
    "Invalid",
    "NotKnown",
    "OperationError",
    "Span",
    "TrafficBaseline",
    "TrafficOptions",
    "VersionFacts",
    "accept",
    "acknowledge",
    "add_silence",
    "baseline_from_traffic",
    "expire_silence",
    "list_baselines",
    "list_silences",
    "load_baseline",
    "load_training_calibration",
    "register_baseline",
    "state_of",
    "try_receiver",
]
