"""The shop of a system under test: its orders, its stock and its customers' emails."""

from dataclasses import dataclass
from typing import Any

import httpx

from eventbus.database.db import transaction
from inventory_worker import stock
from inventory_worker.movements import Note
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.system.installation import Installation


@dataclass
class Shop(Installation):
    """An installation as customers and the warehouse use it."""

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.ports.api_port}"

    @property
    def client(self) -> httpx.Client:
        """A client of the API, with the key. Each request may take a minute."""
        bearer = {"Authorization": f"Bearer {self.api_key}"}
        return plain_http.client(base_url=self.url, headers=bearer, timeout=60)

    def place(self, *lines: tuple[str, int], email: str = "ada@example.com") -> str:
        """Place an order for (SKU, quantity) lines over HTTP, and return its id."""
        response = self.post_order(*lines, email=email)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def post_order(
        self,
        *lines: tuple[str, int],
        email: str = "ada@example.com",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Post an order, and return the response, regardless of its status."""
        order = {
            "customer": {"email": email},
            "currency": "EUR",
            "lines": [{"sku": sku, "quantity": n, "unit_price": 500} for sku, n in lines],
        }
        with self.client as client:
            return client.post("/orders", json=order, headers=headers)

    def order(self, order_id: str) -> dict[str, Any]:
        """Return an order as the API represents it."""
        with self.client as client:
            response = client.get(f"/orders/{order_id}")
        assert response.status_code == 200, response.text
        order: dict[str, Any] = response.json()
        return order

    def decided(self, order_id: str, *, within: float = 30) -> tuple[str, str | None]:
        """Wait for the decision about an order, and return its status and reason."""

        def decided() -> tuple[str, str | None]:
            order = self.order(order_id)
            assert order["status"] != "PENDING", order
            return order["status"], order["reason"]

        return eventually(decided, within=within)

    def cancel(self, order_id: str) -> httpx.Response:
        """Cancel an order as its customer."""
        with self.client as client:
            return client.post(f"/orders/{order_id}/cancel")

    def ship(self, order_id: str) -> httpx.Response:
        """Ship an order."""
        with self.client as client:
            return client.post(f"/orders/{order_id}/ship")

    def stock(self, **on_hand: int) -> None:
        """Set the quantity on hand of each SKU."""
        note = Note(reason="counted", entered_by="tests")
        with transaction(self.sessions("inventory")) as session:
            for sku, quantity in on_hand.items():
                stock.count(session, sku, quantity, note)

    def reserved(self, sku: str) -> int:
        """Return the reserved quantity of a SKU."""
        (count,) = self.execute("inventory", "SELECT reserved FROM stock WHERE sku = :sku", sku=sku)
        return int(count)

    def mails(self, email: str = "ada@example.com") -> list[str]:
        """Return the subjects of a customer's emails, sorted by arrival."""
        return [str(m["Subject"]) for m in self.mailbox.messages if email in str(m["To"])]
