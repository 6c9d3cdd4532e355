"""The texts of the pages: a catalogue in which an operator can replace each text.

A name in braces is a placeholder for a value; a replacement may use the placeholders of its text.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from unicodedata import bidirectional

from bearerguard.errors import ConfigurationError

TEXTS: Mapping[str, str] = {
    "lang": "en",
    "title": "{page} · {site}",
    "title.error": "Error: {page} · {site}",
    "login.heading": "Sign in",
    "login.lead": "to continue to {client}",
    "login.lead.plain": "to your account at {site}",
    "login.again": "{client} asks you to sign in again, to make sure that it is you",
    "login.username": "Username",
    "login.password": "Password",
    "login.submit": "Sign in",
    "login.problem": "You are not signed in",
    "login.wrong": "The username or the password is wrong. Check both and try again.",
    "login.missing": "Enter your username and your password.",
    "login.stale": "This page was open for too long, or your browser keeps no cookies for this"
    " site. Please try again.",
    "login.throttled": "There were too many attempts. Try again in {wait}.",
    "login.busy": "Many people are signing in right now. Try again in a few seconds.",
    "login.upstream": "Continue with {name}",
    "upstream.heading": "You are not signed in",
    "upstream.again": "Start again",
    "upstream.unavailable": "{upstream} cannot be reached at the moment. Try again in a few"
    " seconds.",
    "upstream.invalid": "{upstream} sent a response that this site does not accept. Start again; if"
    " that does not help, tell whoever runs this site.",
    "upstream.stale": "Signing in at {upstream} took too long, was begun in another browser, or was"
    " finished before.",
    "upstream.refused": "Your account at {upstream} may not sign in here. Ask whoever runs this"
    " site, or use another account.",
    "upstream.cancelled": "You did not sign in at {upstream}.",
    "upstream.busy": "Many people are signing in right now. Try again in a few seconds.",
    "upstream.unmet": "{upstream} could not sign you in as the app demands.",
    "wait.seconds": "{count} seconds",
    "wait.minute": "1 minute",
    "wait.minutes": "{count} minutes",
    "signed_in.heading": "You are signed in",
    "signed_in.lead": "as {name}",
    "signed_in.text": "You can close this page and go back to the app.",
    "sign_out.submit": "Sign out",
    "signed_out.heading": "You are signed out",
    "signed_out.text": "You can close this page.",
    "signed_out.again": "Sign in again",
    "consent.heading": "{client} asks for access to your account",
    "consent.who": "Signed in as {name}",
    "consent.switch": "Use another account",
    "consent.scopes": "If you allow it, {client} can:",
    "consent.no_scopes": "{client} only learns that you have an account.",
    "consent.resource": "It is for",
    "consent.redirect.host": "You will be sent back to",
    "consent.redirect.device": "You will be sent back to an app on this device, at",
    "consent.redirect.app": "You will be sent back to the app that opens",
    "consent.published": "{client} is published at",
    "consent.unknown": "{client} registered itself here. Nobody has checked its name.",
    "consent.local": "It runs on your device. Any program on your device could pretend to be"
    " {client}.",
    "consent.caution": "Allow this only if you started it yourself and trust {client}.",
    "consent.remember": "Do not ask me again when {client} asks for the same",
    "consent.allow": "Allow",
    "consent.deny": "Deny",
    "error.login_link.heading": "This link has expired",
    "error.login_link.text": "Signing in took too long, or the link is incomplete. Go back to the"
    " app that you came from and start again.",
    "error.form.heading": "This page has expired",
    "error.form.text": "It was open for too long, you signed in as somebody else meanwhile, or your"
    " browser keeps no cookies for this site. Go back to the app that you came from and start"
    " again.",
    "error.link.heading": "This link does not work",
    "error.link.malformed": "It is malformed. Go back to the app that you came"
    " from and start again.",
    "error.link.length": "It is too long. Go back to the app that you came from and start again.",
    "error.link.no_app": "It does not name the app that it is for.",
    "error.link.unknown_app": "The app that sent you here is not known.",
    "error.link.app_document": "The app that sent you here has not published what it is in a way"
    " that this site accepts.",
    "error.link.app_unavailable": "The site that says what the app is cannot be reached at the"
    " moment. Go back to the app that you came from and start again.",
    "error.link.no_return": "It does not name the address to return to.",
    "error.link.two_returns": "It names more than one address to return to.",
    "error.link.wrong_return": "It would return you to an address that the app did not register.",
    "error.signed_out.heading": "You are not signed in",
    "error.signed_out.text": "Go back to the app that you came from and start again.",
    "error.request.heading": "This request cannot be read",
    "error.request.text": "It is too long, or it is not a form of this site. Go back to the"
    " app that you came from and start again.",
    "error.busy.heading": "Many people are signing in right now",
    "error.busy.text": "Go back, and try again in a few seconds.",
    "error.unavailable.heading": "This site is not available at the moment",
    "error.unavailable.text": "Please try again in a few seconds.",
    "error.method.heading": "This page does not support this request",
    "error.method.text": "Open it with a link or a form of this site.",
    "error.not_found.heading": "There is no such page",
    "error.not_found.text": "Go back to the app that you came from.",
}


_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


class Texts:
    """The catalogue with an operator's replacements.

    Raises:
        ConfigurationError: a replacement is malformed, is for an unknown text, or has an unknown
            placeholder.
    """

    def __init__(self, replacements: Mapping[str, str] | None = None) -> None:
        given = dict(replacements or {})
        for key, text in given.items():
            if key not in TEXTS:
                raise ConfigurationError(
                    f"texts=: there is no text {key!r}; the names are those of"
                    " bearerguard.server.pages.texts.TEXTS"
                )
            unknown = _names(key, text) - _names(key, TEXTS[key])
            if unknown:
                raise ConfigurationError(
                    f"texts=: {key!r} has no value {{{', '.join(sorted(unknown))}}}"
                )
        self._texts = {**TEXTS, **given}

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values, not escaped: templates escape it."""
        shown = {name: _isolated(value) for name, value in values.items()}
        return self._texts[key].format(**shown)

    def wait(self, seconds: int) -> str:
        """Return a waiting time as text: in seconds below a minute, else in minutes, rounded up."""
        if seconds < 60:  # noqa: PLR2004 - a minute
            return self("wait.seconds", count=seconds)
        minutes = -(-seconds // 60)
        return self("wait.minute") if minutes == 1 else self("wait.minutes", count=minutes)


def _isolated(value: object) -> object:
    """Return a text so that its direction does not change the order of the text around it.

    The isolating characters of Unicode surround what has letters that are written from right to
    left (Unicode Standard Annex 9, §2.5).
    """
    if isinstance(value, str) and any(bidirectional(each) in _RIGHT_TO_LEFT for each in value):
        return f"\u2068{value}\u2069"
    return value


def _names(key: str, text: str) -> set[str]:
    if not isinstance(text, str):
        raise ConfigurationError(f"texts=: pass {key!r} as text")
    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise ConfigurationError(f"texts=: {key!r} is malformed: {error}") from None
    if any(spec for _, spec in fields):
        raise ConfigurationError(f"texts=: {key!r}: write a name in braces without a format")
    return {name for name, _ in fields if name is not None}
