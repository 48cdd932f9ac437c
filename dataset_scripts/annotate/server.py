"""The HTTP side of Label Studio's ML-backend protocol: /health, /setup, /predict, /webhook.

Paths, bodies and answers are those of label-studio-ml-backend's `api.py`; the models answer one request at a time. A
request that is wrong is answered with its status and `{"status": ..., "detail": ...}`.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from .label_studio import answer_task, model_version, read_label_config
from .propagate import Propagator
from .requests import BadRequestError, ModelFailedError, as_list, as_mapping

__all__ = ["AnnotationServer", "Credentials"]

LOG = logging.getLogger(__name__)
TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")
MOST_TASKS = 50  # per request
SOCKET_TIMEOUT_S = 60.0  # for a request to arrive
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Credentials:
    """Basic authentication, as Label Studio's form for a model takes it."""

    user: str
    password: str = field(repr=False)

    def match(self, header: str | None) -> bool:
        """Whether an `Authorization` header holds them; takes as long for a wrong one."""
        wanted = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return hmac.compare_digest(wanted.encode(), (header or "").encode())


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class AnnotationServer(ThreadingHTTPServer):
    """Serves one `Propagator`."""

    daemon_threads = True

    def __init__(self, propagator: Propagator, credentials: Credentials | None = None) -> None:
        """Bind to the address of the configuration.

        Raises:
            ValueError: an address that others reach, without credentials.
            OSError: the address is taken.
        """
        config = propagator.config
        if config.host not in LOOPBACK and credentials is None:
            raise ValueError(
                f"host={config.host!r} is reached by other machines: set BASIC_AUTH_USER and BASIC_AUTH_PASS and give "
                "them to Label Studio, or serve on 127.0.0.1."
            )
        super().__init__((config.host, config.port), _Handler)
        self.propagator, self.credentials = propagator, credentials
        self.version = model_version(propagator)
        self.places = threading.BoundedSemaphore(config.max_waiting + 1)

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer /predict.

        Raises:
            BadRequestError: the request is wrong.
        """
        config = read_label_config(body.get("label_config"))
        tasks = as_list(body.get("tasks"), "tasks", MOST_TASKS)
        context = as_mapping(body.get("params") or {}, "params").get("context")
        results = [answer_task(task, config, context or None, self.propagator, self.version) for task in tasks]
        return {"results": results}

    def setup(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer /setup: the project's configuration is looked at, nothing is kept."""
        read_label_config(body.get("schema"))
        return {"model_version": self.version}


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: AnnotationServer
    timeout = SOCKET_TIMEOUT_S
    server_version = "elysium"
    sys_version = ""
    _known: ClassVar[tuple[str, ...]] = ("/predict", "/setup", "/webhook")

    def do_GET(self) -> None:
        """Tell that the server is up."""
        self._answer(self._health)

    def do_POST(self) -> None:
        """Answer a request of the protocol."""
        self._answer(self._post)

    def _answer(self, make: Callable[[], tuple[HTTPStatus, dict[str, Any]]]) -> None:
        try:
            if self.server.credentials is not None and not self.server.credentials.match(
                self.headers["Authorization"]
            ):
                raise _RefusedError(HTTPStatus.UNAUTHORIZED, "user or password are missing or wrong.")
            status, body = make()
        except _RefusedError as error:
            status, body = error.status, {"status": error.status, "detail": error.detail}
        except BadRequestError as error:
            status, body = HTTPStatus.BAD_REQUEST, {"status": HTTPStatus.BAD_REQUEST, "detail": str(error)}
        except ModelFailedError as error:
            LOG.exception("a model failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            body = {"status": status, "detail": str(error)}
        except Exception:
            LOG.exception("a request failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            body = {"status": status, "detail": "the server failed; its log says how."}
        if status >= HTTPStatus.BAD_REQUEST:
            self.close_connection = True  # the body may not have been read
        self._send(status, body)

    def _send(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="Login required"')
        self.end_headers()
        self.wfile.write(content)

    def _health(self) -> tuple[HTTPStatus, dict[str, Any]]:
        if self.path.split("?")[0] not in ("/", "/health"):
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"{self.path[:80]!r} is unknown; GET /health.")
        return HTTPStatus.OK, {"status": "UP", "model_class": self.server.version}

    def _post(self) -> tuple[HTTPStatus, dict[str, Any]]:
        path = self.path.split("?")[0]
        if path not in self._known:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"{self.path[:80]!r} is unknown; POST {', '.join(self._known)}.")
        body = self._body()
        if path == "/setup":
            return HTTPStatus.OK, self.server.setup(body)
        if path == "/webhook":
            known = body.get("action") in TRAIN_EVENTS
            # nothing is learned from annotations here; the protocol wants to be told that the event came
            return (HTTPStatus.CREATED, {"result": {}, "status": "ok"}) if known else (
                HTTPStatus.OK, {"status": "Unknown event"})  # fmt: skip
        if not self.server.places.acquire(blocking=False):
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are waiting; try again later.")
        try:
            with self.server.propagator.lock:
                return HTTPStatus.OK, self.server.predict(body)
        finally:
            self.server.places.release()

    def _body(self) -> dict[str, Any]:
        """Read the request's JSON; a page of another site cannot send it as such unasked."""
        kind = (self.headers["Content-Type"] or "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise _RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be application/json, found {kind!r}."
            )
        length, most = self.headers["Content-Length"], int(self.server.propagator.config.max_request_mb * 2**20)
        if length is None or not length.isdecimal():
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing; chunked bodies are not read.")
        if int(length) > most:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes; at most {most} are read (`max_request_mb`)."
            )
        content = self.rfile.read(int(length))
        try:
            return as_mapping(json.loads(content), "the request")
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise BadRequestError(f"the request is no JSON: {error}.") from error

    def log_message(self, format: str, *args: Any) -> None:
        """Log instead of printing."""
        LOG.info("%s %s", self.address_string(), format % args)
