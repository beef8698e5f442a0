"""`gradfleet gradcheck` at its defaults finds every planted fault, and none in the same networks without it."""

import pytest

from core.gradcheck.model import check_model
from core.graph.classifier import build_classifier, with_loss
from tests.core.gradcheck import faults_of_images, faults_of_runs, faults_of_values
from tests.core.gradcheck.planting import FAULTS

assert faults_of_images
assert faults_of_runs
assert faults_of_values

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def check(network):
    tasks = network.loss.tasks
    task = "classification" if "classification" in tasks else None
    graph = with_loss(build_classifier(network.layers, network.features), network.loss, task)
    return check_model(graph, penalty=network.penalty)


@each_fault
def test_the_fault_is_found(fault):
    report = check(fault.wrong)
    assert not report.ok, report


@pytest.mark.parametrize(
    "network",
    list({repr(fault.right): fault.right for fault in FAULTS}.values()),
    ids=lambda network: "-".join(
        type(getattr(each, "node", each)).__name__ for each in (*network.layers, network.loss)
    ),
)
def test_the_network_without_the_fault_passes(network):
    check(network).assert_ok()


def test_there_are_many_kinds():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60
