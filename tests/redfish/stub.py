"""A Redfish service in a few lines, for answers that sushy-emulator cannot be made to give."""

import http.server
import json
import sys
import threading

SYSTEM = "/redfish/v1/Systems/1"
USUAL_RESETS = ("On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart")
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"


class Stub:
    """`resources` maps paths to JSON; `answers` maps (method, path) to functions of the request; `seen` holds requests.

    A function returns (status, headers, body). Requests are (method, path, headers, JSON body).
    """

    def __init__(self, power="On", reset_types=USUAL_RESETS):
        self.system = {
            "@odata.id": SYSTEM,
            "Id": "1",
            "Name": "System",
            "PowerState": power,
            "Boot": {},
            "Actions": {"#ComputerSystem.Reset": {"target": RESET}},
            "Links": {},
        }
        if reset_types:
            self.system["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = list(reset_types)
        self.root = {"Systems": {"@odata.id": "/redfish/v1/Systems"}}
        self.resources = {
            "/redfish/v1/": self.root,
            "/redfish/v1/Systems": {"Members": [{"@odata.id": SYSTEM}]},
            SYSTEM: self.system,
        }
        self.answers, self.seen = {}, []
        self.answers["POST", RESET] = self.reset
        handler = type("BoundHandler", (Handler,), {"stub": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def reset(self, request):
        """The well-behaved way: the power changes at once."""
        kind = request[3]["ResetType"]
        self.system["PowerState"] = "Off" if kind in ("ForceOff", "GracefulShutdown") else "On"
        return 204, {}, None

    def resets(self):
        """The reset types asked for, in order."""
        return [body["ResetType"] for method, path, _, body in self.seen if (method, path) == ("POST", RESET)]

    def sent(self, method, path):
        """The bodies of these requests."""
        return [body for seen_method, seen_path, _, body in self.seen if (seen_method, seen_path) == (method, path)]

    def answer(self, request):
        method, path = request[:2]
        if (method, path) in self.answers:
            return self.answers[method, path](request)
        if path not in self.resources:
            return 404, {}, {"error": {"message": "no such thing"}}
        if method == "PATCH":
            self.resources[path].update(request[3])
            return 204, {}, None
        return 200, {}, self.resources[path]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """The script hangs up on bad behaviour, which is what is tested; anything else is the stub's own mistake."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    stub = None

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        request = (self.command, self.path, dict(self.headers), body)
        self.stub.seen.append(request)
        status, headers, content = self.stub.answer(request)
        data = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def log_message(self, format, *args):
        """Nothing on stderr."""
