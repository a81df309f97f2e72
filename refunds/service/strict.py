"""JSON at the door for programs, read as strictly as at the other doors."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from refunds import intake
from refunds.errors import BadInput


class _StrictRequest(Request):
    """A request whose JSON is read as strictly as at the other doors."""

    async def json(self) -> Any:
        try:
            return intake.read_json(await self.body())
        except BadInput as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


class StrictRoute(APIRoute):
    """A route whose body may hold no field twice, no NaN, and no number of a thousand digits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler, given a request that reads so."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict
