"""The steps of the demo: each is a line to paste, and its response."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

USER, PASSWORD = "ada", "correct horse battery"
# Any 43 to 128 letters (RFC 7636 §4.1); an app makes new ones each time.
VERIFIER = "demo-" + "0123456789" * 4
_WITH_TOKEN = "Authorization: Bearer $TOKEN"  # noqa: S105 - the variable, which the shell fills in


@dataclass(frozen=True)
class Setup:
    """The server's URL, an app with a secret, and an app without one and its callback."""

    url: str
    callback: str
    confidential: str
    secret: str
    public: str


@dataclass(frozen=True)
class Step:
    """One line for curl, and the expected status.

    `keeps` maps the variables that later lines use to members of the JSON response; `first` is
    what a person has to do before the line is pasted.
    """

    title: str
    expect: str
    url: str
    arguments: tuple[str, ...] = ()
    keeps: Mapping[str, str] = field(default_factory=dict)
    first: str = ""

    @property
    def is_visit(self) -> bool:
        """Whether it needs a browser instead of curl."""
        return self.expect == "a code"

    def command(self) -> list[str]:
        return ["curl", "-s" if self.keeps else "-si", *self.arguments, self.url]

    def line(self) -> str:
        """Return the line to paste."""
        if self.is_visit:
            return (
                f"# Sign in as {USER} with the password: {PASSWORD}\n"
                "# Where no browser opens, open the address in one yourself\n"
                f"python3 -m webbrowser {shlex.quote(self.url)}"
            )
        line = " ".join(map(_quoted, self.command()))
        if _WITH_TOKEN in self.arguments:
            # `echo` of the shell: the arguments of a program can be read by every user.
            sent = line.replace(_quoted(_WITH_TOKEN), "@-")
            return f"echo {_quoted(_WITH_TOKEN)} | {sent}; echo"
        if not self.keeps:
            return f"{line}; echo"
        picks = "; ".join(f'{name}="$(pick {member})"' for name, member in self.keeps.items())
        return f'REPLY="$({line})"\n{picks}; echo "$REPLY"'


def steps(setup: Setup) -> list[Step]:
    """Return the steps in order: later ones use what earlier ones got."""
    recordings, token = f"{setup.url}/api/v1/recordings", f"{setup.url}/oauth/token"
    bearer, post = ("-H", _WITH_TOKEN), ("-X", "POST")
    own = {"client_id": setup.confidential, "client_secret": setup.secret}
    both = {"TOKEN": "access_token", "REFRESH": "refresh_token"}
    exchange = {
        "grant_type": "authorization_code",
        "code": "$CODE",
        "client_id": setup.public,
        "redirect_uri": setup.callback,
        "code_verifier": VERIFIER,
    }
    renewal = {
        "grant_type": "refresh_token",
        "refresh_token": "$REFRESH",
        "client_id": setup.public,
    }
    revocation = {"token": "$REFRESH", "client_id": setup.public}
    return [
        Step("Without a token", "401", recordings),
        Step(
            "An app with a secret gets a token for itself",
            "200",
            token,
            _form({"grant_type": "client_credentials", **own, "scope": "read write"}),
            {"TOKEN": "access_token"},
        ),
        Step("It reads the recordings", "200", recordings, bearer),
        Step("It adds one", "201", recordings, (*post, *bearer)),
        Step("A user signs in, and lets an app without a secret read", "a code", _visit(setup)),
        Step(
            "The app exchanges the code",
            "200",
            token,
            _form(exchange),
            both,
            first="First paste the line CODE=... that the browser shows: it is good for 60 s",
        ),
        Step("It reads in the user's name", "200", recordings, bearer),
        Step("It may not add: the user allowed only reading", "403", recordings, (*post, *bearer)),
        Step("It refreshes its token", "200", token, _form(renewal), both),
        Step("The new token works", "200", recordings, bearer),
        Step("It revokes its tokens", "200", f"{setup.url}/oauth/revoke", _form(revocation)),
        Step("Its access token is refused at once", "401", recordings, bearer),
        Step("And so is its refresh token", "400", token, _form(renewal)),
        Step(
            "Credentials that cannot be read",
            "400",
            recordings,
            ("-H", "Authorization: Bearer a b"),
        ),
    ]


def _visit(setup: Setup) -> str:
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    request = {
        "client_id": setup.public,
        "redirect_uri": setup.callback,
        "response_type": "code",
        "scope": "read",
        "state": "demo",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return f"{setup.url}/oauth/authorize?{urlencode(request)}"


def _form(fields: Mapping[str, str]) -> tuple[str, ...]:
    pairs = [("--data-urlencode", f"{name}={value}") for name, value in fields.items()]
    return tuple(word for pair in pairs for word in pair)


def _quoted(word: str) -> str:
    return f'"{word}"' if "$" in word else shlex.quote(word)
