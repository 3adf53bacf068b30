"""The Redfish example against sushy-emulator, a Redfish service by others."""

import concurrent.futures
import json
import os
import re
import socket
import subprocess
import tempfile
import unittest
import urllib.request
import uuid

from invoke import PASSWORD, SCRIPT, invoke, invoke_raw
from started import Started, self_signed

USER = "operator"
# The emulator takes up to 11 s for each change of power, so each of these has a system of its own and all run at once.
CHANGES = {
    "start": ("to-start", "Off"),
    "stop": ("to-stop", "On"),
    "reboot": ("to-reboot", "On"),
    "delete": ("to-delete", "On"),
    "create": ("to-create", "Off"),
}


def setUpModule():
    """Three emulators: many systems over http; one system with TLS and a password; one with few features."""
    global many, locked, bare, changes, directory, certificate, pool
    directory = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(directory.cleanup)
    certificate, key = self_signed(directory.name)
    systems = [f"--system={name}={power}" for name, power in CHANGES.values()]
    pool = concurrent.futures.ThreadPoolExecutor(8)
    unittest.addModuleCleanup(pool.shutdown)
    starting = [
        pool.submit(Started, "sushy", *systems, "--system=spare=On", "--system=resting=Off"),
        pool.submit(Started, "sushy", "--cert", certificate, "--key", key, "--auth", f"{USER}:{PASSWORD}"),
        pool.submit(Started, "sushy", "--feature-set", "minimum"),
    ]
    for started in starting:
        unittest.addModuleCleanup(started.result().stop)
    many, locked, bare = (started.result() for started in starting)
    extra = {"create": {"boot_device": "Pxe"}}
    changes = {
        action: pool.submit(
            invoke, action, {"url": many.url}, 40, virtualmachine={"system": name, **extra.get(action, {})}
        )
        for action, (name, _) in CHANGES.items()
    }


def id_of(name):
    """The emulator wrapper derives the systems' ids from their names."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


class Case(unittest.TestCase):
    maxDiff = None

    def succeeds(self, action, host, timeout=30, **others):
        result = invoke(action, host, timeout, **others)
        self.assertEqual(result.code, 0, result.stdout)
        return result.json

    def fails(self, action, host, timeout=30, **others):
        """The error text of an action that must fail in the agreed form."""
        result = invoke(action, host, timeout, **others)
        self.assertEqual(result.code, 1, result.stdout)
        self.assertEqual(set(result.json), {"status", "error"})
        self.assertEqual(result.json["status"], "error")
        return result.error

    def resource(self, name):
        """The system as the emulator itself shows it."""
        with urllib.request.urlopen(f"{many.url}/redfish/v1/Systems/{id_of(name)}", timeout=10) as reply:
            return json.load(reply)

    def on(self, name):
        """The arguments for a system of the first emulator."""
        return {"host": {"url": many.url}, "virtualmachine": {"system": name}}


class Power(Case):
    def changed(self, action):
        result = changes[action].result()
        self.assertEqual(result.code, 0, result.stdout)
        self.assertEqual(result.json["status"], "success")
        state = self.succeeds("status", **self.on(CHANGES[action][0]))["power_state"]
        return result.json["message"], state

    def test_start_ends_when_the_system_is_on(self):
        self.assertEqual(self.changed("start"), (f"system {id_of('to-start')} is on", "PowerOn"))

    def test_stop_ends_when_the_system_is_off(self):
        self.assertEqual(self.changed("stop"), (f"system {id_of('to-stop')} was shut down", "PowerOff"))

    def test_reboot_ends_when_the_system_is_on_again(self):
        self.assertEqual(
            self.changed("reboot"), (f"system {id_of('to-reboot')} was restarted (GracefulRestart)", "PowerOn")
        )

    def test_create_sets_the_boot_device_and_switches_the_system_on(self):
        self.assertEqual(self.changed("create"), (f"system {id_of('to-create')} is on", "PowerOn"))
        self.assertEqual(self.resource("to-create")["Boot"]["BootSourceOverrideTarget"], "Pxe")

    def test_delete_switches_the_system_off_and_says_that_nothing_is_erased(self):
        message, state = self.changed("delete")
        self.assertEqual(state, "PowerOff")
        self.assertIn("its disks and its settings were left as they are", message)

    def test_what_is_already_so_is_success_without_a_change(self):
        self.assertIn("was on already", self.succeeds("start", **self.on("spare"))["message"])
        self.assertIn("was off already", self.succeeds("stop", **self.on("resting"))["message"])

    def test_create_refuses_a_system_that_is_on_unless_told_to_adopt_it(self):
        self.assertIn("is on already and may be in use", self.fails("create", **self.on("spare")))
        adopted = self.succeeds("create", {"url": many.url}, virtualmachine={"system": "spare", "adopt": "true"})
        self.assertIn("taken over as it runs", adopted["message"])

    def test_prepare_changes_nothing(self):
        self.assertEqual(self.succeeds("prepare", **self.on("spare")), {})

    def test_statuses_are_keyed_by_name_and_by_the_instance_names_given(self):
        states = self.succeeds("statuses", {"url": many.url})
        self.assertEqual(states["status"], "success")
        self.assertEqual(states["power_state"]["spare"], "PowerOn")
        self.assertEqual(states["power_state"]["resting"], "PowerOff")
        self.assertEqual(len(states["power_state"]), len(CHANGES) + 2)
        names = f"i-2-45-VM={id_of('spare')}, i-2-46-VM={id_of('resting')}"
        named = self.succeeds("statuses", {"url": many.url, "names": names})
        self.assertEqual(named["power_state"], {"i-2-45-VM": "PowerOn", "i-2-46-VM": "PowerOff"})
        self.assertIn("names refers to nowhere", self.fails("statuses", {"url": many.url, "names": "a=nowhere"}))


class Systems(Case):
    def test_the_only_system_needs_no_name(self):
        self.assertEqual(self.succeeds("status", {"url": bare.url})["power_state"], "PowerOff")

    def test_one_of_several_must_be_named_and_the_error_lists_them(self):
        error = self.fails("status", {"url": many.url})
        self.assertRegex(error, r"^the service has 7 systems: set virtualmachine\.system to one of these ids: ")
        self.assertIn(id_of("spare"), error)

    def test_an_unknown_system_is_refused_with_the_valid_ids(self):
        error = self.fails("status", **self.on("nowhere"))
        self.assertRegex(error, r"^the service has no system 'nowhere': set system to one of these ids: ")
        self.assertIn(id_of("resting"), error)

    def test_a_system_is_found_by_id_and_the_virtual_machine_wins_over_host_over_extension(self):
        both = self.succeeds(
            "status",
            {"url": many.url, "system": id_of("resting")},
            extension={"system": "nowhere"},
        )
        self.assertEqual(both["power_state"], "PowerOff")
        won = self.succeeds("status", {"url": many.url, "system": "resting"}, virtualmachine={"system": "spare"})
        self.assertEqual(won["power_state"], "PowerOn")

    def test_details_may_come_from_the_extension(self):
        self.assertEqual(self.succeeds("status", None, extension={"url": bare.url})["power_state"], "PowerOff")


class Custom(Case):
    def test_the_boot_device_is_set(self):
        parameters = {"device": "Pxe", "persistent": "true"}
        shown = self.succeeds("SetBootDevice", **self.on("spare"), parameters=parameters)
        self.assertEqual(shown["printmessage"], "true")
        self.assertEqual(shown["message"], [{"result": f"system {id_of('spare')} boots from Pxe at every start"}])
        self.assertEqual(self.resource("spare")["Boot"]["BootSourceOverrideTarget"], "Pxe")
        shown = self.succeeds("SetBootDevice", **self.on("spare"), parameters={"device": "Cd"})
        self.assertEqual(shown["message"], [{"result": f"system {id_of('spare')} boots from Cd at its next start"}])
        self.assertEqual(self.resource("spare")["Boot"]["BootSourceOverrideTarget"], "Cd")

    def test_a_device_that_the_service_does_not_allow_is_refused_with_those_it_does(self):
        error = self.fails("SetBootDevice", **self.on("spare"), parameters={"device": "Usb"})
        self.assertEqual(error, f"system {id_of('spare')} cannot boot from Usb: it allows Pxe, Cd, Hdd, UefiHttp")

    def test_parameters_are_checked(self):
        error = self.fails("SetBootDevice", **self.on("spare"), parameters={"device": "Floppy"})
        self.assertEqual(error, "device is 'Floppy': it must be one of Pxe, Hdd, Cd, Usb, BiosSetup, None")
        error = self.fails("SetBootDevice", **self.on("spare"), parameters={"device": "Pxe", "persistent": "maybe"})
        self.assertEqual(error, "parameter persistent is 'maybe': it must be true or false")
        self.assertIn("parameter state is missing", self.fails("IndicatorLight", **self.on("spare")))

    def test_the_services_own_words_reach_the_operator(self):
        error = self.fails("SetBootDevice", **self.on("spare"), parameters={"device": "None"})
        self.assertRegex(error, r"^PATCH /redfish/v1/Systems/\S+ failed with HTTP status \d+")

    def test_sensors_are_a_table(self):
        rows = self.succeeds("ListSensors", **self.on("spare"))["message"]
        self.assertIn({"name": "Chassis Intake Temp", "reading": 25, "unit": "Cel", "state": "OK"}, rows)
        self.assertIn({"name": "BaseBoard System Fan", "reading": 2100, "unit": "RPM", "state": "OK"}, rows)

    def test_a_service_without_sensors_says_so(self):
        error = self.fails("ListSensors", {"url": bare.url})
        self.assertRegex(error, "^the chassis of system .* has no sensors that this service shows$")

    def test_the_indicator_light_is_switched(self):
        for state in ("Blinking", "Off", "Lit"):
            shown = self.succeeds("IndicatorLight", **self.on("spare"), parameters={"state": state})
            self.assertEqual(
                shown["message"], [{"result": f"the indicator light of system {id_of('spare')} is now {state}"}]
            )
            self.assertEqual(self.resource("spare")["IndicatorLED"], state)

    def test_a_service_without_a_light_says_so(self):
        error = self.fails("IndicatorLight", {"url": bare.url}, parameters={"state": "Lit"})
        self.assertRegex(error, "^system .* has no indicator light that this service can switch$")

    def test_firmware_comes_from_the_manager_where_there_is_no_inventory(self):
        rows = self.succeeds("Firmware", **self.on("spare"))["message"]
        manager = {"component": "spare-Manager", "version": "1.00", "updateable": "n/a", "state": "OK"}
        self.assertEqual(rows, [manager])
        self.assertIn("shows no firmware versions", self.fails("Firmware", {"url": bare.url}))

    def test_a_service_without_a_console_says_what_to_set(self):
        error = self.fails("getconsole", **self.on("spare"))
        self.assertEqual(
            error,
            f"system {id_of('spare')} has no console: the service offers no graphical console, "
            "or set host.console_url to where one is",
        )
        host = {"url": many.url, "console_url": "https://kvm.example.com/{system}"}
        console = self.succeeds("getconsole", host, virtualmachine={"system": "spare"})["console"]
        self.assertEqual(console, {"url": f"https://kvm.example.com/{id_of('spare')}", "protocol": "direct"})


class Trust(Case):
    def host(self, **others):
        return {"url": locked.url, "username": USER, "password": PASSWORD, **others}

    def test_a_certificate_of_an_unknown_ca_is_refused(self):
        error = self.fails("status", self.host())
        self.assertRegex(error, rf"^the certificate of {re.escape(locked.url)} is not trusted: self.signed certificate")
        self.assertIn("set host.ca_bundle", error)

    def test_a_ca_given_as_text_or_file_is_trusted(self):
        with open(certificate, encoding="ascii") as file:
            text = file.read()
        for bundle in (text, certificate):
            self.assertEqual(self.succeeds("status", self.host(ca_bundle=bundle))["power_state"], "PowerOff")

    def test_another_ca_is_not(self):
        other, _ = self_signed(directory.name, "other")
        self.assertIn("is not trusted", self.fails("status", self.host(ca_bundle=other)))

    def test_verification_can_be_switched_off(self):
        self.assertEqual(self.succeeds("status", self.host(verify_tls="false"))["power_state"], "PowerOff")

    def test_a_name_that_the_certificate_does_not_hold_is_refused(self):
        error = self.fails("status", self.host(url=locked.url.replace("127.0.0.1", "localhost"), ca_bundle=certificate))
        self.assertIn("is not trusted: Hostname mismatch", error)

    def test_a_wrong_password_is_explained_and_never_shown(self):
        wrong = "hunter2-hunter2"
        error = self.fails("status", self.host(password=wrong, ca_bundle=certificate))
        self.assertRegex(error, r"^the service refused the user name or password \(401\): check host\.username and ")
        self.assertNotIn(wrong, error)
        self.assertNotIn(USER, error)

    def test_no_credentials_where_some_are_needed(self):
        error = self.fails("status", {"url": locked.url, "ca_bundle": certificate})
        self.assertIn("(401)", error)

    def test_a_password_is_not_sent_unencrypted_by_default(self):
        host = {"url": bare.url, "username": USER, "password": PASSWORD}
        self.assertIn("would send the password unencrypted", self.fails("status", host))
        self.assertEqual(self.succeeds("status", {**host, "verify_tls": "false"})["power_state"], "PowerOff")

    def test_https_to_a_plain_port_is_explained(self):
        error = self.fails("status", {"url": bare.url.replace("http:", "https:")})
        self.assertRegex(error, r"^TLS with https://127\.0\.0\.1:\d+ failed: .*check that host\.url's scheme and port")

    def test_http_to_a_tls_port_is_explained(self):
        error = self.fails("status", {"url": locked.url.replace("https:", "http:")})
        self.assertRegex(error, r"^talking to http://127\.0\.0\.1:\d+ failed: ")


class Mistakes(Case):
    def test_an_unreachable_host_is_named(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            error = self.fails("status", {"url": url})
        self.assertEqual(error, f"{url} refused the connection: check host.url's port and that the service is on")

    def test_details_are_checked_before_anything_is_sent(self):
        for host, text in (
            ({}, "the payload has no externaldetails"),
            ({"username": "x"}, "host.url is missing"),
            ({"url": "ftp://bmc"}, "must look like https://"),
            ({"url": "https://bmc:99999"}, "host.url is not a URL"),
            ({"url": "https://bmc/some/page"}, "must name only the host"),
            ({"url": "https://u:s3cr3t-word@bmc"}, "host.url holds a user name or password"),
            ({"url": "https://bmc", "username": "x"}, "host.password is empty"),
            ({"url": "https://bmc", "verify_tls": "perhaps"}, "verify_tls is 'perhaps': it must be true or false"),
            ({"url": "https://bmc", "ca_bundle": "/nowhere/ca.pem"}, "ca_bundle cannot be read from /nowhere/ca.pem"),
            ({"url": "https://bmc", "ca_bundle": "-----BEGIN nothing"}, "ca_bundle holds no usable PEM certificate"),
            ({"url": "https://bmc", "graceful_seconds": "-1"}, "graceful_seconds is '-1'"),
            ({"url": "https://bmc", "names": "a"}, "names holds 'a': write instance=system pairs"),
        ):
            with self.subTest(text):
                if host:
                    error = self.fails("status", host)
                else:
                    error = invoke_with_payload('{"virtualmachinename": "x"}').error
                self.assertIn(text, error)
                self.assertNotIn("s3cr3t-word", error)

    def test_an_unknown_action_is_refused_with_the_known_ones(self):
        error = self.fails("Explode", {"url": bare.url})
        self.assertTrue(error.startswith("action 'Explode' is not known: use one of prepare, create, "), error)

    def test_bad_arguments_and_payloads_are_explained(self):
        self.assertIn("the arguments are wrong", invoke_raw().error)
        self.assertIn("No such file", invoke_raw("status", "/nowhere.json", "5").error)
        self.assertIn("the timeout is 'soon'", invoke_raw("status", "/dev/null", "soon").error)
        self.assertIn("is not JSON", invoke_with_payload("{").error)
        self.assertIn("is not a JSON object", invoke_with_payload("[]").error)

    def test_the_extensions_directory_is_not_written_to(self):
        self.succeeds("status", {"url": bare.url})
        self.assertNotIn("__pycache__", os.listdir(os.path.dirname(SCRIPT)))

    def test_the_manifest_offers_the_custom_actions_and_values_that_the_script_knows(self):
        with open(os.path.join(os.path.dirname(SCRIPT), "manifest.yaml"), encoding="utf-8") as file:
            manifest = file.read()
        offered = re.findall(r"^  - name: (\w+)$", manifest, re.MULTILINE)
        known = self.fails("Explode", {"url": bare.url}).partition("use one of ")[2].split(", ")
        self.assertEqual(offered, [name for name in known if name[0].isupper()])
        boot, light = (text.split(",") for text in re.findall(r'valueoptions: "(.*)"', manifest))
        for action, name, values in (("SetBootDevice", "device", boot), ("IndicatorLight", "state", light)):
            error = self.fails(action, {"url": bare.url}, parameters={name: "?"})
            self.assertEqual(error.partition("one of ")[2].split(", "), values)

    def test_the_script_is_found_through_a_link(self):
        link = os.path.join(directory.name, "linked")
        os.symlink(os.path.dirname(os.path.realpath(SCRIPT)), link)
        self.assertIn("the arguments are wrong", run_at(os.path.join(link, "redfish.py")))


def invoke_with_payload(text):
    path = os.path.join(directory.name, "payload.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return invoke_raw("status", path, "5")


def run_at(path):
    return subprocess.run([path], stdout=subprocess.PIPE, text=True, timeout=20, check=False).stdout


if __name__ == "__main__":
    unittest.main()
