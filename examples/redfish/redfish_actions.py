"""What each action does, told in Redfish's own terms. Every function returns the JSON object to print."""

from redfish_client import StatusError, TaskError
from redfish_details import RedfishError, as_boolean, parameter
from redfish_system import System, chassis_paths, find_system, reference, system_paths

POWER = {"On": "PowerOn", "Off": "PowerOff"}
BOOT_DEVICES = ("Pxe", "Hdd", "Cd", "Usb", "BiosSetup", "None")
LIGHTS = ("Lit", "Blinking", "Off")
UNKNOWN = "n/a"
SETTLE_SECONDS = 10.0


# -- power -------------------------------------------------------------------------------------------------------


def prepare(client, details, _payload):
    """Fail early where the server cannot be reached; nothing of the virtual machine is changed."""
    find_system(client, details)
    return {}


def create(client, details, payload):
    """Take a server into use: it must be off (or `adopt` set), boots from `boot_device` once, and is switched on."""
    system = find_system(client, details)
    if system.power == "On":
        if not details.adopt:
            raise RedfishError(
                f"system {system.id} is on already and may be in use: power it off first, or set "
                "virtualmachine.adopt to true to take it over as it runs"
            )
        return _success(f"system {system.id} was on and has been taken over as it runs")
    if details.boot_device:
        _set_boot(system, details.boot_device, persistent=False)
    return _start(system)


def delete(client, details, _payload):
    """Give a server back: power it off. Redfish deletes no hardware, and this erases nothing."""
    system = find_system(client, details)
    answer = _stop(system, details)
    answer["message"] += "; the server itself, its disks and its settings were left as they are"
    return answer


def start(client, details, _payload):
    """Switch it on and wait until it is."""
    return _start(find_system(client, details))


def stop(client, details, _payload):
    """Ask the operating system to shut down; after the time for that, cut the power."""
    return _stop(find_system(client, details), details)


def reboot(client, details, _payload):
    """Restart: gracefully, then by force. A server that is off is switched on."""
    system = find_system(client, details)
    if system.power == "Off":
        return _start(system)
    graceful = system.choose_reset("GracefulRestart")
    forced = system.choose_reset("ForceRestart", "PowerCycle")
    doing = f"waiting for system {system.id} to restart"
    before = system.body.get("LastResetTime")
    went_off = False

    def restarted():
        nonlocal went_off
        went_off = went_off or system.power != "On"
        return system.power == "On" and (went_off if before is None else system.body.get("LastResetTime") != before)

    for kind, fallback in ((graceful, forced), (forced, None)):
        if not kind or not _accepted(system, kind, "restart", fallback):
            continue
        if before is None:  # Many services show a restarting system as On throughout: then nothing proves the restart.
            if not system.wait(min(SETTLE_SECONDS, 0.3 * client.deadline.remaining()), restarted, doing):
                system.wait_or_fail(lambda: system.power == "On", doing)
            if not went_off:
                return _success(f"system {system.id} accepted the restart ({kind}) and is on; no power change was seen")
        elif not fallback:
            system.wait_or_fail(restarted, doing)
        elif not system.wait(_graceful_time(system, details), restarted, doing):
            continue
        return _success(f"system {system.id} was restarted ({kind})")
    return system.reset(None, "restart")


def status(client, details, _payload):
    """PowerOn, PowerOff, or PowerUnknown while it is changing."""
    return {"status": "success", "power_state": POWER.get(find_system(client, details).power, "PowerUnknown")}


def statuses(client, details, _payload):
    """Each system's state, by the instance names given in `names`, else by Name where that is unique, else by Id."""
    systems = [System(client, path) for path in system_paths(client)]
    if details.names:
        known = {system.id: system for system in systems}
        missing = [wanted for wanted in details.names.values() if wanted not in known]
        if missing:
            raise RedfishError(f"names refers to {', '.join(missing)}: the service's systems are {', '.join(known)}")
        named = {name: known[wanted] for name, wanted in details.names.items()}
    else:
        labels = [str(system.body.get("Name") or system.id) for system in systems]
        unique = len(set(labels)) == len(labels)
        named = {label if unique else system.id: system for label, system in zip(labels, systems)}
    states = {name: POWER.get(system.power, "PowerUnknown") for name, system in named.items()}
    return {"status": "success", "power_state": states}


def _start(system):
    if system.power == "On":
        return _success(f"system {system.id} was on already")
    if system.power != "PoweringOn":
        system.reset(system.choose_reset("On", "ForceOn", "PushPowerButton"), "switch it on")
    system.wait_or_fail(lambda: system.power == "On", f"waiting for system {system.id} to be on")
    return _success(f"system {system.id} is on")


def _stop(system, details):
    if system.power == "Off":
        return _success(f"system {system.id} was off already")
    graceful = system.choose_reset("GracefulShutdown")
    forced = system.choose_reset("ForceOff")
    doing = f"waiting for system {system.id} to be off"

    def is_off():
        return system.power == "Off"

    if graceful and _accepted(system, graceful, "switch it off", forced):
        if not forced:
            system.wait_or_fail(is_off, doing)
            return _success(f"system {system.id} was shut down")
        if system.wait(_graceful_time(system, details), is_off, doing):
            return _success(f"system {system.id} was shut down")
    system.reset(forced or system.choose_reset("PushPowerButton"), "switch it off")
    system.wait_or_fail(is_off, doing)
    return _success(f"system {system.id} was switched off by force: it did not shut down by itself")


def _accepted(system, kind, purpose, fallback):
    """Send a graceful reset; False if the service refused it and there is a forced one to fall back on."""
    try:
        system.reset(kind, purpose)
        return True
    except (StatusError, TaskError) as error:
        if not fallback or getattr(error, "status", None) in (401, 403):
            raise
        return False


def _graceful_time(system, details):
    """Leave at least two fifths of the time for the forced way."""
    return min(details.graceful_seconds, 0.6 * system.client.deadline.remaining())


# -- boot, light, console ----------------------------------------------------------------------------------------


def set_boot_device(client, details, payload):
    """The device of the next start, or of every start; `None` takes an override back."""
    device = _one_of("device", parameter(payload, "device"), BOOT_DEVICES)
    persistent = as_boolean(parameter(payload, "persistent", "false"), "parameter persistent")
    system = find_system(client, details)
    _set_boot(system, device, persistent)
    if device == "None":
        return _shown(f"system {system.id} boots in its usual order")
    return _shown(f"system {system.id} boots from {device} {'at every start' if persistent else 'at its next start'}")


def _set_boot(system, device, persistent):
    device = _one_of("boot_device", device, BOOT_DEVICES)
    allowed = (system.body.get("Boot") or {}).get("BootSourceOverrideTarget@Redfish.AllowableValues") or []
    if device == "None":
        boot = {"BootSourceOverrideEnabled": "Disabled"}
        if not allowed or "None" in allowed:
            boot["BootSourceOverrideTarget"] = "None"
    elif allowed and device not in allowed:
        raise RedfishError(f"system {system.id} cannot boot from {device}: it allows {', '.join(allowed)}")
    else:
        enabled = "Continuous" if persistent else "Once"
        boot = {"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": device}
    system.client.patch(system.path, {"Boot": boot})


def indicator_light(client, details, payload):
    """The light that shows a technician which server it is; its chassis' one where the system has none."""
    state = _one_of("state", parameter(payload, "state"), LIGHTS)
    system = find_system(client, details)
    places = [(system.path, system.body)] + [(path, client.get(path)) for path in chassis_paths(client, system)]
    for path, body in places:
        if "IndicatorLED" in body:
            client.patch(path, {"IndicatorLED": state})
            return _shown(f"the indicator light of system {system.id} is now {state}")
        if "LocationIndicatorActive" in body:
            client.patch(path, {"LocationIndicatorActive": state != "Off"})
            return _shown(f"the location indicator of system {system.id} is now {'off' if state == 'Off' else 'on'}")
    raise RedfishError(f"system {system.id} has no indicator light that this service can switch")


def getconsole(client, details, _payload):
    """The web address where the service's console opens: Redfish says whether there is one, not how to embed it."""
    system = find_system(client, details)
    if details.console_url:
        url = details.console_url.replace("{system}", system.id)
        return {"status": "success", "console": {"url": url, "protocol": "direct"}}
    consoles = [system.body.get("GraphicalConsole")]
    for manager in (system.body.get("Links") or {}).get("ManagedBy", []):
        consoles.append((client.get_if_present(manager["@odata.id"]) or {}).get("GraphicalConsole"))
    consoles = [console for console in consoles if console]
    if any(console.get("ServiceEnabled", True) for console in consoles):
        return {"status": "success", "console": {"url": details.origin + "/", "protocol": "direct"}}
    why = "its graphical console is disabled: enable it" if consoles else "the service offers no graphical console"
    raise RedfishError(f"system {system.id} has no console: {why}, or set host.console_url to where one is")


# -- tables ------------------------------------------------------------------------------------------------------


def list_sensors(client, details, _payload):
    """Temperatures, fans, voltages and power of the system's chassis: one row each."""
    system = find_system(client, details)
    rows = []
    for path in chassis_paths(client, system):
        chassis = client.get(path)
        sensors = reference(chassis, "Sensors")
        members = client.members(sensors) if sensors else []
        if members:
            rows += [_sensor(client.get(member), "Reading", None) for member in members]
            continue
        thermal = client.get_if_present(reference(chassis, "Thermal")) or {}
        power = client.get_if_present(reference(chassis, "Power")) or {}
        rows += [_sensor(item, "ReadingCelsius", "Cel") for item in thermal.get("Temperatures", [])]
        rows += [_sensor(item, "Reading", None) for item in thermal.get("Fans", [])]
        rows += [_sensor(item, "ReadingVolts", "V") for item in power.get("Voltages", [])]
        rows += [_sensor(item, "PowerConsumedWatts", "W") for item in power.get("PowerControl", [])]
    if not rows:
        raise RedfishError(f"the chassis of system {system.id} has no sensors that this service shows")
    return _shown(rows)


def _sensor(item, key, unit):
    reading = item.get(key)
    name = item.get("Name") or item.get("FanName") or item.get("MemberId") or item.get("Id") or UNKNOWN
    return {
        "name": str(name),
        "reading": UNKNOWN if reading is None else reading,
        "unit": unit or item.get("ReadingUnits") or UNKNOWN,
        "state": _state(item),
    }


def firmware(client, details, _payload):
    """The firmware inventory, or what the system and its managers say of theirs where there is none."""
    system = find_system(client, details)
    update_service = reference(client.get("/redfish/v1/"), "UpdateService")
    inventory = reference(client.get_if_present(update_service) or {}, "FirmwareInventory")
    rows = []
    if client.get_if_present(inventory) is not None:
        for member in client.members(inventory):
            item = client.get(member)
            rows.append(_version(item.get("Name") or item.get("Id"), item.get("Version"), item))
    if not rows:
        if system.body.get("BiosVersion"):
            rows.append(_version("BIOS", system.body["BiosVersion"], {}))
        for manager in (system.body.get("Links") or {}).get("ManagedBy", []):
            body = client.get_if_present(manager["@odata.id"]) or {}
            if body.get("FirmwareVersion"):
                rows.append(_version(body.get("Name") or body.get("Id"), body["FirmwareVersion"], body))
    if not rows:
        raise RedfishError(f"the service shows no firmware versions for system {system.id}")
    return _shown(rows)


def _version(component, version, item):
    return {
        "component": str(component or UNKNOWN),
        "version": str(version or UNKNOWN),
        "updateable": str(item.get("Updateable", UNKNOWN)).lower(),
        "state": _state(item),
    }


# -- shared ------------------------------------------------------------------------------------------------------


def _state(item):
    """A health that is not OK says most, then a state that is not Enabled."""
    health, state = (item.get("Status") or {}).get("Health"), (item.get("Status") or {}).get("State")
    if health and health != "OK":
        return health
    return state if state and state != "Enabled" else health or state or UNKNOWN


def _one_of(name, value, allowed):
    for choice in allowed:
        if choice.lower() == str(value).strip().lower():
            return choice
    raise RedfishError(f"{name} is {value!r}: it must be one of {', '.join(allowed)}")


def _success(message):
    return {"status": "success", "message": message}


def _shown(message):
    """A custom action's answer that CloudStack's UI displays: a table for rows, else a table of one."""
    rows = message if isinstance(message, list) else [{"result": message}]
    return {"status": "success", "printmessage": "true", "message": rows}


ACTIONS = {
    "prepare": prepare,
    "create": create,
    "delete": delete,
    "start": start,
    "stop": stop,
    "reboot": reboot,
    "status": status,
    "statuses": statuses,
    "getconsole": getconsole,
    "SetBootDevice": set_boot_device,
    "ListSensors": list_sensors,
    "IndicatorLight": indicator_light,
    "Firmware": firmware,
}
