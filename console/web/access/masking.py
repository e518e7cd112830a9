"""Addresses on pages: masked for people without the right to read them, otherwise counted."""

import re
from collections import Counter
from collections.abc import Set as AbstractSet

from flask import Response

from eventbus.telemetry.privacy import MASK

#: The pattern of a word of a page, in which an ampersand or an apostrophe is an entity. A word is
#: an email address if it contains an `@`, which is `%40` in a link.
_WORD = re.compile(r"""(?:[^\s<>()\[\],;:"'&]|&(?:amp|\#39);)+""")

#: The pattern of a customer's IP address in the JSON of an event, on a page.
_IP = re.compile(r"(&#34;client_ip&#34;:\s*&#34;)[^&]+")


def apply(response: Response, *, reveals: bool, names: AbstractSet[str]) -> str | None:
    """Mask the addresses on a page or, if it reveals them, return the number of each kind.

    `names` are names of people, which may have the form of an address. Return None if the page
    reveals nothing.
    """
    if response.mimetype != "text/html":
        return None
    found: Counter[str] = Counter()

    def mail(match: re.Match[str]) -> str:
        word = match[0]
        # If an address is partly masked, its page has masked it.
        if not ("@" in word or "%40" in word) or MASK in word or word in names:
            return word
        found["email addresses"] += 1
        return MASK

    def ip(match: re.Match[str]) -> str:
        found["IP addresses"] += 1
        return match[1] + MASK

    html = response.get_data(as_text=True)
    # Most pages contain no address.
    masked = _WORD.sub(mail, html) if "@" in html or "%40" in html else html
    masked = _IP.sub(ip, masked)
    if not found:
        return None
    if reveals:
        return ", ".join(f"{kind}: {found[kind]}" for kind in sorted(found))
    response.set_data(masked)
    return None
