"""Read the payload: which Redfish service to talk to, as whom, and about which system. No network here."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class RedfishError(Exception):
    """A failure to show to the operator: it says what went wrong and what to do about it."""


@dataclass(frozen=True)
class Details:
    """What `externaldetails` says, checked. Secrets are kept out of repr()."""

    scheme: str
    host: str
    port: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    verify_tls: bool
    ca_bundle: str = field(repr=False)
    system: str
    graceful_seconds: float
    console_url: str
    boot_device: str
    adopt: bool
    names: dict

    @property
    def origin(self):
        """`scheme://host[:port]`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


def read_details(payload):
    """Check the payload's `externaldetails`. A detail of the host wins over the same one of the extension."""
    sections = payload.get("externaldetails")
    if not isinstance(sections, dict):
        raise RedfishError("the payload has no externaldetails object: set host.url, host.username and host.password")
    machine = _section(sections, "virtualmachine")
    shared = {**_section(sections, "extension"), **_section(sections, "host")}

    scheme, host, port = _parse_url(_text(shared, "url"))
    username, password = _text(shared, "username"), _text(shared, "password", strip=False)
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise RedfishError(f"host.{missing} is empty: give both host.username and host.password, or neither")
    verify_tls = _boolean(shared, "verify_tls", default=True)
    if scheme == "http" and username and verify_tls:
        raise RedfishError(
            "host.url is http://, which would send the password unencrypted: "
            "use https://, or set host.verify_tls to false if this network is trusted"
        )
    return Details(
        scheme=scheme,
        host=host,
        port=port,
        username=username,
        password=password,
        verify_tls=verify_tls,
        ca_bundle=_ca_bundle(_text(shared, "ca_bundle")),
        system=_text(machine, "system") or _text(shared, "system"),
        graceful_seconds=_seconds(shared, "graceful_seconds", default=120.0),
        console_url=_text(shared, "console_url"),
        boot_device=_text(machine, "boot_device"),
        adopt=_boolean(machine, "adopt", default=False),
        names=_names(_text(shared, "names")),
    )


def parameter(payload, name, default=None):
    """A custom action's parameter, or the default where it was not given."""
    value = (payload.get("parameters") or {}).get(name, default)
    if value is None or value == "":
        raise RedfishError(f"parameter {name} is missing: give it a value")
    return value


def as_boolean(value, name):
    """true or false, given as JSON or as text."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    raise RedfishError(f"{name} is {value!r}: it must be true or false")


def _section(sections, name):
    section = sections.get(name) or {}
    if not isinstance(section, dict):
        raise RedfishError(f"externaldetails.{name} is not an object")
    return {key: value for key, value in section.items() if value not in (None, "")}


def _text(section, key, strip=True):
    value = section.get(key, "")
    value = value if isinstance(value, str) else str(value)
    return value.strip() if strip else value


def _boolean(section, key, default):
    return as_boolean(section[key], key) if key in section else default


def _seconds(section, key, default):
    if key not in section:
        return default
    try:
        seconds = float(section[key])
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise RedfishError(f"{key} is {section[key]!r}: it must be a number of seconds from 0 to 86400")
    return seconds


def _parse_url(url):
    if not url:
        raise RedfishError("host.url is missing: set it to the service's address, such as https://bmc-7.example.com")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RedfishError(f"host.url is not a URL: {error}") from None
    if "@" in parts.netloc:
        raise RedfishError("host.url holds a user name or password: move them to host.username and host.password")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise RedfishError(f"host.url is {url!r}: it must look like https://bmc-7.example.com")
    if parts.path.rstrip("/") not in ("", "/redfish", "/redfish/v1") or parts.query or parts.fragment:
        raise RedfishError(f"host.url is {url!r}: it must name only the host; the script adds /redfish/v1/ itself")
    return parts.scheme, parts.hostname, port or {"https": 443, "http": 80}[parts.scheme]


def _ca_bundle(value):
    """PEM text as it is, or that of the named file; a relative name is looked up beside this script."""
    if not value or "-----BEGIN" in value:
        return value
    path = os.path.join(os.path.dirname(os.path.realpath(__file__)), value)
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not PEM text"
        raise RedfishError(f"ca_bundle cannot be read from {path}: {reason}; give a PEM file or its text") from None


def _names(value):
    """`i-2-45-VM=437XR1138R2,…` as a mapping."""
    names = {}
    for pair in filter(None, (part.strip() for part in value.split(","))):
        name, equals, system = (part.strip() for part in pair.partition("="))
        if not (name and equals and system):
            raise RedfishError(f"names holds {pair!r}: write instance=system pairs, separated by commas")
        names[name] = system
    return names
