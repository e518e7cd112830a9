"""The stock page: levels and movements."""

from flask import Blueprint, current_app, render_template, request

from console.actions import stock as actions
from console.settings import ConsoleSettings

stock = Blueprint("stock", __name__)

#: Maximum number of SKUs on one page.
LIMIT = 500

#: Maximum number of movements that are shown for a SKU that is entered in full.
MOVEMENTS = 50


@stock.get("/stock")
def show() -> str:
    """Show the level of each SKU, or of the SKUs that contain the requested text."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    wanted = request.args.get("sku", "").strip()
    # One more SKU is read than is shown, to detect whether there are more.
    levels = actions.search(settings, wanted, LIMIT + 1)
    exact = next((level.sku for level in levels if level.sku == wanted), None)
    return render_template(
        "stock.html",
        levels=levels[:LIMIT],
        is_cut=len(levels) > LIMIT,
        wanted=wanted,
        movements=actions.moved(settings, exact, MOVEMENTS) if exact else (),
    )
