"""Labels: the last word stays, whatever comes when, and what is old goes."""

from sqlalchemy import Connection

from storage import labels, models, retention
from storage.labels import Label
from tests.storage.conftest import START, after


def label(request_id: str, value: str, *, at: int = 0, column: str = "label") -> Label:
    return Label(request_id=request_id, column=column, value=value, at_ns=at)


def model(conn: Connection, name: str = "credit") -> int:
    return models.ensure_model(conn, name, now=START).id


def test_labels_are_found_by_their_requests(conn: Connection) -> None:
    mine, other = model(conn), model(conn, "bread")
    labels.put(conn, mine, [label("a", "1"), label("a", "0.5", column="score")], received_at=START)
    labels.put(conn, other, [label("a", "9"), label("b", "2")], received_at=START)
    assert labels.of_requests(conn, mine, ["a", "b"]) == {("a", "label"): "1", ("a", "score"): "0.5"}
    assert labels.of_requests(conn, other, ["b"]) == {("b", "label"): "2"}
    assert labels.of_requests(conn, mine, []) == {}
    assert labels.count(conn) == 4


def test_more_requests_than_one_statement_takes(conn: Connection) -> None:
    mine = model(conn)
    names = [f"r{n}" for n in range(1203)]
    labels.put(conn, mine, [label(name, name) for name in names], received_at=START)
    assert labels.of_requests(conn, mine, names) == {(name, "label"): name for name in names}


def test_of_two_labels_the_one_known_later_stays_in_whatever_order_they_come(conn: Connection) -> None:
    mine = model(conn)
    labels.put(conn, mine, [label("a", "new", at=2)], received_at=after(1))
    labels.put(conn, mine, [label("a", "old", at=1)], received_at=after(2))
    assert labels.of_requests(conn, mine, ["a"]) == {("a", "label"): "new"}
    labels.put(conn, mine, [label("a", "newer", at=3), label("a", "between", at=2)], received_at=after(3))
    assert labels.of_requests(conn, mine, ["a"]) == {("a", "label"): "newer"}
    labels.put(conn, mine, [label("a", "same moment", at=3)], received_at=after(4))
    assert labels.of_requests(conn, mine, ["a"]) == {("a", "label"): "newer"}
    labels.put(conn, mine, [], received_at=after(4))
    assert labels.count(conn) == 1


def test_old_labels_of_one_model_are_forgotten(conn: Connection) -> None:
    mine, other = model(conn), model(conn, "bread")
    for minute in range(5):
        for one in (mine, other):
            labels.put(conn, one, [label(f"r{minute}", "1")], received_at=after(60 * minute))
    assert retention.drop_labels_before(conn, mine, after(120), limit=1) == 1
    assert retention.drop_labels_before(conn, mine, after(120), limit=10) == 1
    assert retention.drop_labels_before(conn, mine, after(120), limit=10) == 0
    assert set(labels.of_requests(conn, mine, [f"r{n}" for n in range(5)])) == {
        (f"r{n}", "label") for n in (2, 3, 4)
    }
    assert labels.count(conn) == 8
