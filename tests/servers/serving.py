"""What the small HTTP servers share: arguments, TLS, basic authentication, a request log, the ready line, SIGTERM."""

import argparse
import base64
import hmac
import http.server
import os
import signal
import socket
import ssl
import sys
import threading


def parser(description):
    """A parser with the arguments that all servers take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--bind", default="127.0.0.1", metavar="ADDR")
    made.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    made.add_argument("--root", required=True, metavar="DIR", help="the directory that is served")
    made.add_argument("--cert", metavar="FILE", help="PEM certificate: serve https")
    made.add_argument("--key", metavar="FILE", help="PEM key of the certificate")
    made.add_argument("--auth", metavar="USER:PASSWORD", help="ask for basic authentication")
    made.add_argument("--log", metavar="FILE", help="append one line per request: method path status")
    return made


class Handler(http.server.BaseHTTPRequestHandler):
    """A handler that logs where asked. `settings` holds the parsed arguments."""

    protocol_version = "HTTP/1.1"
    settings = None
    log_lock = threading.Lock()

    def log_request(self, code="-", size="-"):
        if self.settings.log:
            with self.log_lock, open(self.settings.log, "a", encoding="utf-8") as log:
                log.write(f"{self.command} {self.path} {int(code)}\n")

    def log_message(self, format, *args):
        """Nothing on stderr."""

    def answer(self, status, text="", headers=()):
        """A short text answer."""
        body = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def authorized(self, wanted):
        """Whether the request has these credentials (`user:password`); if not, it has been answered with 401."""
        sent = self.headers.get("Authorization", "")
        right = "Basic " + base64.b64encode(wanted.encode()).decode()
        if hmac.compare_digest(sent.encode(), right.encode()):
            return True
        self.close_connection = True  # The body, if any, stays unread.
        self.answer(401, "authentication required\n", [("WWW-Authenticate", 'Basic realm="tests"')])
        return False

    def read_body(self, limit=64 * 1024 * 1024):
        """The request's body, chunked or not."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(min(limit, int(self.headers.get("Content-Length") or 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if len(body) > limit:
                raise ValueError("the request's body is too large")
        while self.rfile.readline().strip():
            pass
        return bytes(body)


class Server(http.server.ThreadingHTTPServer):
    """One thread per connection; the TLS handshake happens there too, so that a silent client blocks nobody."""

    daemon_threads = True
    request_queue_size = 128
    tls = None

    def finish_request(self, request, client_address):
        request.settimeout(120)
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)
        if self.tls:
            request.close()

    def handle_error(self, request, client_address):
        """Clients of tests go away, or refuse the certificate, on purpose."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def serve(settings, handler):
    """Serve until SIGTERM or Ctrl-C, after one line that says where."""
    handler.settings = settings
    settings.root = os.path.realpath(settings.root)
    if not os.path.isdir(settings.root):
        sys.exit(f"--root {settings.root} is no directory")
    if ":" in settings.bind:
        Server.address_family = socket.AF_INET6
    server = Server((settings.bind, settings.port), handler)
    if settings.cert:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(settings.cert, settings.key)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    print(f"listening on {'https' if settings.cert else 'http'}://{host}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


def path_below(root, name):
    """The real path of a name below root, or None if it leads out of it."""
    path = os.path.realpath(os.path.join(root, name.lstrip("/")))
    return path if path == root or path.startswith(root + os.sep) else None
