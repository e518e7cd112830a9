"""The page that shows the emails."""

from http import HTTPStatus

from flask import Flask, Response, abort, render_template

from deploy.local.mail_server.mailbox import Mail, Mailbox

#: Maximum number of emails on the page.
SHOWN = 100

#: An email's HTML may only be displayed: it comes from templates, but customers wrote parts of it.
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


def create_app(mailbox: Mailbox) -> Flask:
    """Return the page of a mailbox."""
    app = Flask(__name__)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}

    def existing(number: int) -> Mail:
        return mailbox.get(number) or abort(HTTPStatus.NOT_FOUND)

    @app.get("/")
    def index() -> str:
        return render_template("index.html", mails=mailbox.newest(SHOWN), count=mailbox.count)

    @app.get("/mails/<int:number>")
    def mail(number: int) -> str:
        return render_template("mail.html", mail=existing(number))

    @app.get("/mails/<int:number>/html")
    def html(number: int) -> Response:
        response = Response(existing(number).html, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _SANDBOX
        return response

    @app.get("/mails/<int:number>/source")
    def source(number: int) -> Response:
        return Response(existing(number).content, content_type="text/plain; charset=utf-8")

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app
