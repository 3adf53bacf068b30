"""Talk to one Redfish service over HTTP: deadline, TLS, login, redirects, tasks, and errors that explain themselves."""

import base64
import http.client
import json
import socket
import ssl
import time
from urllib.parse import urljoin, urlsplit

from redfish_details import RedfishError

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_REDIRECTS = 5
MAX_MEMBERS = 1000
LOGOUT_SECONDS = 2.0
FINAL_TASK_STATES = {"Completed", "Killed", "Cancelled", "Exception"}


class Deadline:
    """The time by which this run must have answered. `limit` is the timeout that the caller gave, for error texts."""

    def __init__(self, seconds, limit):
        self.seconds, self.limit = seconds, limit
        self._end = time.monotonic() + seconds

    def remaining(self):
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def check(self, doing):
        """Seconds left, or an error that says what was being done when they ran out."""
        left = self.remaining()
        if left <= 0:
            raise RedfishError(f"timed out (limit {self.limit:g} s) while {doing}: allow the action more time")
        return left


class Response:
    """A reply that was not an error: its status, headers (lower-case names) and JSON body ({} if it had none)."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class StatusError(RedfishError):
    """The service answered with an HTTP error status."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class TaskError(RedfishError):
    """The service accepted the request, but the task it made of it failed."""


class Client:
    """One service, one login. Use it in a `with` block, which ends the session it opened."""

    def __init__(self, details, deadline):
        self._details, self.deadline = details, deadline
        self._tls = _tls_context(details) if details.scheme == "https" else None
        self._login_headers, self._session = {}, None

    def __enter__(self):
        try:
            self._log_in()
        except BaseException:
            self._log_out()
            raise
        return self

    def __exit__(self, *_):
        self._log_out()

    def get(self, path):
        """The resource at an `@odata.id`."""
        return self._follow("GET", path).body

    def get_if_present(self, path):
        """The same, but None where there is no path, or the service has no such resource (404, 405, 501)."""
        try:
            return self.get(path) if path else None
        except StatusError as error:
            if error.status in (404, 405, 501):
                return None
            raise

    def members(self, path):
        """The `@odata.id` of each member of a collection, all its pages included."""
        paths, seen = [], set()
        while path and path not in seen and len(paths) < MAX_MEMBERS:
            seen.add(path)
            page = self.get(path)
            paths += [member["@odata.id"] for member in page.get("Members", []) if "@odata.id" in member]
            path = page.get("Members@odata.nextLink")
        return paths

    def post(self, path, body):
        """POST, then wait for the task if the service made one of it. Sent once, never repeated."""
        self._wait_for_task(self._follow("POST", path, body))

    def patch(self, path, changes):
        """PATCH as of the state just read (If-Match); if the resource changed meanwhile, read it and try once more."""
        for last_try in (False, True):
            current = self._follow("GET", path)
            tag = current.headers.get("etag") or current.body.get("@odata.etag")
            try:
                return self._wait_for_task(self._follow("PATCH", path, changes, {"If-Match": tag} if tag else {}))
            except StatusError as error:
                if error.status != 412 or last_try:
                    raise

    # -- login ---------------------------------------------------------------------------------------------------

    def _log_in(self):
        """A session where the service root offers one, else basic authentication."""
        details = self._details
        if not details.username:
            return
        root = self._follow("GET", "/redfish/v1/").body
        sessions = (root.get("Links") or {}).get("Sessions", {}).get("@odata.id")
        if sessions:
            try:
                login = {"UserName": details.username, "Password": details.password}
                response = self._follow("POST", sessions, login)
            except StatusError as error:
                if error.status in (400, 401, 403):
                    raise
            else:
                if "x-auth-token" in response.headers:
                    self._login_headers = {"X-Auth-Token": response.headers["x-auth-token"]}
                    self._session = response.headers.get("location") or response.body.get("@odata.id")
                    return
        pair = f"{details.username}:{details.password}".encode()
        self._login_headers = {"Authorization": "Basic " + base64.b64encode(pair).decode()}

    def _log_out(self):
        """Services allow few sessions, so one left behind can lock operators out. The answer no longer matters."""
        if self._session:
            session, self._session = self._session, None
            self.deadline = Deadline(min(LOGOUT_SECONDS, 0.1 * self.deadline.seconds), self.deadline.limit)
            try:
                self._follow("DELETE", session)
            except RedfishError:
                pass

    # -- requests ------------------------------------------------------------------------------------------------

    def _follow(self, method, path, body=None, headers=None):
        """Send, following redirects within the origin: login headers and bodies go nowhere else."""
        for _ in range(MAX_REDIRECTS + 1):
            path = self._own_path(path)
            status, answer_headers, raw = self._send(method, path, body, headers or {})
            location = answer_headers.get("location")
            if status in (301, 302, 303, 307, 308) and location:
                if method != "GET" and status not in (307, 308):
                    raise RedfishError(f"{method} {path} was redirected to {_shown(location)}: check host.url")
                path = urljoin(self._details.origin + path, location)
                continue
            if status >= 300:
                raise StatusError(status, _explain(status, method, path, raw))
            return Response(status, answer_headers, _parse(raw, method, path) if raw.strip() else {})
        raise RedfishError(f"{method} {path} was redirected more than {MAX_REDIRECTS} times: check host.url")

    def _own_path(self, reference):
        """The path of a reference of this origin. A reference to any other is refused."""
        parts = urlsplit(reference)
        if parts.scheme or parts.netloc:
            details = self._details
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
            if (parts.scheme, parts.hostname, port) != (details.scheme, details.host, details.port):
                raise RedfishError(
                    f"the service refers to another origin, {_shown(reference)}: credentials for {details.origin} are "
                    "not sent there; set host.url to the address that the service itself uses"
                )
        if not parts.path.startswith("/"):
            raise RedfishError(f"the service refers to {_shown(reference)!r}, which is no absolute path")
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _send(self, method, path, body, headers):
        """One request on a connection of its own: some services drop idle ones without a word."""
        details = self._details
        left = self.deadline.check(f"asking {details.origin}")
        if details.scheme == "https":
            connection = http.client.HTTPSConnection(details.host, details.port, timeout=left, context=self._tls)
        else:
            connection = http.client.HTTPConnection(details.host, details.port, timeout=left)
        headers = {
            "Accept": "application/json",
            "OData-Version": "4.0",
            "Connection": "close",
            **self._login_headers,
            **headers,
        }
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, body=data, headers=headers)
            reply = connection.getresponse()
            return reply.status, _lower(reply.getheaders()), self._read(reply)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _read(self, reply):
        parts, size = [], 0
        while chunk := reply.read1(65536):
            self.deadline.check("reading an answer")
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise RedfishError(f"the service's answer is larger than {MAX_BODY_BYTES >> 20} MiB: check host.url")
            parts.append(chunk)
        return b"".join(parts)

    def _unreachable(self, error):
        origin = self._details.origin
        if isinstance(error, ssl.SSLCertVerificationError):
            return RedfishError(
                f"the certificate of {origin} is not trusted: {error.verify_message}; set host.ca_bundle to the CA "
                "that signed it, use the name that it holds in host.url, or set host.verify_tls to false"
            )
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or "no common protocol").replace("_", " ").lower()
            return RedfishError(f"TLS with {origin} failed: {reason}; check that host.url's scheme and port are right")
        if isinstance(error, TimeoutError):
            limit = f"{self.deadline.limit:g} s"
            return RedfishError(f"{origin} did not answer in time (limit {limit}): check host.url and routes")
        if isinstance(error, ConnectionRefusedError):
            return RedfishError(f"{origin} refused the connection: check host.url's port and that the service is on")
        if isinstance(error, socket.gaierror):
            return RedfishError(f"the name {self._details.host} could not be resolved: check host.url")
        closed = isinstance(error, http.client.RemoteDisconnected)
        reason = "it closed the connection" if closed else getattr(error, "strerror", None) or type(error).__name__
        return RedfishError(f"talking to {origin} failed: {reason}; check host.url and that it is a Redfish service")

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _wait_for_task(self, response):
        """A 202 answer names a task monitor (Location) or is a Task itself: poll it until it has ended."""
        if response.status != 202:
            return
        monitor = response.headers.get("location") or response.body.get("TaskMonitor") or response.body.get("@odata.id")
        while monitor:
            state = response.body.get("TaskState")
            if response.status != 202 and state is None or state in FINAL_TASK_STATES:
                break
            self.sleep(_retry_after(response), "waiting for the service's task to end")
            try:
                response = self._follow("GET", monitor)
            except StatusError as error:
                if error.status in (404, 410):  # An ended task may be gone already.
                    return
                raise
        if response.body.get("TaskState") in FINAL_TASK_STATES - {"Completed"}:
            reason = " ".join(_sentences(response.body.get("Messages"))) or "no reason given"
            raise TaskError(f"the service's task ended as {response.body['TaskState']}: {reason}")

    def sleep(self, seconds, doing):
        """Sleep, but not beyond the deadline."""
        time.sleep(min(seconds, self.deadline.check(doing)))


def _tls_context(details):
    try:
        context = ssl.create_default_context(cadata=details.ca_bundle or None)
    except ssl.SSLError:
        raise RedfishError("ca_bundle holds no usable PEM certificate: give -----BEGIN CERTIFICATE-----…") from None
    if not details.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _explain(status, method, path, raw):
    """The service's own words where it gives any, after ours."""
    try:
        error = json.loads(raw).get("error", {})
        said = " ".join(_sentences(error.get("@Message.ExtendedInfo"))) or error.get("message", "")
    except (ValueError, AttributeError):
        said = ""
    if status == 401:
        text = "the service refused the user name or password (401): check host.username and host.password"
    elif status == 403:
        text = f"the user lacks the privilege for {method} {path} (403): give the account a higher Redfish role"
    else:
        text = f"{method} {path} failed with HTTP status {status}"
    return f"{text}: {str(said)[:1000]}" if said else text


def _sentences(messages):
    if not isinstance(messages, list):
        return []
    found = []
    for message in filter(lambda item: isinstance(item, dict), messages):
        found += [message[key].strip() for key in ("Message", "Resolution") if isinstance(message.get(key), str)]
    return [text for text in found if text and text != "None."]


def _parse(raw, method, path):
    try:
        body = json.loads(raw)
    except ValueError:
        raise RedfishError(f"{method} {path} was answered with something else than JSON: check host.url") from None
    return body if isinstance(body, dict) else {}


def _retry_after(response):
    try:
        return min(30.0, max(0.5, float(response.headers["retry-after"])))
    except (KeyError, ValueError):
        return 1.0


def _lower(headers):
    return {name.lower(): value for name, value in headers}


def _shown(reference):
    """A reference without its query, which may hold a token."""
    return reference.partition("?")[0][:200]
