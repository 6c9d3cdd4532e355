"""The texts of the pages: a catalogue in which an operator can replace each text.

A name in braces is a placeholder for a value; a replacement may use the placeholders of its text.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from datetime import UTC, datetime
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
    "login.show": "Show password",
    "login.hide": "Hide password",
    "login.throttled": "There were too many attempts. Try again in {wait}.",
    "login.throttled.over": "You can try again now.",
    "login.busy": "Many people are signing in right now. Try again in a few seconds.",
    "wait.second": "1 second",
    "login.or": "or",
    "login.upstream": "Continue with {name}",
    "upstream.app": "You need to sign in to continue to {client}.",
    "upstream.unavailable": "{upstream} cannot be reached at the moment. Try again in a few"
    " seconds.",
    "upstream.invalid": "{upstream} sent a response that this site does not accept. Start again; if"
    " that does not help, tell whoever runs this site.",
    "upstream.stale": "Signing in at {upstream} took too long, was begun in another browser, or was"
    " finished before.",
    "upstream.refused": "Your account at {upstream} may not sign in here. Ask whoever runs this"
    " site, or use another account.",
    "upstream.cancelled": "You did not sign in at {upstream}.",
    "upstream.unmet": "{upstream} could not sign you in as the app demands.",
    "wait.seconds": "{count} seconds",
    "wait.minute": "1 minute",
    "wait.minutes": "{count} minutes",
    "signed_in.heading": "You are signed in",
    "signed_in.lead": "as {name}",
    "signed_in.text": "You can close this page and go back to the app.",
    "signed_in.account": "Your account",
    "sign_out.submit": "Sign out",
    "signed_out.heading": "You are signed out",
    "signed_out.again": "Sign in again",
    "consent.heading": "{client} asks for access to your account",
    "consent.who": "Signed in as {name}",
    "consent.switch": "Use another account",
    "consent.scopes": "If you allow it, this app can:",
    "consent.scopes.new": "New: if you allow it, this app can also:",
    "consent.scopes.known": "It can already:",
    "consent.scopes.same": "Nothing new: this app can already:",
    "consent.powerful": "Powerful",
    "consent.no_scopes": "This app only learns that you have an account.",
    "consent.resource": "It is for",
    "consent.redirect.host": "You will be sent back to",
    "consent.redirect.device": "You will be sent back to an app on this device, at",
    "consent.redirect.app": "You will be sent back to the app that opens",
    "consent.published": "This app is published at",
    "consent.unknown": "This app registered itself here. Nobody has checked its name.",
    "consent.local": "It runs on your device. Any program on your device could pretend to be"
    " this app.",
    "consent.caution": "Allow this only if you started it yourself and trust this app.",
    "consent.remember": "Do not ask me again when this app asks for the same",
    "consent.allow": "Allow",
    "consent.deny": "Deny",
    "scope.openid": "Know who you are",
    "scope.offline_access": "Stay signed in while you are away",
    "start.heading": "Welcome to {site}",
    "start.text": "Here you sign in to the apps that use {site}. They send you here by themselves"
    " when it is needed.",
    "start.sign_in": "Sign in",
    "error.app": "It is for {client}.",
    "error.reference": "Reference for support:",
    "error.close": "You can close this page.",
    "error.back.again": "Start again",
    "error.back.app": "Go to {host}",
    "error.back.sign_in": "Sign in",
    "error.back.start": "Go to the start page",
    "ago.now": "less than a minute ago",
    "ago.minute": "1 minute ago",
    "ago.minutes": "{count} minutes ago",
    "ago.hour": "1 hour ago",
    "ago.hours": "{count} hours ago",
    "ago.day": "1 day ago",
    "ago.days": "{count} days ago",
    "ago.date": "on {date}",
    "account.heading": "Your account",
    "account.apps": "Apps with access to your account",
    "account.no_apps": "No app has access to your account.",
    "account.published": "Published at {host}",
    "account.host": "Opens at {host}",
    "account.device": "Runs on your device, at {host}",
    "account.app": "Opens by {host}",
    "account.can": "{client} can:",
    "account.no_scopes": "{client} only knows that you have an account.",
    "account.since": "Allowed {since}.",
    "account.used": "Allowed {since}, last used {used}.",
    "account.unused": "It has no access now.",
    "account.remembered": "It gets access again without asking you.",
    "account.sign_ins": "Allowed {count} times",
    "account.sign_in.end": "End this one",
    "account.end": "End access",
    "account.end.of": "End access: {client}",
    "account.end.all": "End access of all apps",
    "account.end.all.tokens": "Tokens that you have made yourself stay valid.",
    "account.more": "You have allowed apps more often than this page can show. The newest are"
    " here.",
    "account.page": "Page {page} of {pages}",
    "account.page.next": "Next page",
    "account.page.previous": "Previous page",
    "account.sessions": "Where you are signed in",
    "account.session.device": "{browser} on {system}",
    "account.session.browser": "{browser}",
    "account.session.system": "Unknown browser on {system}",
    "account.session.unknown": "Unknown browser",
    "account.session.since": "Signed in {since}.",
    "account.session.from": "Signed in {since} from {address}.",
    "account.session.this": "This browser",
    "account.session.end": "Sign out",
    "account.session.end.of": "Sign out: {device}",
    "account.session.end.others": "Sign out everywhere else",
    "account.password": "Change your password",
    "account.tokens": "Your access tokens",
    "account.problem": "Nothing was changed",
    "account.done.app": "{client} has no access to your account any more.",
    "account.done.access": "This access has ended.",
    "account.done.all": "No app has access to your account any more.",
    "account.done.all_but_tokens": "No app has access to your account any more. Tokens that you"
    " have made yourself are still valid.",
    "account.done.session": "That browser is signed out.",
    "account.done.sessions": "You are signed out everywhere else.",
    "account.done.password": "Your password is changed, and you are signed out everywhere else."
    " Apps keep their access.",
    "account.done.password_but_tokens": "Your password is changed, and you are signed out"
    " everywhere else. Apps keep their access, and tokens that you have made stay valid.",
    "password.heading": "Change your password",
    "password.username": "Username",
    "password.current": "Current password",
    "password.new": "New password",
    "password.rule": "The new one needs at least {least} characters, and not your username among"
    " them.",
    "password.repeated": "New password, once more",
    "password.submit": "Change the password",
    "password.back": "Back to your account",
    "password.problem": "Your password is not changed",
    "password.missing": "Fill in all three fields.",
    "password.differ": "You have entered two different new passwords.",
    "password.same": "The new password is the one that you have.",
    "password.short": "The new password needs at least {least} characters.",
    "password.long": "The new password may have at most {most} characters.",
    "password.easy": "The new password is too easy to guess: it contains your username, or it"
    " repeats a few characters.",
    "password.wrong": "The current password is wrong.",
    "device.heading": "Connect a device",
    "device.lead": "Enter the code that your device shows",
    "device.code": "Code",
    "device.submit": "Continue",
    "device.wrong": "The code is wrong, has expired, or was used already. Compare it with what your"
    " device shows, or start again there.",
    "device.missing": "Enter the code that your device shows.",
    "device.compare": "Your device must show the code",
    "device.caution": "Allow this only if a device in front of you shows {code}.",
    "device.sent": "If somebody else has sent you the code or a link, deny it: they would get"
    " access to your account.",
    "device.allowed.heading": "Your device is connected",
    "device.allowed.text": "{client} has access now. You can close this page and go back to your"
    " device.",
    "device.denied.heading": "Your device is not connected",
    "device.denied.text": "{client} gets no access. You can close this page and go back to your"
    " device.",
    "error.device.heading": "This code has expired",
    "error.device.text": "It was open for too long, or was used already. Start again on your"
    " device.",
    "tokens.heading": "Personal access tokens",
    "tokens.lead": "They let your scripts and programs use {site} in your name. Whoever has one can"
    " do what it allows: treat it like a password.",
    "tokens.made": "Your new token {name}",
    "tokens.made.text": "Copy it now: it is shown only this once.",
    "tokens.none": "You have no tokens.",
    "tokens.resource": "For {resource}",
    "tokens.client": "Made by {client}. It ends when you end that app's access.",
    "tokens.dates": "Made {created}, expires {expires}.",
    "tokens.used": "Last used {date}.",
    "tokens.unused": "Never used.",
    "tokens.end": "End",
    "tokens.end.label": "End the token {name}",
    "tokens.new": "Make a token",
    "tokens.name": "Name",
    "tokens.days": "Days until it expires, {max} at most",
    "tokens.scopes": "With it, a program can:",
    "tokens.resources": "It is for:",
    "tokens.submit": "Make the token",
    "tokens.old": "Sign in again to make a token: your last login was too long ago.",
    "tokens.unknown": "Where you sign in did not say when you did. Sign in again; if that does not"
    " help, tokens cannot be made with that login.",
    "tokens.old.submit": "Sign in again",
    "tokens.problem": "No token was made",
    "tokens.problem.name": "Give the token a name of 1 to 100 visible characters.",
    "tokens.problem.scope": "Choose at least one thing that it allows.",
    "tokens.problem.resource": "Choose what it is for.",
    "tokens.problem.lifetime": "Choose a number of days, {max} at most.",
    "tokens.problem.too_many": "You have {count} tokens, and more are not possible. End one first.",
    "tokens.problem.repeated": "This form was sent before. If you have not kept the token that it"
    " made, end that token and make another one.",
    "tokens.problem.throttled": "You have made too many tokens. Try again in {wait}.",
    "tokens.problem.old": "Your last login was too long ago.",
    "tokens.account": "Your account",
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
    "error.link.pushed": "It has expired, or was used already. Go back to the app that you came"
    " from and start again.",
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
    "error.not_found.text": "Check the address, or go back to the app that you came from.",
}

# Values that a replacement may use besides those that its text does.
_ALSO: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            *("consent.scopes", "consent.scopes.new", "consent.scopes.known"),
            *("consent.scopes.same", "consent.no_scopes", "consent.published"),
            *("consent.unknown", "consent.local", "consent.caution", "consent.remember"),
        ),
        frozenset({"client"}),
    ),
}

# Seconds of the units in which a time of the past is told, and from when on it is a date.
_AGO = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_DATED = 30 * 86_400
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
            unknown = _names(key, text) - _names(key, TEXTS[key]) - _ALSO.get(key, frozenset())
            if unknown:
                raise ConfigurationError(
                    f"texts=: {key!r} has no value {{{', '.join(sorted(unknown))}}}"
                )
        self._texts = {**TEXTS, **given}

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values, not escaped: templates escape it."""
        shown = {name: _isolated(value) for name, value in values.items()}
        return self._texts[key].format(**shown)

    def scope(self, name: str, description: str) -> str:
        """Return a scope's description, or what OpenID Connect's scopes without one mean."""
        text = self._texts.get(f"scope.{name}") if description == name else None
        return description if text is None else text

    def wait(self, seconds: int) -> str:
        """Return a waiting time as text: in seconds below a minute, else in minutes, rounded up."""
        if seconds < 60:  # noqa: PLR2004 - a minute
            return self("wait.second") if seconds == 1 else self("wait.seconds", count=seconds)
        minutes = -(-seconds // 60)
        return self("wait.minute") if minutes == 1 else self("wait.minutes", count=minutes)

    def ago(self, at: float, now: float) -> str:
        """Return a time of the past as text: how long ago it is, or its day in UTC (RFC 3339).

        Args:
            at: the time, in Unix seconds.
            now: what it is now, in Unix seconds.
        """
        seconds = now - at
        if seconds < _AGO[-1][0]:
            return self("ago.now")  # or later, by the clock of another machine
        for size, unit in _AGO:
            if (count := int(seconds // size)) >= 1 and count * size < _DATED:
                return self(f"ago.{unit}") if count == 1 else self(f"ago.{unit}s", count=count)
        return self("ago.date", date=datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d"))


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
