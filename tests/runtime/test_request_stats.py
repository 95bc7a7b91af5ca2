"""What is counted of each release's requests."""

from fissile.runtime.request_stats import RequestStats
from fissile.telemetry.aggregate import bucket


def test_a_stream_counts_once_it_begins_and_its_length_does_not():
    found = RequestStats("old")
    found.compare(("old", "new"))
    waiting, streaming, ended, broken = (found.begin("new") for _ in range(4))
    for number in (streaming, ended, broken):
        found.answered("new", number, failed=False)
    found.end("new", ended, broken=False)
    traffic = found.traffic()["new"]
    assert traffic.in_flight == 3
    assert sum(traffic.ages.values()) == 1, "only one still waits"
    assert (traffic.answers.count, traffic.answers.errors) == (3, 0)
    assert sum(traffic.answers.latencies.values()) == 3
    assert max(traffic.answers.latencies) <= bucket(1.0)
    # One that breaks later is an error of now, whenever its beginning was counted.
    found.end("new", broken, broken=True)
    found.end("new", waiting, broken=True)
    found.end("new", streaming, broken=False)
    traffic = found.traffic()["new"]
    assert (traffic.in_flight, traffic.answers.count, traffic.answers.errors) == (0, 5, 2)
    assert found.pinned() == ()
