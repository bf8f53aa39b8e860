"""Credentials for HTTP APIs, against a real server: they arrive there, and nowhere else."""

import base64
import logging
import time
from typing import Any

import pytest
from werkzeug import Request, Response

from foundation.errors import ConfigError, SourceError
from foundation.sources import OAuth2Auth
from ingestion.readers.apis.answer import Stopped
from ingestion.readers.apis.auth import Token
from tests.api_bench import PAGED, QUICK, ApiBench, json_response, loads_of, records_of

OAUTH2 = {
    "type": "oauth2",
    "token_url": "${API_BASE_URL}/token",
    "client_id": "lab",
    "client_secret": "${API_KEY}",
    "scope": "read",
}


class TokenServer:
    """An OAuth 2 server beside /people, which takes the tokens that it gave last."""

    def __init__(self, api: ApiBench, **answer: Any) -> None:
        self.given: list[str] = []
        self.bodies: list[dict[str, str]] = []
        self.answer = answer
        self.takes_form_alone = False
        api.serve(self._token, "/token")
        api.serve(self._people)

    def _token(self, request: Request) -> Response:
        self.bodies.append(dict(request.form))
        time.sleep(0.02)  # so that threads meet here
        if not self._is_right(request):
            return json_response({"error": "invalid_client"}, status=401)
        self.given.append(f"token-{len(self.given)}")
        return json_response({"access_token": self.given[-1], "token_type": "bearer", **self.answer})

    def _is_right(self, request: Request) -> bool:
        if self.takes_form_alone:
            return (request.form.get("client_id"), request.form.get("client_secret")) == ("lab", "s3cret")
        auth = request.authorization
        return auth is not None and (auth.username, auth.password) == ("lab", "s3cret")

    def _people(self, request: Request) -> Response:
        if not self.given or request.headers.get("Authorization") != f"Bearer {self.given[-1]}":
            return Response("who are you", 401)
        at = int(request.args.get("page", 1))
        return json_response({"data": [{"id": at}] if at <= 8 else []})


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "bearer", "token": "${API_KEY}"}, "Authorization", "Bearer s3cret"),
        ({"type": "api_key", "key": "${API_KEY}"}, "X-API-Key", "s3cret"),
        ({"type": "api_key", "key": "${API_KEY}", "header": "X-Token"}, "X-Token", "s3cret"),
        (
            {"type": "basic", "user": "ann", "password": "${API_KEY}"},
            "Authorization",
            f"Basic {base64.b64encode(b'ann:s3cret').decode()}",
        ),
    ],
)
def test_a_secret_goes_into_its_header(api: ApiBench, auth: dict[str, str], header: str, value: str) -> None:
    api.serve(lambda request: Response(f'[{{"right": {str(request.headers.get(header) == value).lower()}}}]'))
    assert records_of(api.read(auth=auth)) == ['{"right": true}']


def test_a_key_in_the_query_shows_nowhere(api: ApiBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(request: Request) -> Response:
        assert request.args["api_key"] == "s3cret"
        if request.args["page"] == "3":
            return Response(f"no more for {request.args['api_key']}", 403)
        return json_response({"data": [{"id": request.args["page"]}]})

    api.serve(answer)
    parcels = []
    with pytest.raises(SourceError, match=r"answered 403: no more for \*\*\*") as caught:
        parcels.extend(api.stream(1, auth={"type": "api_key", "key": "${API_KEY}", "param": "api_key"}, **PAGED))
    assert [load.location for load in loads_of(parcels)] == [
        "${API_BASE_URL}/people?page=1",
        "${API_BASE_URL}/people?page=2",
    ]
    ours = [record.getMessage() for record in caplog.records if record.name != "werkzeug"]
    assert "s3cret" not in caught.value.one_line() + repr(parcels) + "".join(ours)


def test_headers_carry_the_key_and_a_missing_name_is_told(api: ApiBench) -> None:
    api.serve(lambda request: Response("[]" if request.headers["Authorization"] == "Bearer s3cret" else "no"))
    api.read(headers={"Authorization": "Bearer ${API_KEY}"})
    with pytest.raises(ConfigError, match="NO_SUCH_NAME is not set"):
        api.read(headers={"X-Key": "${NO_SUCH_NAME}"})


@pytest.mark.parametrize("secret", ["s3cret\n", " s3cret", "sécret"])
def test_a_secret_that_no_header_can_hold_is_told_without_showing_it(api: ApiBench, secret: str) -> None:
    api.variables["API_KEY"] = secret
    with pytest.raises(ConfigError, match="X-API-Key has a character") as caught:
        api.read(auth={"type": "api_key", "key": "${API_KEY}"})
    assert secret.strip() not in caught.value.one_line()


def test_a_user_in_the_address_shows_nowhere(api: ApiBench) -> None:
    api.serve(lambda _: Response("gone", 404))
    url = api.variables["API_BASE_URL"].replace("//", "//ann:s3cret@")
    with pytest.raises(SourceError, match="answered 404") as caught:
        api.read(url=f"{url}/people")
    assert "s3cret" not in caught.value.one_line()


def test_a_token_is_fetched_once_for_all_threads(api: ApiBench) -> None:
    tokens = TokenServer(api, expires_in=3600)
    assert len(records_of(api.read(4, auth=OAUTH2, **PAGED))) == 8
    assert tokens.bodies == [{"grant_type": "client_credentials", "scope": "read"}]


@pytest.mark.parametrize("expires_in", [None, "soon", "3600"])
def test_a_token_may_say_nothing_that_can_be_read_of_its_life(api: ApiBench, expires_in: str | None) -> None:
    tokens = TokenServer(api, expires_in=expires_in)
    assert len(records_of(api.read(auth=OAUTH2, **PAGED))) == 8
    assert len(tokens.given) == 1


def test_a_token_that_expires_is_fetched_again(api: ApiBench) -> None:
    tokens = TokenServer(api, expires_in=0.05)
    assert len(records_of(api.read(1, auth=OAUTH2, rate_limit={"requests": 1, "per_seconds": 0.06}, **PAGED))) == 8
    assert len(tokens.given) > 3


def test_a_token_that_the_server_forgot_is_fetched_again_once(api: ApiBench) -> None:
    tokens = TokenServer(api, expires_in=3600)
    with api.clients(1) as clients:
        reader = api.reader(clients, {"auth": OAUTH2, **PAGED})
        reader.first_page()
        tokens.given.append("another")  # what was given before is worth nothing now
        reader.first_page()
    assert len(tokens.bodies) == 2


def test_a_server_that_takes_no_token_is_not_asked_for_ever(api: ApiBench) -> None:
    tokens = TokenServer(api, expires_in=3600)
    api.serve(lambda _: Response("no", 401), "/closed")
    with pytest.raises(SourceError, match="answered 401"):
        api.read(auth=OAUTH2, url="${API_BASE_URL}/closed")
    assert len(tokens.given) == 2


def test_a_token_endpoint_that_wants_a_form_gets_one(api: ApiBench) -> None:
    TokenServer(api).takes_form_alone = True
    assert len(records_of(api.read(auth=OAUTH2, **PAGED))) == 8


def test_a_token_endpoint_that_fails_for_a_while_is_asked_again(api: ApiBench) -> None:
    TokenServer(api)
    answers = iter([Response("", 503), Response("", 429), Response("{", content_type="application/json")])
    api.server.clear_all_handlers()
    tokens = TokenServer(api)
    api.server.clear_all_handlers()
    api.serve(tokens._people)
    api.serve(lambda request: next(answers, None) or tokens._token(request), "/token")
    assert len(records_of(api.read(auth=OAUTH2, retry={**QUICK, "attempts": 4}, **PAGED))) == 8


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"error": "invalid_client", "secret": "s3cret"}', 401, "the token endpoint answered 401"),
        ("{}", 200, "gave no access_token"),
        ("<html>", 200, "is not JSON"),
        ("", 503, "the token endpoint answered 503"),
    ],
)
def test_a_token_that_cannot_be_had_is_a_clear_error(api: ApiBench, body: str, status: int, words: str) -> None:
    api.serve(lambda _: Response(body, status), "/token")
    with pytest.raises(SourceError, match=words) as caught:
        api.read(auth=OAUTH2, **PAGED)
    assert "${API_BASE_URL}/token" in caught.value.one_line()
    assert "s3cret" not in caught.value.one_line()


def test_a_token_that_cannot_be_had_stops_the_ids_at_once(api: ApiBench) -> None:
    api.serve(lambda _: Response("", 403), "/token")
    options = {"url": "${API_BASE_URL}/people/{id}", "for_each": {"source": "talent__teams", "field": "id"}}
    with pytest.raises(SourceError, match="the token endpoint answered 403"):
        api.read(arguments={"ids": [str(number) for number in range(100)]}, auth=OAUTH2, **options)
    assert len(api.requests()) == 1


def test_a_token_endpoint_that_is_not_there_is_told_with_its_host(api: ApiBench) -> None:
    auth = {**OAUTH2, "token_url": "http://127.0.0.1:9/token"}
    with pytest.raises(SourceError, match=r"cannot reach the token endpoint at 127\.0\.0\.1:9: "):
        api.read(auth=auth, retry={**QUICK, "attempts": 1})


def test_a_token_url_that_is_no_url_is_told(api: ApiBench) -> None:
    with pytest.raises(SourceError, match=r"token_url is not a URL: .*mend it in penstock\.yml"):
        api.read(auth={**OAUTH2, "token_url": "http://127.0.0.1:nine/token"})


def test_a_walk_that_stops_while_it_asks_for_a_token_leaves_it_to_the_others() -> None:
    auth = OAuth2Auth.model_validate({**OAUTH2, "token_url": "http://x/token"})
    token = Token(auth, {"API_KEY": "s3cret"}, "auth")

    def stop(_: Token) -> dict[str, Any]:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        token.get(stop)
    assert token.get(lambda _: {"access_token": "abc"}) == "abc"
