"""The login of a server: who is signed in, and the pages for login, consent and logout.

Combines accounts, sessions, pages and consent; the endpoints import only this file. With
`current_user=`, the app's own login replaces the built-in one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from urllib.parse import urlencode, urlsplit

import argon2

from bearerguard.errors import ConfigurationError
from bearerguard.protocol import names, scope
from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import RateLimit, ThrottleStore
from bearerguard.server.audit import Audit
from bearerguard.server.http import responses
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.login.accounts import Accounts
from bearerguard.server.login.consent import Consent, ConsentAnswer, ConsentRequest
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.devices import DEVICE, DevicePages
from bearerguard.server.login.identities import Identities
from bearerguard.server.login.known_browsers import KnownBrowsers
from bearerguard.server.login.login_endpoint import (
    BUSY_SECONDS,
    LOGOUT,
    LoginEndpoint,
    LoginParts,
    PasswordLogin,
)
from bearerguard.server.login.passwords import PLACES, Passwords
from bearerguard.server.login.prompt import Prompts, unmarked
from bearerguard.server.login.session import (
    LIFETIME,
    ProofLapsed,
    SessionEnded,
    Sessions,
    SignedIn,
)
from bearerguard.server.login.steps import (
    AUTHORIZE,
    LOGIN,
    Demands,
    FurtherProof,
    LoginMethod,
    Logins,
    PendingRequest,
    see_other,
)
from bearerguard.server.login.throttle import PER_ACCOUNT, PER_ADDRESS, Throttle
from bearerguard.server.login.ticket import Tickets
from bearerguard.server.login.upstream_endpoint import EndLogins, UpstreamEndpoint
from bearerguard.server.pages import Link, Pages
from bearerguard.server.pages.branding import Colors
from bearerguard.server.pages.error_pages import ErrorPages
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import USER_ID, has_account, is_user_id
from bearerguard.server.upstream.options import Upstream, check_upstreams
from bearerguard.server.upstream.provider import Provider

# A password sent over TLS (SAML 2.0 Authentication Context §3.4.4): an acr is a URI or a registered
# name (OIDC Core §2), and of the registered names none is a password's.
PASSWORD_ACR = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class User:
    """A user of an app that has its own login.

    Attributes:
        id: identifies the user and never changes; it becomes the `sub` of tokens. It has at most
            255 characters.
        name: the user's name on pages.
        auth_time: when the user logged in, in Unix seconds; None if unknown. Without it, requests
            for a recent login (`max_age`, `prompt=login`) are refused.
        acr: how the user logged in, the name of an authentication context; None if unknown. It
            becomes the `acr` of tokens, and `acr_values` is compared with it.
        amr: the methods by which the user was authenticated, such as ("pwd", "otp") (RFC 8176);
            it becomes the `amr` of tokens.
    """

    id: str
    name: str
    auth_time: float | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleOptions:
    """The options of login and pages.

    Attributes:
        site_name: the server's name on pages; by default the issuer's host.
        logo: a file with the picture beside that name: SVG, PNG, JPEG or WebP, 64 KB at most.
        colors: the colors of pages, `Colors(accent="#0b6e4f")`; they must be easy to read.
        templates: a directory with templates, a `style.css` and a `page.js` that replace the
            built-in ones.
        texts: replacements for texts, by their names in `bearerguard.server.pages.texts`.
        current_user: returns the user who is signed in to your app, or None. It replaces the
            built-in login and requires `login_url`.
        login_url: the URL of your app's login page. The parameter `next` is the URL to return to.
            `prompt=login` means that the user must log in again and return with a new
            `auth_time`; `prompt=select_account` means that the user may choose another account.
            `acr_values` names the authentication contexts of which the user needs one, the
            preferred first, separated by spaces.
        acr_values: the authentication contexts that a login can have, the strongest first. The
            server announces them, and sends users to log in for one of them alone. With
            `current_user=`, they are what your app returns as `User.acr`, none by default. The
            built-in login has one, for passwords: by default that of SAML 2.0,
            `urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport`.
        session_lifetime: seconds until a user must log in again.
        per_account: the limit of login attempts for one login name from one address, and for
            each browser that its user has signed in with before. From all addresses together,
            the limit is three times as high.
        per_address: the limit of login attempts from one address; logins elsewhere are counted
            apart from passwords. Requests without a known address (loopback, a Unix socket) share
            a limit that is five times as high.
        throttle: where login attempts are counted instead of in the database, such as
            `bearerguard.redis.RedisThrottle(url)`; the database counts them while it fails.
        password_parameters: argon2id's; by default the second recommended option of RFC 9106 §4.
        upstreams: where users can sign in besides, each an `UpstreamLogin` or a `GitHubLogin`.
        password_login: whether users can sign in with a password here. Without it and with one
            upstream, the login page goes there at once.
    """

    site_name: str | None = None
    logo: str | PathLike[str] | None = None
    colors: Colors | None = None
    templates: str | PathLike[str] | None = None
    texts: Mapping[str, str] | None = None
    current_user: Callable[[Request], User | None] | None = None
    login_url: str | None = None
    acr_values: Sequence[str] | None = None
    session_lifetime: int = LIFETIME
    per_account: RateLimit = PER_ACCOUNT
    per_address: RateLimit = PER_ADDRESS
    throttle: ThrottleStore | None = None
    password_parameters: argon2.Parameters | None = None
    upstreams: Sequence[Upstream] = ()
    password_login: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "upstreams", check_upstreams(self.upstreams))
        if self.upstreams and self.current_user is not None:
            raise ConfigurationError(
                "upstreams=: your app's own login signs users in: leave out current_user= and"
                " login_url=, or sign in elsewhere in your app"
            )
        if not self.password_login and not self.upstreams and self.current_user is None:
            raise ConfigurationError(
                "password_login=False: nobody could sign in: pass upstreams=, or current_user="
            )


class People:
    """The login of one authorization server.

    Args:
        database: stores accounts, sessions, consent and login attempts.
        issuer: the server's URL.
        secret: derives the keys of tickets and digests.
        clock: returns Unix seconds.
        audit: receives the events.
        on_disabled: called with the id of a disabled user; revokes all grants of that user.
        options: the operator's choices.
        password_places: how many password checks may run or wait at once, and how many requests
            may wait for each upstream.
        providers: the upstreams of `options`.
        end_logins: ends what began by a login elsewhere.
        methods: make further login methods, which the login page offers after the others.
        further: make the proofs that a login may owe after the first, the strongest first.

    Raises:
        ConfigurationError: an option is not valid.
    """

    def __init__(
        self,
        database: Database,
        *,
        issuer: str,
        secret: ServerSecret,
        clock: Callable[[], float],
        audit: Audit,
        on_disabled: Callable[[str], object],
        options: PeopleOptions | None = None,
        password_places: int = PLACES,
        providers: Sequence[Provider] = (),
        end_logins: EndLogins | None = None,
        methods: Sequence[Callable[[LoginParts], LoginMethod]] = (),
        further: Sequence[Callable[[LoginParts], FurtherProof]] = (),
    ) -> None:
        options = options or PeopleOptions()
        if (options.current_user is None) != (options.login_url is None):
            raise ConfigurationError("current_user=, login_url=: pass both, or neither")
        by_password = _acr_values(options)
        parts = urlsplit(issuer)
        self._audit = audit
        self._issuer = issuer
        self._base = parts.path.rstrip("/")
        self._current_user = options.current_user
        self._login_url = options.login_url
        cookies = Cookies(issuer)
        tickets = Tickets(secret.sealer("tickets of the pages"), clock)
        csrf = Csrf(cookies, tickets)
        self._pages = Pages(
            _site_name(options, parts.netloc),
            templates=options.templates,
            texts=options.texts,
            logo=options.logo,
            colors=options.colors,
        )
        self.errors: ErrorPages = ErrorPages(self._pages, audit, self._base)
        self._sessions = Sessions(
            database,
            cookies,
            secret,
            clock,
            lifetime=options.session_lifetime,
            acr=next(iter(by_password), None),
        )
        passwords = Passwords(options.password_parameters, places=password_places)
        self.accounts: Accounts = Accounts(
            database,
            passwords,
            clock,
            audit=audit,
            on_disabled=on_disabled,
            on_unlinked=lambda user_id, issuer: (end_logins or _end_nothing)(
                issuer, user_id=user_id, sid=None, reason="identity_unlinked"
            ),
        )
        self._consent = Consent(
            self._base,
            database,
            pages=self._pages,
            errors=self.errors,
            csrf=csrf,
            tickets=tickets,
            clock=clock,
        )
        self._csrf = csrf
        self.throttle: Throttle = Throttle(
            database,
            secret,
            clock,
            audit=audit,
            shared=options.throttle,
            per_account=options.per_account,
            per_address=options.per_address,
        )
        known_browsers = KnownBrowsers(cookies, tickets, self.accounts.password_mark)
        only_elsewhere = not options.password_login and len(providers) == 1
        # An app's own login may be on another site, or lead to one at once.
        leads_on = only_elsewhere or options.current_user is not None
        self.devices: DevicePages = DevicePages(
            self._base,
            pages=self._pages,
            errors=self.errors,
            csrf=csrf,
            tickets=tickets,
            throttle=self.throttle,
            switch_action="" if options.current_user else self._base + LOGOUT,
            leads_on=leads_on,
        )
        self._logins = Logins(
            self._base,
            tickets=tickets,
            csrf=csrf,
            sessions=self._sessions,
            secret=secret,
            clock=clock,
            audit=audit,
        )
        self.upstreams: UpstreamEndpoint = UpstreamEndpoint(
            issuer,
            providers,
            pages=self._pages,
            errors=self.errors,
            csrf=csrf,
            tickets=tickets,
            throttle=self.throttle,
            logins=self._logins,
            identities=Identities(database, clock, audit=audit),
            database=database,
            secret=secret,
            audit=audit,
            clock=clock,
            places=password_places,
            end_logins=end_logins or _end_nothing,
        )
        # The paths, relative to the issuer's, of what may wait for an issuer elsewhere, each with
        # the name of the places that it waits in.
        self.waiting_paths: Mapping[str, str] = self.upstreams.waiting_paths
        if only_elsewhere:
            self.waiting_paths |= {LOGIN: providers[0].key}  # it goes there at once
        self.parts: LoginParts = LoginParts(
            base=self._base,
            pages=self._pages,
            errors=self.errors,
            csrf=csrf,
            tickets=tickets,
            logins=self._logins,
            accounts=self.accounts,
            sessions=self._sessions,
            throttle=self.throttle,
            known_browsers=known_browsers,
            audit=audit,
            leads_on=leads_on,
        )
        self._login_endpoint = LoginEndpoint(self.parts)
        password = PasswordLogin(self._login_endpoint, self.parts, acr_values=by_password)
        joined: list[LoginMethod] = [password] if options.password_login else []
        joined += [self.upstreams, *(make(self.parts) for make in methods)]
        proofs = [make(self.parts) for make in further]
        self._logins.join(joined, proofs)
        steps: list[LoginMethod | FurtherProof] = [*proofs, *joined]
        self._steps = {path: each for each in steps for path in each.paths}
        self.acr_values: tuple[str, ...] = tuple(
            dict.fromkeys(
                (
                    *(value for each in proofs for value in each.acr_values),
                    *by_password,  # an app's own login is no method
                    *(value for each in joined for value in each.acr_values),
                )
            )
        )
        self.prompts: Prompts = Prompts(
            database=database,
            tickets=tickets,
            csrf=csrf,
            secret=secret,
            clock=clock,
            acr_values=self.acr_values,
        )

    @property
    def has_accounts(self) -> bool:
        """Whether users sign in here, with an account and sessions, and not by `current_user=`."""
        return self._current_user is None

    @property
    def paths(self) -> frozenset[str]:
        """The paths that `handle` serves, relative to the issuer's path."""
        if self._current_user:
            return frozenset()
        return frozenset({LOGIN, LOGOUT, *self._steps})

    def signed_in(self, request: Request) -> SignedIn | None:
        """Return the user who is signed in, or None.

        Raises:
            ConfigurationError: `current_user=` returned neither a `User` with an id nor None, or
                one whose `acr` is malformed.
        """
        if self._current_user is None:
            return self._sessions.signed_in(request)
        user = self._current_user(request)
        if user is None:
            return None
        if not isinstance(user, User) or not user.id:
            raise ConfigurationError("current_user=: return a User with an id, or None")
        if not is_user_id(user.id):
            raise ConfigurationError(f"current_user=: return a User whose id has {USER_ID}")
        if user.acr is not None and not _is_acr(user.acr):
            raise ConfigurationError(f"current_user=: return a User whose acr has {_ACR}")
        if not isinstance(user.amr, tuple) or not all(isinstance(each, str) for each in user.amr):
            raise ConfigurationError("current_user=: return a User whose amr is a tuple of texts")
        return SignedIn(user.id, user.name, user.auth_time, user.acr, user.amr)

    def ask_to_sign_in(
        self,
        request: Request,
        *,
        query: str,
        signed_in: SignedIn | None = None,
        client_name: str,
        redirect_uri: str = "",
        prompt: str = "",
        acr_values: Collection[str] = (),
        path: str = AUTHORIZE,
        demands: Demands | None = None,
    ) -> Response:
        """Return a redirect to the login, which returns to the authorization request `query`.

        `path` is where it returns to, below the issuer's path.
        `signed_in` is who is signed in so far, None for nobody.
        The login page's security policy depends on `redirect_uri`, the client's, because Chromium
        applies `form-action` to all redirects after a form's POST. `prompt` is "login" for a new
        login, "select_account" for a choice of accounts, and "" otherwise. `acr_values` are what
        the login may be. `demands` are passed on to an issuer elsewhere.
        """
        cookies: tuple[tuple[str, str], ...] = ()
        if prompt:
            browser, cookies = self._csrf.browser(request)
            query = self.prompts.marked(query, browser, signed_in)
        if self._login_url is None:
            return see_other(
                self._logins.location(
                    PendingRequest(
                        path=path,
                        query=query,
                        client_name=client_name,
                        redirect_uri=redirect_uri,
                        again=prompt == "login",
                        demands=demands or Demands(),
                    )
                ),
                *cookies,
            )
        here = f"{self._issuer.rstrip('/')}{path}" + (f"?{query}" if query else "")
        joint = "&" if "?" in self._login_url else "?"
        asked = {"next": here, "prompt": prompt, "acr_values": " ".join(acr_values)}
        given = {name: value for name, value in asked.items() if value}
        return see_other(f"{self._login_url}{joint}{urlencode(given)}", *cookies)

    def is_enabled(self, connection: Connection, user_id: str) -> bool:
        """Whether a user may still act; the users of an app's own login have no account here."""
        return not self.has_accounts or has_account(connection, user_id)

    def is_signed_in(self, connection: Connection, signed_in: SignedIn) -> bool:
        """Whether a user's session is valid; the users of an app's own login have none here."""
        return not self.has_accounts or self._sessions.is_valid(connection, signed_in)

    def check_session(self, connection: Connection, signed_in: SignedIn) -> None:
        """Raise `SessionEnded` if a user's session has ended since `signed_in` was read."""
        if not self.is_signed_in(connection, signed_in):
            raise SessionEnded("the session has ended")

    def sign_in_for(self, path: str, *, again: bool = False) -> Response:
        """Return a redirect to the login, which returns to a page of this server.

        `path` is relative to the issuer's path. `again`: whether those who are signed in must log
        in, too.
        """
        if self._login_url is None:
            return see_other(
                self._logins.location(
                    PendingRequest(
                        path=path,
                        client_name=self._pages.site,
                        again=again,
                        demands=Demands("login") if again else Demands(),
                    )
                )
            )
        given = {"next": self._issuer.rstrip("/") + path} | ({"prompt": "login"} if again else {})
        joint = "&" if "?" in self._login_url else "?"
        return see_other(f"{self._login_url}{joint}{urlencode(given)}")

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        path = urlsplit(request.url).path.removeprefix(self._base)
        if path not in self.paths:
            return self.not_found()
        step = self._steps.get(path)
        if step is not None and (path != LOGIN or request.method == "POST"):
            try:
                return step.handle(request)
            except ProofLapsed as lapsed:
                return self._begin_again(path, lapsed)
        if request.method not in {"GET", "HEAD", "POST"}:
            return self.wrong_method(request, path, "GET", "HEAD", "POST")
        if path == LOGIN:
            return self._login_endpoint.login(request)
        return self._login_endpoint.logout(request, self._on_to_another_account)

    def ask_consent(
        self, request: Request, signed_in: SignedIn, consent: ConsentRequest
    ) -> Response:
        """Return the consent page; its form is posted to `/oauth/consent`."""
        switch = "" if self._current_user else self._base + LOGOUT
        return self._consent.ask(request, signed_in, consent, switch_action=switch)

    def consent_answer(self, request: Request, signed_in: SignedIn) -> ConsentAnswer | Response:
        """Return the user's decision, or an error page if the form is not valid."""
        return self._consent.answer(request, signed_in)

    def remembered(
        self,
        user_id: str,
        client_id: str,
        resources: Collection[str],
        connection: Connection | None = None,
    ) -> frozenset[str]:
        """Return the scopes that stored consent allows a client at every one of `resources`.

        In the transaction of a `connection`, that consent then stands until the commit.
        """
        return self._consent.remembered(user_id, client_id, resources, connection)

    def remember(
        self,
        connection: Connection,
        user_id: str,
        client_id: str,
        scopes: frozenset[str],
        resources: Collection[str],
    ) -> None:
        """Add scopes to the stored consent, for each of `resources`."""
        self._consent.remember(connection, user_id, client_id, scopes, resources)

    def forget(self, user_id: str, client_id: str | None = None) -> None:
        """Remove a user's stored consent: for one client, or for all if `client_id` is None."""
        forgotten = self._consent.forget(user_id, client_id)
        if forgotten:
            self._audit.emit(
                "consents_forgotten", user_id=user_id, client_id=client_id, consents=forgotten
            )

    def start(self) -> Response:
        """Return the start page, which leads to the login."""
        return self._pages.page("start", login=self._login_url or self._base + LOGIN)

    def not_found(self) -> Response:
        """Return the page for an unknown path."""
        back = Link(f"{self._base}/", self._pages.texts("error.back.start"))
        return self._pages.error(404, "not_found", back=back)

    def signed_out(self, endpoint: str) -> Response:
        """Report, and return the page for, a form of somebody who is signed in no more."""
        error = invalid_request("The user is not signed in", "signed_out")
        error.status = 403
        back = Link(self._login_url or self._base + LOGIN, self._pages.texts("error.back.sign_in"))
        return self.errors.show(error, endpoint, "signed_out", back=back)

    def link_back(self, host: str) -> Link:
        """Return the link to an app's own site."""
        return Link(f"https://{host}/", self._pages.texts("error.back.app", host=host))

    def wrong_method(self, request: Request, endpoint: str, *allowed: str) -> Response:
        """Report, and return the page for, a method that the path `endpoint` does not support."""
        error = OAuthError(
            names.INVALID_REQUEST,
            "The method is not allowed here",
            reason="wrong_method",
            status=405,
            headers=(("Allow", ", ".join(allowed)),),
            method=request.method,
        )
        return self.errors.show(error, endpoint, "method")

    def unavailable(self, reference: str) -> Response:
        """Return the page for a server whose store is unavailable."""
        retry = (("Retry-After", responses.RETRY_SECONDS),)
        return self._pages.error(503, "unavailable", headers=retry, reference=reference)

    def busy(self, reference: str) -> Response:
        """Return the page for too many logins at once."""
        retry = (("Retry-After", str(BUSY_SECONDS)),)
        return self._pages.error(503, "busy", headers=retry, reference=reference)

    def too_large(self, reference: str) -> Response:
        """Return the page for a form that is too long."""
        return self._pages.error(413, "request", reference=reference)

    def _begin_again(self, endpoint: str, lapsed: ProofLapsed) -> Response:
        """Report, and return the page for, a login that lapsed before it was finished."""
        error = invalid_request("The login is invalid or has expired", lapsed.reason)
        back = Link(self._base + LOGIN, self._pages.texts("error.back.again"))
        return self.errors.show(error, endpoint, "login_link", back=back)

    def _on_to_another_account(self, request: Request, signed_in: SignedIn) -> str:
        """Return the login URL after "Use another account" on a consent page; else ""."""
        if (device := self.devices.posted(request, signed_in)) is not None:
            return self._logins.location(
                PendingRequest(path=DEVICE, query=device, demands=Demands("select_account"))
            )
        posted = self._consent.posted(request, signed_in)
        if posted is None:
            return ""
        # What the request demands counts for the other account, too. A form that an earlier version
        # rendered does not say it: the user is asked once more.
        demands = Demands.read(posted.get("demands", Demands().stored))
        query = unmarked(posted["query"])
        if demands != Demands():
            browser = self._csrf.known_browser(request) or ""
            query = self.prompts.marked(query, browser, signed_in)
        # Without select_account, an issuer elsewhere would sign in the same user again.
        prompts = dict.fromkeys((*demands.prompt.split(), "select_account"))
        return self._logins.location(
            PendingRequest(
                query=query,
                client_name=posted["client"],
                redirect_uri=posted["redirect"],
                demands=replace(demands, prompt=" ".join(prompts)),
            )
        )


def _site_name(options: PeopleOptions, host: str) -> str:
    """Return the checked name of the server on pages."""
    name: object = options.site_name
    if name is not None and not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise ConfigurationError(
            'site_name=: pass a name of one line, such as "Field Recordings", or leave it out'
        )
    return options.site_name or host


def _end_nothing(
    issuer: str,
    *,
    user_id: str | None,
    sid: str | None,
    reason: str,
    first: Callable[[Connection], bool] | None = None,
    personal: bool = False,
) -> bool:
    """Stand for the revocations of a process that signs nobody in."""
    del issuer, user_id, sid, reason, first, personal
    return True


_ACR = "no space, quote or backslash, as acr_values separates contexts by spaces"


def _is_acr(value: object) -> bool:
    return isinstance(value, str) and scope.is_scope_token(value)


def _acr_values(options: PeopleOptions) -> tuple[str, ...]:
    """Return the checked authentication contexts of a server's logins."""
    given = options.acr_values
    if given is None:
        return () if options.current_user or not options.password_login else (PASSWORD_ACR,)
    values = () if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(_is_acr(each) for each in values):
        raise ConfigurationError(f"acr_values=: pass a list of names: each has {_ACR}")
    if len(values) > 1 and options.current_user is None:
        raise ConfigurationError(
            "acr_values=: the built-in login knows passwords alone: pass one name, or current_user="
        )
    return values
