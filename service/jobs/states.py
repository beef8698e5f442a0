"""The states of a job and the moves between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state never changes again."""
        return not MOVES[self]


# A job that loses its workers goes back to the queue, and its next attempt starts from there; one that was being paused
# is paused then, for it goes on from the same checkpoint whoever lost the workers. A job being cancelled or paused may
# still succeed or fail: its last step can be done before the request reaches the workers.
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.PAUSED, State.FAILED, State.CANCELLED}),
    State.STARTING: frozenset({State.RUNNING, State.QUEUED, State.FAILED, State.CANCELLING, State.PAUSING}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.QUEUED, State.FAILED, State.CANCELLING, State.PAUSING}),
    State.PAUSING: frozenset({State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLING}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state in State if state.terminal)

# States in which an attempt has the job; only then may it write to it.
LIVE = frozenset({State.STARTING, State.RUNNING, State.PAUSING, State.CANCELLING})


# The word for programs in the reason of a member that its sweep's own rule has cancelled.
STOPPED_BY_SWEEP = "stopped_by_sweep"


class Request(StrEnum):
    """What a user can ask of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


# What a request makes of a job in each state: another state, the same one where it was done before, and where a state
# is missing the request is refused. A job that is being paused can not be resumed: it would have to take back what its
# workers may have done already.
REQUESTS: dict[Request, dict[State, State]] = {
    Request.CANCEL: {
        State.QUEUED: State.CANCELLED,
        State.STARTING: State.CANCELLING,
        State.RUNNING: State.CANCELLING,
        State.PAUSING: State.CANCELLING,
        State.PAUSED: State.CANCELLED,
        State.CANCELLING: State.CANCELLING,
        State.CANCELLED: State.CANCELLED,
    },
    Request.PAUSE: {
        State.QUEUED: State.PAUSED,
        State.STARTING: State.PAUSING,
        State.RUNNING: State.PAUSING,
        State.PAUSING: State.PAUSING,
        State.PAUSED: State.PAUSED,
    },
    Request.RESUME: {
        State.QUEUED: State.QUEUED,
        State.STARTING: State.STARTING,
        State.RUNNING: State.RUNNING,
        State.PAUSED: State.QUEUED,
    },
}
