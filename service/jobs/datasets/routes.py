"""REST endpoint that deletes datasets."""

from functools import partial
from http import HTTPStatus

from fastapi import APIRouter

from service.datasets.files.workspace import discarding, remove_discarded
from service.datasets.repository import is_recorded
from service.http.dependencies import ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.jobs.datasets.deletion import delete_dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)


@router.delete("/{name}", status_code=HTTPStatus.NO_CONTENT, response_description="The dataset is deleted")
def remove_dataset(name: str, services: ServicesDependency) -> None:
    """Delete a dataset with all its versions, or the version of name@version, unless a job that has not ended uses it.

    Jobs that have ended keep the version and digest that they were trained on. The rows are deleted with the last
    version that has them, under whatever name. The number of a deleted version is not used again.
    """
    directory = services.settings.dataset_dir.absolute()
    with discarding(directory) as note, services.database.writing() as session:
        # Noted before the transaction is committed, so that no file is left if this process is killed after it.
        note([services.settings.dataset_file(digest).name for digest in delete_dataset(session, name)])
    remove_discarded(directory, partial(is_recorded, services.database))
