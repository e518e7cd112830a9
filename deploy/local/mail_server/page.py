"""The page that shows the mails."""

from http import HTTPStatus

from flask import Flask, Response, abort, render_template

from deploy.local.mail_server.mailbox import Mail, Mailbox

#: Mails on the page.
SHOWN = 100

#: What a mail's HTML may do: show itself. It comes from templates, and customers wrote parts of it.
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


def create_app(mailbox: Mailbox) -> Flask:
    """Return the page of a mailbox."""
    app = Flask(__name__)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}

    def found(number: int) -> Mail:
        return mailbox.get(number) or abort(HTTPStatus.NOT_FOUND)

    @app.get("/")
    def index() -> str:
        return render_template("index.html", mails=mailbox.newest(SHOWN), count=mailbox.count)

    @app.get("/mails/<int:number>")
    def mail(number: int) -> str:
        return render_template("mail.html", mail=found(number))

    @app.get("/mails/<int:number>/html")
    def html(number: int) -> Response:
        shown = Response(found(number).html, content_type="text/html; charset=utf-8")
        shown.headers["Content-Security-Policy"] = _SANDBOX
        return shown

    @app.get("/mails/<int:number>/source")
    def source(number: int) -> Response:
        return Response(found(number).content, content_type="text/plain; charset=utf-8")

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
