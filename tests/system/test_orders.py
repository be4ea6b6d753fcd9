"""The order of the contract's section 2, over real HTTP: one order, a carrier who reports, one message."""

from pathlib import Path

from tests.system.harness import Server
from tests.system.partner import Partner

ORDER = """
cycle: orders
connectors: {shop: {}, warehouse: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  order_placed: {webhook: shop, identifier: order-placed, fields: {order: {type: integer, required: true}}}
  book_shipment:
    post: warehouse
    path: /jobs
    body: {job_id: "{{ order_placed.order + 1000 }}"}
    fields: {job_id: {type: integer, required: true}}
  status_changed:
    webhook: shop
    identifier: order-status
    fields: {job_id: {type: integer, required: true}, status: {type: text, required: true}}
    match: {job_id: book_shipment.job_id}
  despatched:
    decide: {left: status_changed.status, is: equals, right: Despatched}
    else: end
  tell_customer:
    post: warehouse
    path: /effects
    body: {message: "Order {{ order_placed.order }} is on its way: {{ status_changed.status }}"}
"""


def test_6_an_order_is_told_once_whenever_its_reports_come(tmp_path: Path) -> None:
    """6.3, 6.5: the first report comes before its booking is answered, and a crash before the last one.

    Given an order, when four reports come, then there are four more passes of one transaction, and one message.
    """
    with Partner() as warehouse:
        (tmp_path / "orders.cycle.yaml").write_text(ORDER % warehouse.url)
        with Server(tmp_path) as server:
            warehouse.callback = f"{server.url}/webhook/order-status"
            placed = server.hit("order-placed", {"order": 7})
            assert (placed.status_code, placed.json()["status"]) == (202, "accepted")
            transaction = placed.json()["transaction"]
            assert server.settled("orders")["completed"] == 1
            for status in ("Picked", "Packed", "Despatched"):
                if status == "Despatched":
                    server.kill()
                    server.start()
                told = server.hit("order-status", {"job_id": 1007, "status": status})
                assert (told.status_code, told.json()["transaction"]) == (202, transaction)
                server.settled("orders")
            shown = server.api(f"transactions/{transaction}")
            assert (shown["status"], shown["pass"]) == ("completed", 5)
            steps = [(one["pass"], one["step"], one["status"]) for one in shown["passes"]]
            assert steps[0] == (1, "order_placed", "done")
            assert steps[1:] == [(number, "status_changed", "done") for number in range(2, 6)]
            assert shown["steps"]["order_placed"]["order"] == 7
            assert [one["transaction"] for one in server.transactions()] == [transaction]
    messages = [body["message"] for body in warehouse.bodies if "message" in body]
    assert messages == ["Order 7 is on its way: Despatched"]
    assert len(warehouse.effects) == sum(warehouse.effects.values()) == 2
