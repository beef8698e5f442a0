"""The states of a job and the moves between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a job."""

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


# A job that loses its workers returns to the queue for its next attempt; a job that was pausing becomes paused. A job
# that is being cancelled or paused may still succeed or fail: its last step can be complete before the command reaches
# the workers.
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

# States in which an attempt runs the job and may write to it.
LIVE = frozenset({State.STARTING, State.RUNNING, State.PAUSING, State.CANCELLING})


# First word of the reason of a member that the stopping rule of its sweep has cancelled.
STOPPED_BY_SWEEP = "stopped_by_sweep"


class Action(StrEnum):
    """What a user can do to a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


# The state to which an action moves a job: the same state if it was done before; a missing state means that the action
# is rejected. A job that is pausing cannot be resumed, since its workers may already have stopped.
ACTIONS: dict[Action, dict[State, State]] = {
    Action.CANCEL: {
        State.QUEUED: State.CANCELLED,
        State.STARTING: State.CANCELLING,
        State.RUNNING: State.CANCELLING,
        State.PAUSING: State.CANCELLING,
        State.PAUSED: State.CANCELLED,
        State.CANCELLING: State.CANCELLING,
        State.CANCELLED: State.CANCELLED,
    },
    Action.PAUSE: {
        State.QUEUED: State.PAUSED,
        State.STARTING: State.PAUSING,
        State.RUNNING: State.PAUSING,
        State.PAUSING: State.PAUSING,
        State.PAUSED: State.PAUSED,
    },
    Action.RESUME: {
        State.QUEUED: State.QUEUED,
        State.STARTING: State.STARTING,
        State.RUNNING: State.RUNNING,
        State.PAUSED: State.QUEUED,
    },
}
