"""The Redfish example against a stub: what the emulator cannot show, such as sessions, tasks and bad behaviour."""

import json
import subprocess
import tempfile
import threading
import time
import unittest

from invoke import ENVIRONMENT, PASSWORD, SCRIPT, invoke, write_payload
from stub import RESET, SYSTEM, Stub

SESSIONS = "/redfish/v1/SessionService/Sessions"
TASK = "/redfish/v1/TaskService/Tasks/7"


def extended(message, resolution=None):
    """An error body as the specification has it."""
    info = {"Message": message} | ({"Resolution": resolution} if resolution else {})
    return {"error": {"code": "Base.1.0.GeneralError", "message": "see below", "@Message.ExtendedInfo": [info]}}


class Case(unittest.TestCase):
    def stub(self, *arguments, **others):
        stub = Stub(*arguments, **others)
        self.addCleanup(stub.stop)
        return stub

    def login(self, stub, **others):
        return {"url": stub.url, "username": "operator", "password": PASSWORD, "verify_tls": "false", **others}

    def succeeds(self, action, host, timeout=20, **others):
        result = invoke(action, host, timeout, **others)
        self.assertEqual(result.code, 0, result.stdout)
        return result.json

    def fails(self, action, host, timeout=20, **others):
        result = invoke(action, host, timeout, **others)
        self.assertEqual((result.code, result.json["status"]), (1, "error"), result.stdout)
        return result.error


class Resets(Case):
    def test_a_system_that_ignores_the_graceful_way_is_switched_off_by_force(self):
        stub = self.stub()
        stub.answers["POST", RESET] = lambda r: stub.reset(r) if r[3]["ResetType"] == "ForceOff" else (204, {}, None)
        message = self.succeeds("stop", {"url": stub.url, "graceful_seconds": "1"})["message"]
        self.assertEqual(message, "system 1 was switched off by force: it did not shut down by itself")
        self.assertEqual(stub.resets(), ["GracefulShutdown", "ForceOff"])

    def test_the_graceful_way_leaves_time_for_force_within_the_timeout(self):
        stub = self.stub()
        stub.answers["POST", RESET] = lambda r: stub.reset(r) if r[3]["ResetType"] == "ForceOff" else (204, {}, None)
        self.succeeds("stop", {"url": stub.url}, timeout=4)
        self.assertEqual(stub.resets(), ["GracefulShutdown", "ForceOff"])

    def test_a_refused_graceful_shutdown_falls_back_to_force(self):
        stub = self.stub()
        refusal = (409, {}, extended("The operating system is not there."))
        stub.answers["POST", RESET] = lambda r: stub.reset(r) if r[3]["ResetType"] == "ForceOff" else refusal
        self.succeeds("stop", {"url": stub.url})
        self.assertEqual(stub.resets(), ["GracefulShutdown", "ForceOff"])

    def test_an_offered_type_that_does_not_serve_is_an_error_with_those_that_are(self):
        stub = self.stub(power="Off", reset_types=("ForceOff", "Nmi"))
        self.assertEqual(
            self.fails("start", {"url": stub.url}),
            "system 1 offers no reset type to switch it on: it allows ForceOff, Nmi",
        )
        self.assertEqual(stub.resets(), [])

    def test_allowed_types_are_read_from_the_action_info(self):
        stub = self.stub(power="Off", reset_types=None)
        stub.system["Actions"]["#ComputerSystem.Reset"]["@Redfish.ActionInfo"] = f"{SYSTEM}/ResetActionInfo"
        stub.resources[f"{SYSTEM}/ResetActionInfo"] = {
            "Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceOn", "ForceOff"]}]
        }
        self.succeeds("start", {"url": stub.url})
        self.assertEqual(stub.resets(), ["ForceOn"])

    def test_a_service_without_the_reset_action_says_so(self):
        stub = self.stub(power="Off")
        stub.system["Actions"] = {}
        self.assertIn("offers no #ComputerSystem.Reset action", self.fails("start", {"url": stub.url}))

    def test_a_system_that_never_gets_there_is_a_timeout_within_the_time_given(self):
        stub = self.stub(power="Off")
        stub.answers["POST", RESET] = lambda r: (204, {}, None)
        error = self.fails("start", {"url": stub.url}, timeout=3)
        self.assertRegex(
            error, r"^timed out \(limit 3 s\) while waiting for system 1 to be on: its PowerState is Off; "
        )
        self.assertEqual(stub.resets(), ["On"])

    def test_a_reboot_that_left_no_trace_is_repeated_by_force(self):
        stub = self.stub()
        stub.system["LastResetTime"] = "2026-01-01T00:00:00Z"

        def reset(request):
            if request[3]["ResetType"] == "ForceRestart":
                stub.system["LastResetTime"] = "2026-01-02T00:00:00Z"
            return 204, {}, None

        stub.answers["POST", RESET] = reset
        message = self.succeeds("reboot", {"url": stub.url, "graceful_seconds": "1"})["message"]
        self.assertEqual(message, "system 1 was restarted (ForceRestart)")
        self.assertEqual(stub.resets(), ["GracefulRestart", "ForceRestart"])

    def test_a_reboot_that_cannot_be_proved_is_not_claimed(self):
        stub = self.stub()
        message = self.succeeds("reboot", {"url": stub.url}, timeout=3)["message"]
        self.assertEqual(message, "system 1 accepted the restart (GracefulRestart) and is on; no power change was seen")
        self.assertEqual(stub.resets(), ["GracefulRestart"])

    def test_a_reboot_without_a_fitting_reset_type_is_an_error(self):
        stub = self.stub(reset_types=("On", "ForceOff"))
        error = self.fails("reboot", {"url": stub.url})
        self.assertEqual(error, "system 1 offers no reset type to restart: it allows On, ForceOff")

    def test_a_reboot_of_a_system_that_is_off_switches_it_on(self):
        stub = self.stub(power="Off")
        self.succeeds("reboot", {"url": stub.url})
        self.assertEqual(stub.resets(), ["On"])

    def test_a_changing_power_state_is_unknown(self):
        stub = self.stub(power="PoweringOn")
        self.assertEqual(self.succeeds("status", {"url": stub.url})["power_state"], "PowerUnknown")


class Tasks(Case):
    def with_task(self, *states, **last):
        """A stub that answers a reset with 202 and then shows the task in these states, one per request."""
        stub = self.stub(power="Off")
        left = list(states)

        def reset(request):
            stub.reset(request)
            return 202, {"Location": TASK, "Retry-After": "0.5"}, {"@odata.id": TASK, "TaskState": "New"}

        def task(_request):
            state = left.pop(0)
            return (202 if left else 200), {"Retry-After": "0.5"}, {"TaskState": state, **(last if not left else {})}

        stub.answers["POST", RESET], stub.answers["GET", TASK] = reset, task
        return stub

    def test_a_task_is_followed_to_its_end(self):
        stub = self.with_task("Running", "Running", "Completed")
        self.succeeds("start", {"url": stub.url})
        self.assertEqual(len(stub.sent("GET", TASK)), 3)

    def test_a_failed_task_is_an_error_with_its_messages(self):
        stub = self.with_task("Running", "Exception", Messages=[{"Message": "Power budget exceeded."}])
        self.assertEqual(
            self.fails("start", {"url": stub.url}), "the service's task ended as Exception: Power budget exceeded."
        )

    def test_a_task_that_is_already_gone_has_ended(self):
        stub = self.with_task("Running", "Running")
        stub.answers["GET", TASK] = lambda r: (404, {}, extended("no such task"))
        self.succeeds("start", {"url": stub.url})


class Sessions(Case):
    def with_sessions(self, status=201):
        stub = self.stub()
        stub.root["Links"] = {"Sessions": {"@odata.id": SESSIONS}}
        token = {"X-Auth-Token": "token-0123456789", "Location": f"{SESSIONS}/9"}
        stub.answers["POST", SESSIONS] = lambda r: (status, token if status == 201 else {}, {})
        stub.answers["DELETE", f"{SESSIONS}/9"] = lambda r: (204, {}, None)
        return stub

    def test_a_session_is_opened_used_and_closed(self):
        stub = self.with_sessions()
        self.succeeds("status", self.login(stub))
        self.assertEqual(stub.sent("POST", SESSIONS), [{"UserName": "operator", "Password": PASSWORD}])
        self.assertEqual(stub.seen[-1][:2], ("DELETE", f"{SESSIONS}/9"))
        for method, path, headers, _ in stub.seen[2:]:
            self.assertEqual(headers.get("X-Auth-Token"), "token-0123456789", (method, path))
            self.assertNotIn("Authorization", headers)

    def test_the_session_is_closed_after_an_error_too(self):
        stub = self.with_sessions()
        del stub.resources[SYSTEM]
        self.assertIn("404", self.fails("status", self.login(stub)))
        self.assertEqual(stub.seen[-1][:2], ("DELETE", f"{SESSIONS}/9"))

    def test_the_session_is_closed_when_the_run_is_stopped(self):
        stub = self.with_sessions()
        asked = threading.Event()
        stub.answers["GET", SYSTEM] = lambda r: asked.set() or time.sleep(8) or (200, {}, stub.system)
        with tempfile.TemporaryDirectory() as directory:
            command = [SCRIPT, "status", write_payload(directory, self.login(stub)), "30"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
            self.assertTrue(asked.wait(10))
            process.terminate()
            printed, _ = process.communicate(timeout=5)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(
            json.loads(printed),
            {"status": "error", "error": "stopped by a signal: ask for the status to see how far it got"},
        )
        self.assertEqual(stub.seen[-1][:2], ("DELETE", f"{SESSIONS}/9"))

    def test_a_refused_login_is_not_tried_in_another_way(self):
        stub = self.with_sessions(401)
        self.assertIn("refused the user name or password (401)", self.fails("status", self.login(stub)))
        self.assertEqual(len(stub.seen), 2)

    def test_basic_authentication_serves_where_sessions_do_not(self):
        stub = self.with_sessions(503)
        self.succeeds("status", self.login(stub))
        self.assertTrue(stub.seen[-1][2]["Authorization"].startswith("Basic "))


class Hostile(Case):
    def test_a_redirect_to_another_origin_gets_no_credentials(self):
        other, stub = self.stub(), self.stub()
        stub.answers["GET", SYSTEM] = lambda r: (302, {"Location": f"{other.url}{SYSTEM}?token=x1y2"}, None)
        error = self.fails("status", self.login(stub))
        self.assertRegex(error, rf"^the service refers to another origin, {other.url}{SYSTEM}: credentials for ")
        self.assertNotIn("x1y2", error)
        self.assertEqual(other.seen, [])

    def test_a_reference_to_another_origin_is_not_followed(self):
        other, stub = self.stub(), self.stub()
        stub.resources["/redfish/v1/Systems"] = {"Members": [{"@odata.id": f"{other.url}{SYSTEM}"}]}
        self.assertIn("refers to another origin", self.fails("status", self.login(stub)))
        stub.resources["/redfish/v1/Systems"] = {"Members": [{"@odata.id": other.url.replace("http:", "") + SYSTEM}]}
        self.assertIn("refers to another origin", self.fails("status", self.login(stub)))
        self.assertEqual(other.seen, [])

    def test_a_redirect_within_the_origin_is_followed(self):
        stub = self.stub()
        stub.resources["/moved"] = stub.system
        stub.answers["GET", SYSTEM] = lambda r: (307, {"Location": "/moved"}, None)
        self.assertEqual(self.succeeds("status", self.login(stub))["power_state"], "PowerOn")

    def test_a_loop_of_redirects_ends(self):
        stub = self.stub()
        stub.answers["GET", SYSTEM] = lambda r: (307, {"Location": SYSTEM}, None)
        self.assertIn("redirected more than 5 times", self.fails("status", self.login(stub)))

    def test_a_reset_is_not_sent_again_after_a_redirect_that_would_change_it(self):
        stub = self.stub(power="Off")
        stub.answers["POST", RESET] = lambda r: (302, {"Location": SYSTEM}, None)
        self.assertIn("was redirected to", self.fails("start", self.login(stub)))
        self.assertEqual(stub.resets(), ["On"])

    def test_a_password_that_the_service_repeats_is_masked(self):
        stub = self.stub()
        said = extended(f"bad password {PASSWORD}", "Use another.")
        stub.answers["GET", SYSTEM] = lambda r: (400, {}, said)
        error = self.fails("status", self.login(stub))
        self.assertEqual(error, f"GET {SYSTEM} failed with HTTP status 400: bad password ******** Use another.")

    def test_a_silent_service_is_a_timeout_within_the_time_given(self):
        stub = self.stub()
        stub.answers["GET", SYSTEM] = lambda r: time.sleep(8) or (200, {}, {})
        self.assertEqual(
            self.fails("status", {"url": stub.url}, timeout=3),
            f"{stub.url} did not answer in time (limit 3 s): check host.url and routes",
        )

    def test_a_trickling_answer_is_a_timeout_too(self):
        stub = self.stub()

        def trickle(handler):
            handler.send_response(200)
            for number in range(100):
                handler.send_header(f"X-{number}", "x")
                handler.flush_headers()
                time.sleep(0.2)

        stub.server.RequestHandlerClass.do_GET = trickle
        self.assertRegex(
            self.fails("status", {"url": stub.url}, timeout=3), r"^timed out \(limit 3 s\): the service is too slow"
        )

    def test_what_is_no_redfish_service_is_named_as_such(self):
        stub = self.stub()
        stub.answers["GET", "/redfish/v1/"] = lambda r: (200, {"Content-Type": "text/html"}, b"<html>hello</html>")
        self.assertEqual(
            self.fails("status", {"url": stub.url}),
            "GET /redfish/v1/ was answered with something else than JSON: check host.url",
        )

    def test_a_huge_answer_is_refused(self):
        stub = self.stub()
        stub.answers["GET", SYSTEM] = lambda r: (200, {}, b" " * (9 << 20))
        self.assertIn("larger than 8 MiB", self.fails("status", {"url": stub.url}))

    def test_a_missing_privilege_is_explained(self):
        stub = self.stub(power="Off")
        stub.answers["POST", RESET] = lambda r: (403, {}, extended("Insufficient privilege."))
        error = self.fails("start", self.login(stub))
        self.assertRegex(error, r"^the user lacks the privilege for POST .* \(403\).*: Insufficient privilege\.$")


class Features(Case):
    def test_a_changed_resource_is_read_again_and_patched_once_more(self):
        stub = self.stub()
        tags = ['"1"', '"2"']
        stub.answers["GET", SYSTEM] = lambda r: (200, {"ETag": tags[0]}, stub.system)

        def patch(request):
            if request[2].get("If-Match") == '"2"':
                return 204, {}, None
            del tags[0]
            return 412, {}, extended("The resource changed.")

        stub.answers["PATCH", SYSTEM] = patch
        self.succeeds("SetBootDevice", {"url": stub.url}, parameters={"device": "Usb", "persistent": True})
        boot = {"Boot": {"BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Usb"}}
        self.assertEqual(stub.sent("PATCH", SYSTEM), [boot, boot])

    def test_the_usual_boot_order_is_restored(self):
        stub = self.stub()
        shown = self.succeeds("SetBootDevice", {"url": stub.url}, parameters={"device": "None"})
        self.assertEqual(shown["message"], [{"result": "system 1 boots in its usual order"}])
        boot = {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}
        self.assertEqual(stub.sent("PATCH", SYSTEM), [{"Boot": boot}])

    def test_a_location_indicator_is_switched_where_there_is_no_led(self):
        stub = self.stub()
        stub.system["LocationIndicatorActive"] = False
        self.succeeds("IndicatorLight", {"url": stub.url}, parameters={"state": "Blinking"})
        self.assertEqual(stub.sent("PATCH", SYSTEM), [{"LocationIndicatorActive": True}])

    def test_sensors_are_read_from_a_paged_collection(self):
        stub = self.stub()
        stub.system["Links"]["Chassis"] = [{"@odata.id": "/redfish/v1/Chassis/1"}]
        stub.resources |= {
            "/redfish/v1/Chassis/1": {"Sensors": {"@odata.id": "/s"}},
            "/s": {"Members": [{"@odata.id": "/s/1"}], "Members@odata.nextLink": "/s?$skip=1"},
            "/s?$skip=1": {"Members": [{"@odata.id": "/s/2"}]},
            "/s/1": {"Name": "Inlet", "Reading": 24.5, "ReadingUnits": "Cel", "Status": {"Health": "Warning"}},
            "/s/2": {"Name": "Fan 2", "Reading": None, "Status": {"State": "Absent"}},
        }
        self.assertEqual(
            self.succeeds("ListSensors", {"url": stub.url})["message"],
            [
                {"name": "Inlet", "reading": 24.5, "unit": "Cel", "state": "Warning"},
                {"name": "Fan 2", "reading": "n/a", "unit": "n/a", "state": "Absent"},
            ],
        )

    def test_firmware_is_read_from_the_inventory(self):
        stub = self.stub()
        stub.root["UpdateService"] = {"@odata.id": "/u"}
        stub.resources |= {
            "/u": {"FirmwareInventory": {"@odata.id": "/f"}},
            "/f": {"Members": [{"@odata.id": "/f/1"}]},
            "/f/1": {"Name": "BIOS", "Version": "2.1", "Updateable": True, "Status": {"Health": "OK"}},
        }
        row = {"component": "BIOS", "version": "2.1", "updateable": "true", "state": "OK"}
        self.assertEqual(self.succeeds("Firmware", {"url": stub.url})["message"], [row])

    def test_a_graphical_console_opens_at_the_services_own_page(self):
        stub = self.stub()
        stub.system["GraphicalConsole"] = {"ServiceEnabled": True, "ConnectTypesSupported": ["KVMIP"]}
        console = self.succeeds("getconsole", {"url": stub.url})["console"]
        self.assertEqual(console, {"url": f"{stub.url}/", "protocol": "direct"})
        stub.system["GraphicalConsole"]["ServiceEnabled"] = False
        self.assertIn("its graphical console is disabled: enable it", self.fails("getconsole", {"url": stub.url}))

    def test_systems_of_one_name_are_told_apart_by_id(self):
        stub = self.stub()
        stub.resources["/redfish/v1/Systems"]["Members"].append({"@odata.id": "/redfish/v1/Systems/2"})
        stub.resources["/redfish/v1/Systems/2"] = {"Id": "2", "Name": "System", "PowerState": "Off"}
        states = self.succeeds("statuses", {"url": stub.url})["power_state"]
        self.assertEqual(states, {"1": "PowerOn", "2": "PowerOff"})
        error = self.fails("status", {"url": stub.url, "system": "system"})
        self.assertEqual(error, "2 systems have the Name 'system': set system to one of these ids: 1, 2")


if __name__ == "__main__":
    unittest.main()
