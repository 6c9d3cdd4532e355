"""A browser of somebody who is signed in: visits an address, allows it, follows where it is sent.

python -m tests.visitor ADDRESS
"""

from __future__ import annotations

import re
import sys
from html import unescape

import httpx2


def visit(address: str) -> None:
    with httpx2.Client(cookies={"user": "ada"}, timeout=30, follow_redirects=True) as client:
        page = client.get(address)
        form = re.search(r'<form method="post" action="([^"]+)"', page.text)
        if form is not None:  # the consent
            hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text)
            fields = {name: unescape(value) for name, value in hidden}
            page = client.post(
                page.url.join(unescape(form[1])), data=fields | {"decision": "allow"}
            )
        page.raise_for_status()


if __name__ == "__main__":
    visit(sys.argv[1])
