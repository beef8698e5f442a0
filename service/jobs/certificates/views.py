"""What a verification found, as the API returns it."""

from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, computed_field

if TYPE_CHECKING:
    from service.store.models import Verification  # `gradfleet gradcheck` reads specs without SQLAlchemy


class DifferenceView(BaseModel):
    """A field of a certificate that is not what a verification found."""

    field: str = Field(examples=["milestones"])
    message: str
    after_step: int | None = Field(None, description="The last step up to which the parameters are the same.")
    by_step: int | None = Field(None, description="The first milestone after which the parameters differ.")
    first_step: int | None = Field(
        None, description="The first step whose recorded metrics differ from those of the certified job, if it is here."
    )


class IntervalView(BaseModel):
    """The steps above `after_step`, up to and including `by_step`."""

    after_step: int
    by_step: int


class ReplayView(IntervalView):
    """An interval of a job that is trained again from its first state."""

    equal: bool | None = Field(description="Whether it is as the certificate says; null until it was replayed.")


class SampleView(BaseModel):
    """The intervals that a verification replays, in order; each is between two checkpoints of the certificate."""

    seed: int = Field(description="The same seed chooses the same intervals again.")
    chosen: list[ReplayView]
    intervals: int = Field(description="Number of intervals from step 0 to the end of the job.")
    replayable: int = Field(description="Number of those whose first state is here; the sample is drawn from them.")
    total_steps: int = Field(description="Number of steps in all intervals.")

    @computed_field(description="Number of steps that were replayed.")  # type: ignore[prop-decorator]
    @property
    def replayed_steps(self) -> int:
        """Number of steps in the intervals that were replayed."""
        return sum(each.by_step - each.after_step for each in self._replayed)

    @computed_field(description="The steps that were not replayed: nothing is known about them.")  # type: ignore[prop-decorator]
    @property
    def not_covered(self) -> list[IntervalView]:
        """The gaps between the intervals that were replayed."""
        ends = [0, *(step for each in self._replayed for step in (each.after_step, each.by_step)), self.total_steps]
        gaps = list(pairwise(ends))[::2]
        return [IntervalView(after_step=after, by_step=by) for after, by in gaps if after < by]

    @computed_field(  # type: ignore[prop-decorator]
        description="Probability that the sample has a given one of the intervals that can be replayed, so that a "
        "change in that interval is found. In the other intervals, no change is found."
    )
    @property
    def probability(self) -> float:
        """The share of the intervals that can be replayed that is in the sample."""
        return len(self.chosen) / self.replayable

    @property
    def next(self) -> ReplayView | None:
        """The interval to replay next; None if all were."""
        return next((each for each in self.chosen if each.equal is None), None)

    @property
    def _replayed(self) -> list[ReplayView]:
        return [each for each in self.chosen if each.equal is not None]


class VerificationView(BaseModel):
    """What a job has found that verifies a certificate by running its job again, or some intervals of it."""

    of: str = Field(description="Id of the job that the certificate is of.")
    root: str = Field(description="Root hash of the certificate.")
    equal: bool | None = Field(
        description="Whether it is right, as far as it is covered; null until something differs or the job has ended."
    )
    first_difference: DifferenceView | None = Field(description="Where the run differs first.")
    differences: list[DifferenceView]
    notes: list[str] = Field(description="What does not make it wrong, such as an unknown key or other versions.")
    sample: SampleView | None = Field(description="The intervals that are replayed; null if the whole job is run.")


def verification_view(row: "Verification") -> VerificationView:
    """A verification's row as the API returns it."""
    differences = [DifferenceView.model_validate(each) for each in row.differences]
    # What the run found says more than that a hash is wrong.
    found = [each for each in differences if each.by_step is not None] or differences
    return VerificationView(
        of=row.certificate["job"]["id"],
        root=row.certificate["root"],
        equal=row.equal,
        first_difference=found[0] if found else None,
        differences=differences,
        notes=row.notes,
        sample=None if row.sample is None else SampleView.model_validate(row.sample),
    )
