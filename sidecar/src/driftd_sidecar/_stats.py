"""What the sidecar says about itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters since the process (or the forked child) began. Every unit is rows unless the name says otherwise.

    `seen = kept + dropped` and `kept = sent + pending` hold in every snapshot. Labels are in none of these: theirs are
    the `labels_…`, one for each request id that was told, with `labels_seen = labels_sent + labels_pending + labels_dropped`.
    """

    seen: int  # rows of successful runs and of log()
    kept: int  # sent, or still waiting to be
    dropped: int  # sampled_out + overflowed + gave_up + errors
    sent: int  # acknowledged by the daemon
    pending: int  # in the buffer or the spool
    spooled: int  # of the pending rows, those on disk
    recovered: (
        int  # rows of a dead process that were in its spool and were sent by this one; in no other count
    )
    rejected: int  # of the rows sent, those the daemon's answers called invalid
    sampled_out: int  # thinned while the buffer was more than half full
    overflowed: int  # found the buffer full, or the logger closed
    gave_up: int  # refused for good by the daemon, or let go to make room while it was unreachable
    errors: int  # could not be captured or encoded
    failed_inferences: int  # calls in which the session itself raised
    unseen_calls: int  # calls by a route whose data the sidecar does not see (io binding, device memory)
    labels_seen: int  # passed to log_labels()
    labels_dropped: (
        int  # without a request id, not encodable, without room, refused for good, or in edge mode
    )
    labels_sent: int  # acknowledged by the daemon
    labels_pending: int  # in the buffer or the spool
    labels_spooled: int  # of the labels pending, those on disk
    labels_recovered: int  # as `recovered`; in no other count
    labels_rejected: int  # of the labels sent, those the daemon's answers called invalid
    batches: int  # batches acknowledged, of rows and of labels
    retries: int  # requests that will be, or were, repeated
    pending_bytes: int  # charged to the buffer now, overhead and granted room included
