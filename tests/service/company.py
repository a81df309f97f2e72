"""A company's sign-in in this process: an OpenID provider that remembers whom it let in."""

import base64
import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from fastapi import FastAPI, Form, HTTPException
from joserfc import jwt
from joserfc.jwk import ECKey

ISSUER = "https://id.company.example"
CLIENT = "refunds"


@dataclass
class Company:
    """The provider; `subject` is who sits at the browser, `changes` what a liar puts in a token."""

    subject: str = "u-42"
    changes: dict[str, Any] = field(default_factory=dict)
    is_away: bool = False
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}))
    # Another key than the published one, in a liar's hand; or no signature at all.
    signs_with: ECKey | None = None
    signs: bool = True
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def transport(self) -> httpx2.AsyncBaseTransport:
        """How the service reaches it."""
        return _Line(self)

    def let_in(self, address: str) -> str:
        """What the provider's page does after the person signed in: the way back, with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        code = f"code-{next(self._numbers)}"
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        return f"{urlsplit(asked['redirect_uri']).path}?{back}"

    def application(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def configuration() -> dict[str, Any]:
            return {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
                "id_token_signing_alg_values_supported": ["none", "ES256"],
            }

        @app.get("/keys")
        def keys() -> dict[str, Any]:
            return {"keys": [self.key.as_dict(private=False)]}

        @app.post("/token")
        def token(
            code: Annotated[str, Form()], code_verifier: Annotated[str, Form()]
        ) -> dict[str, Any]:
            asked = self.codes.pop(code, None)
            if asked is None or asked["code_challenge"] != _challenge(code_verifier):
                raise HTTPException(400, "invalid_grant")
            return {"access_token": "a", "token_type": "Bearer", "id_token": self._token(asked)}

        return app

    def _token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": self.subject,
            "aud": CLIENT,
            "nonce": asked["nonce"],
            "iat": now,
            "exp": now + 300,
            **self.changes,
        }
        if not self.signs:
            parts = ({"alg": "none"}, claims)
            return ".".join(_base64(json.dumps(part).encode()) for part in parts) + "."
        return jwt.encode({"alg": "ES256", "kid": "k1"}, claims, self.signs_with or self.key)


@dataclass
class _Line(httpx2.AsyncBaseTransport):
    company: Company

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.company.is_away:
            raise httpx2.ConnectError("nobody is there", request=request)
        reach = httpx2.ASGITransport(app=self.company.application())
        return await reach.handle_async_request(request)


def _challenge(verifier: str) -> str:
    return _base64(hashlib.sha256(verifier.encode()).digest())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
