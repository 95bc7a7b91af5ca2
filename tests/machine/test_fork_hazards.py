"""What is said of what an import leaves open."""

import sqlite3
from pathlib import Path

import pytest

from fissile.machine.zygote.fork_hazards import Left, Open, Watch, sentences, told

TABLE = [
    (
        Open("stream", local="127.0.0.1:50000", peer="127.0.0.1:5432", owner="shop.db.DB"),
        "a connection to 127.0.0.1:5432 (shop.db.DB)",
    ),
    (Open("stream", peer="/run/redis.sock"), "a connection to /run/redis.sock"),
    (
        Open("stream", local="0.0.0.0:9000", listening=True, owner="a.METRICS"),
        "a listening socket at 0.0.0.0:9000 (a.METRICS)",
    ),
    (Open("stream"), ""),
    (Open("stream", local="127.0.0.1:50000"), ""),
    (Open("file", "/data/shop.db", writes=True, sqlite=True, owner="a.db"), "the SQLite database /data/shop.db (a.db)"),
    (Open("file", "/data/shop.db", sqlite=True, held=False), ""),
    (Open("file", "/tmp/out", writes=True, owner="a.out"), "the file /tmp/out, open for writing (a.out)"),
    (Open("file", "/tmp/out", writes=True, held=False), "the file /tmp/out, open for writing"),
    (Open("file", "/var/log/shop.log", writes=True, appends=True, owner="a.log"), ""),
    (Open("file", "/data/words", owner="a.words"), "the file /data/words, open for reading (a.words)"),
    (Open("file", "/data/mapped", held=False), ""),
    (Open("file", "/usr/lib/python3/x", library=True, owner="x.y"), ""),
    (Open("other", "anon_inode:[eventpoll]"), ""),
]


@pytest.mark.parametrize(("one", "expected"), TABLE)
def test_what_does_harm_is_told_with_its_name(one: Open, expected: str):
    assert told(one) == expected


def test_the_sentences_name_all_and_the_remedy():
    assert not [*sentences(Left()), *sentences(Left(opened=(Open("stream"),)))]
    (threads,) = sentences(Left(threads=("poller",)))
    assert "starts threads (poller)" in threads
    one = Open("stream", peer="10.0.0.1:6379", owner="a.CACHE")
    shared, threads = sentences(Left((one, one), ("poller",), ("sleep 60 (pid 7)",), ("a.LOOP",)))
    for word in ("10.0.0.1:6379 (a.CACHE)", "sleep 60", "a.LOOP", "start()", "`spawn = true`"):
        assert shared.count(word) == 1
    for word in ("poller", "start()", "`spawn = true`"):
        assert threads.count(word) == 1
    (many,) = sentences(Left(threads=tuple(f"worker-{number}" for number in range(40))))
    assert "worker-4 and 35 more" in many


@pytest.mark.alone  # a worker of pytest begins threads and opens pipes as it likes
def test_a_new_database_is_one_though_it_is_empty_so_far(tmp_path: Path):
    watch = Watch()
    connection = sqlite3.connect(tmp_path / "new.db")
    with (tmp_path / "report").open("w") as report:
        (said,) = sentences(watch.left())
    connection.close()
    assert f"the SQLite database {tmp_path}/new.db" in said
    assert f"the file {report.name}, open for writing" in said
