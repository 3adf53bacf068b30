"""A computer system of a Redfish service: finding it, its chassis, its resets, and waiting for a state."""

import time

from redfish_details import RedfishError

RESET = "#ComputerSystem.Reset"
LAST_LOOK_SECONDS = 0.3


class System:
    """The computer system that an action is about."""

    def __init__(self, client, path):
        self.client, self.path = client, path
        self.refresh()

    def refresh(self):
        """Read it again; returns its PowerState."""
        self.body = self.client.get(self.path)
        return self.power

    @property
    def power(self):
        """On, Off, PoweringOn, PoweringOff, Paused, or an empty string where the service does not say."""
        return self.body.get("PowerState") or ""

    @property
    def id(self):
        """Its Id, or the last segment of its path."""
        return str(self.body.get("Id") or last_segment(self.path))

    def reset_types(self):
        """The reset types the service allows; empty where it does not say."""
        action = (self.body.get("Actions") or {}).get(RESET) or {}
        allowed = action.get("ResetType@Redfish.AllowableValues")
        if not allowed and action.get("@Redfish.ActionInfo"):
            info = self.client.get_if_present(action["@Redfish.ActionInfo"]) or {}
            for described in info.get("Parameters", []):
                if described.get("Name") == "ResetType":
                    allowed = described.get("AllowableValues")
        return allowed or []

    def choose_reset(self, *preferred):
        """The first preferred type that is allowed, or None. A service that lists none is asked for the first."""
        allowed = self.reset_types()
        return next((kind for kind in preferred if kind in allowed or not allowed), None)

    def reset(self, kind, purpose):
        """Send a reset. `kind` None means that none of the types for this purpose is allowed."""
        target = ((self.body.get("Actions") or {}).get(RESET) or {}).get("target")
        if not target:
            raise RedfishError(f"system {self.id} cannot be reset by this service: it offers no {RESET} action")
        if not kind:
            raise RedfishError(
                f"system {self.id} offers no reset type to {purpose}: it allows {', '.join(self.reset_types())}"
            )
        self.client.post(target, {"ResetType": kind})

    def wait(self, seconds, reached, doing):
        """Poll until `reached()` holds for the fresh state; False when the seconds are over first."""
        pause, end = 0.5, time.monotonic() + seconds
        while not (self.refresh() and reached()):
            if time.monotonic() >= end or self.client.deadline.remaining() < 2 * LAST_LOOK_SECONDS:
                return False
            self.client.sleep(min(pause, self.client.deadline.remaining() - LAST_LOOK_SECONDS), doing)
            pause = min(5.0, pause * 1.5)
        return True

    def wait_or_fail(self, reached, doing):
        """The same, for all the time there is; an error when it is not reached."""
        if not self.wait(self.client.deadline.remaining(), reached, doing):
            raise RedfishError(
                f"timed out (limit {self.client.deadline.limit:g} s) while {doing}: its PowerState is "
                f"{self.power or 'not given'}; it may still get there, so ask for its status before trying again"
            )


def find_system(client, details):
    """The system named by the details, or the only one there is."""
    paths = system_paths(client)
    wanted = details.system
    if not wanted:
        if len(paths) == 1:
            return System(client, paths[0])
        names = ", ".join(map(last_segment, paths)) or "none"
        raise RedfishError(
            f"the service has {len(paths)} systems: set virtualmachine.system to one of these ids: {names}"
        )
    for path in paths:
        if last_segment(path) == wanted:
            return System(client, path)
    systems = [System(client, path) for path in paths]
    for key in ("Id", "UUID", "Name"):
        found = [system for system in systems if str(system.body.get(key, "")).lower() == wanted.lower()]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(system.id for system in found)
            raise RedfishError(f"{len(found)} systems have the {key} {wanted!r}: set system to one of these ids: {ids}")
    names = ", ".join(map(last_segment, paths)) or "none"
    raise RedfishError(f"the service has no system {wanted!r}: set system to one of these ids: {names}")


def system_paths(client):
    """The paths of all systems of the service."""
    collection = reference(client.get("/redfish/v1/"), "Systems")
    if not collection:
        raise RedfishError("the service has no Systems collection: it manages no servers")
    return client.members(collection)


def chassis_paths(client, system):
    """The system's chassis. Where it names none, all there are, as long as it is the service's only system."""
    linked = [chassis["@odata.id"] for chassis in (system.body.get("Links") or {}).get("Chassis", [])]
    if linked:
        return linked
    collection = reference(client.get("/redfish/v1/"), "Chassis")
    return client.members(collection) if collection and len(system_paths(client)) == 1 else []


def reference(body, key):
    """The `@odata.id` that a resource has under this key, or None."""
    return (body.get(key) or {}).get("@odata.id")


def last_segment(path):
    """What a path ends with, which is a resource's Id with nearly every service."""
    return path.rstrip("/").rpartition("/")[2]
