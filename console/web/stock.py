"""What is in stock."""

from flask import Blueprint, current_app, render_template, request

from console.actions import stock as actions
from console.settings import ConsoleSettings

stock = Blueprint("stock", __name__)

#: SKUs on one page.
LIMIT = 500

#: Movements of a SKU that is asked for by its whole name.
MOVEMENTS = 50


@stock.get("/stock")
def show() -> str:
    """Show the level of each SKU, or of those whose name holds what was asked for."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    wanted = request.args.get("sku", "").strip()
    # One more than is shown tells whether there are more.
    found = actions.search(settings, wanted, LIMIT + 1)
    exact = next((level.sku for level in found if level.sku == wanted), None)
    return render_template(
        "stock.html",
        levels=found[:LIMIT],
        is_cut=len(found) > LIMIT,
        wanted=wanted,
        movements=actions.moved(settings, exact, MOVEMENTS) if exact else (),
    )
