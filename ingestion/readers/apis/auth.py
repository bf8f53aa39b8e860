"""How a request proves who sends it. No secret leaves here but in the request itself."""

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
from pydantic import SecretStr

from foundation.errors import ConfigError
from foundation.settings import VARIABLE, expand
from foundation.sources import ApiSource, BasicAuth, BearerAuth, KeyAuth, OAuth2Auth
from ingestion.readers.apis.answer import Fault, Stopped

# A token is renewed this long before it expires, or after nine tenths of its life where that is shorter.
EARLY_SECONDS = 30.0
# Shorter ones would be found in words that tell nothing.
SHORTEST_SECRET = 4

# Sends a form with these headers to the token endpoint; its answer. Raises Fault.
PostForm = Callable[[Mapping[str, str], Mapping[str, str]], Any]


class Token:
    """The access token of a source, shared by its threads: fetched when first needed and when it expires.

    httpx-auth keeps tokens of all sources in one place of the process, lets every waiting thread fetch one of its own,
    cannot read an opaque token without expires_in and does not renew one that a server no longer takes.
    """

    def __init__(self, auth: OAuth2Auth, variables: Mapping[str, str], key: str) -> None:
        """`key` is that of `auth` in the settings."""
        self.url = expand(auth.token_url, variables, f"{key}.token_url")
        self.shown_url = auth.token_url
        self.client_id = expand(auth.client_id, variables, f"{key}.client_id")
        self.client_secret = expand(auth.client_secret.get_secret_value(), variables, f"{key}.client_secret")
        self._form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
        self._lock = threading.Lock()
        self._text = ""
        self._expires_at = 0.0
        self._failure: Exception | None = None

    @property
    def secrets(self) -> list[str]:
        """What nobody may see."""
        return [self.client_secret, self._text]

    def get(self, post: Callable[["Token"], dict[str, Any]], refused: str = "") -> str:
        """A token that is valid and not the one that was `refused`. Raises what `post` raises, and again when asked."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self._text or self._text == refused or time.monotonic() >= self._expires_at:
                try:
                    self._keep(post(self))
                except Stopped:  # says nothing of the token: others may still want it
                    raise
                except Exception as error:
                    self._failure = error
                    raise
            return self._text

    def ask(self, post: PostForm) -> dict[str, Any]:
        """Ask the token endpoint once: as RFC 6749 section 2.3.1 wants it, and, where refused, as it also allows."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        try:
            answer = post(self._form, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"})
        except Fault as fault:
            if fault.reason not in ("http_400", "http_401"):
                raise
            answer = post(self._form | {"client_id": self.client_id, "client_secret": self.client_secret}, {})
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("access_token"), str)
            or not answer["access_token"]
        ):
            raise Fault("no_token", "the token endpoint gave no access_token", passes=False)
        _check_header("access_token", answer["access_token"])
        return answer

    def _keep(self, answer: dict[str, Any]) -> None:
        try:
            life = float(answer.get("expires_in") or "inf")
        except (TypeError, ValueError):
            life = float("inf")
        self._text = answer["access_token"]
        self._expires_at = time.monotonic() + life - min(EARLY_SECONDS, life * 0.1 if life < float("inf") else 0)


@dataclass(frozen=True)
class Credentials:
    """What a source's requests carry: headers, query parameters, and a token where it has one.

    `values` are those of the ${NAME}s that all this is made of.
    """

    headers: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    token: Token | None = None
    secrets: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def may_be_in(self, url: str) -> bool:
        """Whether an address has a parameter of ours or a secret in it, as far as can be told without reading it."""
        return any(f"{name}=" in url for name in self.params) or any(
            secret in url or quote_plus(secret) in url or quote(secret) in url for secret in self.secrets if secret
        )

    def shown_host(self, url: httpx.URL) -> str:
        """Host and port of an address, or nothing where a secret or a part of one is in them."""
        usual = {"http": ":80", "https": ":443"}.get(url.scheme, "")
        place = url.netloc.decode() + (usual if url.port is None else "")
        told = f"{place} {url.host}".lower()  # the host as it is asked for, and as it may have been spelt
        held = (*filter(None, self.values), *self._long_secrets())
        return "" if any(secret.lower() in told for secret in held) else place

    def hide(self, text: str) -> str:
        """`text` with every secret in it left out."""
        for secret in self._long_secrets():
            text = text.replace(secret, "***")
        return text

    def _long_secrets(self) -> list[str]:
        held = (*self.secrets, *(self.token.secrets if self.token else ()))
        return [secret for secret in held if len(secret) >= SHORTEST_SECRET]


def credentials_of(name: str, source: ApiSource, variables: Mapping[str, str]) -> Credentials:
    """The credentials of the source `name`, its ${NAME}s filled in. Raises ConfigError for one that cannot be sent."""

    def filled(secret: SecretStr, key: str) -> str:
        secrets.append(expand(secret.get_secret_value(), variables, f"sources.{name}.{key}"))
        return secrets[-1]

    secrets: list[str] = []
    headers = {header: filled(value, f"headers.{header}") for header, value in source.headers.items()}
    params: dict[str, str] = {}
    token: Token | None = None
    match source.auth:
        case BearerAuth(token=bearer):
            headers["Authorization"] = f"Bearer {filled(bearer, 'auth.token')}"
        case KeyAuth(key=key, header=header, param=param):
            value = filled(key, "auth.key")
            if param:
                params[param] = value
            if header or not param:
                headers[header or "X-API-Key"] = value
        case BasicAuth(user=user, password=password):
            pair = f"{expand(user, variables, f'sources.{name}.auth.user')}:{filled(password, 'auth.password')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
            secrets.append(headers["Authorization"].removeprefix("Basic "))
        case OAuth2Auth(client_secret=secret) as oauth2:
            filled(secret, "auth.client_secret")
            token = Token(oauth2, variables, f"sources.{name}.auth")
    for header, value in headers.items():
        _check_header(header, value)
    # A header such as `Bearer x` is one secret, and so is the x alone.
    secrets += [secret.split()[-1] for secret in secrets if secret.split()]
    return Credentials(
        headers, params, token, tuple(sorted(set(secrets), key=len, reverse=True)), _values(source, variables)
    )


def _values(source: ApiSource, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables that headers, auth and the user in the url name."""
    texts = [secret.get_secret_value() for secret in source.secrets()]
    texts += [getattr(source.auth, name, "") for name in ("user", "client_id")]
    texts += re.findall("//([^/@]*)@", source.url)
    names = {name for text in texts for name in VARIABLE.findall(text)}
    return tuple(variables[name] for name in names if name in variables)


def _check_header(name: str, value: str) -> None:
    """Refuse what no header can hold here, because the error of the library would show it."""
    if not re.fullmatch(r"([!-~]([ -~\t]*[!-~])?)?", value):
        raise ConfigError(
            f"the value of {name} has a character that a header cannot hold",
            where="its value is not shown",
            fix="look for a line break, a blank at an end or a letter that is not ASCII",
        )
