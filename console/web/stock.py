"""What is in stock."""

from flask import Blueprint, current_app, render_template, request

from console.actions import stock as actions
from console.settings import ConsoleSettings

stock = Blueprint("stock", __name__)

#: SKUs on one page.
LIMIT = 500


@stock.get("/stock")
def show() -> str:
    """Show the level of each SKU, or of those whose name holds what was asked for."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    wanted = request.args.get("sku", "").strip()
    found = [level for level in actions.show(settings) if wanted.casefold() in level.sku.casefold()]
    return render_template(
        "stock.html", levels=found[:LIMIT], more=max(0, len(found) - LIMIT), wanted=wanted
    )
