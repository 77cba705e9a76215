"""Synthetic services, each for something that systemd makes filters or no_new_privs of.

By file name below a directory of units: the lines of [Service], or all lines of a drop-in.
"""

from collections.abc import Mapping, Sequence

_BOOLEANS = (
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "PrivateDevices",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictRealtime",
    "RestrictSUIDSGID",
)
_USER = ("User=nobody", "SystemCallFilter=~mkdir")

UNITS: Mapping[str, Sequence[str]] = {
    "nothing.service": [],
    "no-new-privileges.service": ["NoNewPrivileges=yes"],
    "user.service": ["User=nobody"],
    "user-filter.service": ["User=nobody", "SystemCallFilter=~mkdir"],
    "user-root-filter.service": ["User=root", "SystemCallFilter=~mkdir"],
    "dynamic-user.service": ["DynamicUser=yes"],
    "user-clock.service": ["User=nobody", "ProtectClock=yes"],
    "user-ambient.service": [
        "User=nobody",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_SYS_ADMIN",
        "LockPersonality=yes",
    ],
    "ambient-unbound.service": [
        "User=nobody",
        "CapabilityBoundingSet=CAP_KILL",
        "AmbientCapabilities=CAP_CHOWN",
    ],
    "ambient-root.service": ["CapabilityBoundingSet=CAP_KILL", "AmbientCapabilities=CAP_CHOWN"],
    "bounded.service": ["CapabilityBoundingSet=CAP_CHOWN CAP_NET_RAW", "SystemCallFilter=~mkdir"],
    "bounded-without.service": [
        "CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_SYS_PTRACE",
        "CapabilityBoundingSet=~CAP_MKNOD",
        "ProtectKernelLogs=yes",
        "ProtectClock=yes",
    ],
    "bounded-empty.service": ["CapabilityBoundingSet="],
    "bounded-merged.service": [
        "CapabilityBoundingSet=CAP_CHOWN CAP_KILL",
        "CapabilityBoundingSet=~CAP_KILL",
        "CapabilityBoundingSet=CAP_FOWNER",
    ],
    **{f"{name.lower()}.service": [f"{name}=yes"] for name in _BOOLEANS},
    "all-booleans.service": [f"{name}=yes" for name in _BOOLEANS],
    "personality-x86.service": ["LockPersonality=yes", "Personality=x86"],
    "deny-one.service": ["SystemCallFilter=~mkdir"],
    "deny-errno.service": [
        "SystemCallFilter=~mkdir:ENOENT @clock:EACCES rmdir:kill unlink:0 chmod:255 socketcall",
        "SystemCallErrorNumber=EPERM",
    ],
    "deny-merged.service": [
        "SystemCallFilter=~@mount @swap",
        "SystemCallFilter=umount2",
        "SystemCallFilter=~chroot:ENOSYS",
        "SystemCallErrorNumber=1",
    ],
    "deny-all-known.service": [
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=~@obsolete @cpu-emulation",
    ],
    "allow-default.service": ["SystemCallFilter=mkdir"],
    "allow-service.service": ["SystemCallFilter=@system-service"],
    "allow-service-errno.service": [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallErrorNumber=EPERM",
    ],
    "allow-with-errno.service": [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@clock:EPERM uname:kill @setuid:0",
        "SystemCallErrorNumber=ENOSYS",
    ],
    "allow-again.service": [
        "SystemCallFilter=@file-system @io-event",
        "SystemCallFilter=~@file-system",
        "SystemCallFilter=openat read write",
    ],
    "allow-known.service": ["SystemCallFilter=@known"],
    "allow-nothing.service": [
        "SystemCallFilter=~@known",
        "SystemCallFilter=",
        "SystemCallFilter=pause",
    ],
    "reset.service": ["SystemCallFilter=@basic-io", "SystemCallFilter="],
    "reset-to-deny.service": [
        "SystemCallFilter=@basic-io",
        "SystemCallFilter=",
        "SystemCallFilter=~rmdir",
    ],
    "odd-words.service": [
        "SystemCallFilter=~ mkdir  nosuchcall @nosuchset rmdir:NOSUCH unlink:4096 \\",
        "# said between",
        "   chmod @module \\",
        ";as well",
        "SystemCallErrorNumber=EPERM",
        "SystemCallErrorNumber=EPERM",
        "SystemCallErrorNumber=0",
        "SystemCallErrorNumber=nonsense",
    ],
    "odd-invert.service": [
        "SystemCallFilter=~mkdir",
        "SystemCallFilter=@basic-io ~rmdir chmod:EPERM",
    ],
    "only-unknown.service": ["SystemCallFilter=~nosuchcall"],
    "architectures-native.service": ["SystemCallArchitectures=native"],
    "architectures-two.service": ["SystemCallArchitectures=native x86", "SystemCallFilter=~mkdir"],
    "architectures-x32.service": ["SystemCallArchitectures=x32 arm64", "SystemCallFilter=~mkdir"],
    "architectures-all.service": ["SystemCallArchitectures=x86-64 x86 x32"],
    "architectures-native-all.service": [
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallLog=@mount",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
    ],
    "log-some.service": ["SystemCallLog=mkdir @mount"],
    "log-all-but.service": ["SystemCallLog=~@system-service", "SystemCallLog=mount"],
    "log-nothing-but.service": ["SystemCallLog=~nosuchcall", "User=nobody"],
    "log-nothing.service": ["SystemCallLog=nosuchcall", "User=nobody"],
    "log-and-filter.service": ["SystemCallLog=mkdir", "SystemCallFilter=~mkdir rmdir:EPERM"],
    "families-some.service": ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"],
    "families-one.service": ["RestrictAddressFamilies=AF_NETLINK"],
    "families-not.service": ["RestrictAddressFamilies=~AF_PACKET AF_ALG AF_VSOCK"],
    "families-none.service": ["RestrictAddressFamilies=none"],
    "families-none-then.service": [
        "RestrictAddressFamilies=none",
        "RestrictAddressFamilies=~AF_ALG",
    ],
    "families-merged.service": [
        "RestrictAddressFamilies=AF_UNIX 'AF_INET' AF_NOSUCH",
        "RestrictAddressFamilies=~AF_UNIX",
        "RestrictAddressFamilies=AF_VSOCK AF_LOCAL",
    ],
    "families-emptied.service": [
        "RestrictAddressFamilies=AF_UNIX",
        "RestrictAddressFamilies=~AF_UNIX",
    ],
    "families-reset.service": ["RestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies="],
    "namespaces-all.service": ["RestrictNamespaces=yes"],
    "namespaces-no.service": ["RestrictNamespaces=yes", "RestrictNamespaces=no"],
    "namespaces-some.service": ["RestrictNamespaces=net user"],
    "namespaces-not.service": [
        "RestrictNamespaces=~user",
        "RestrictNamespaces=~mnt",
        "RestrictNamespaces=cgroup",
    ],
    "namespaces-time.service": ["RestrictNamespaces=yes", "RestrictNamespaces=net time"],
    "namespaces-time-only.service": ["RestrictNamespaces=time"],
    "namespaces-not-time.service": ["RestrictNamespaces=~time"],
    "namespaces-wrong.service": ["RestrictNamespaces=~uts", "RestrictNamespaces=net nosuch"],
    "dashed-name.service": ["SystemCallFilter=~mkdir"],
    "dashed-name.service.d/20-more.conf": [
        "[Service]",
        "SystemCallFilter=~rmdir",
        "SystemCallErrorNumber=EACCES",
    ],
    "dashed-.service.d/10-first.conf": ["[Service]", "SystemCallErrorNumber=EPERM"],
    "dashed-.service.d/20-more.conf": ["[Service]", "SystemCallFilter=~chmod"],
    "dashed-name.service.d/30-reset.conf": [
        "[Service]",
        "SystemCallArchitectures=native",
        "SystemCallArchitectures=",
    ],
    "dashed-name.service.d/.hidden.conf": ["[Service]", "LockPersonality=yes"],
    # Which prefixes are read for an instance, and whose file of one name counts.
    "pre-fix@x.service": ["SystemCallFilter=~mkdir"],
    "pre-.service.d/10-first.conf": ["[Service]", "SystemCallFilter=~chmod"],
    "pre-@.service.d/10-first.conf": ["[Service]", "SystemCallFilter=~chown"],
    "pre-@x.service.d/20-more.conf": ["[Service]", "SystemCallFilter=~fchown"],
    "deep-i-j@x.service": ["SystemCallFilter=~mkdir"],
    "deep-.service.d/10-first.conf": ["[Service]", "SystemCallFilter=~chmod"],
    "deep-i-.service.d/10-first.conf": ["[Service]", "SystemCallFilter=~chown"],
    "deep-@.service.d/30-last.conf": ["[Service]", "SystemCallFilter=~fchmod"],
    # Of whom a command runs as root.
    "bang.service": [*_USER, "ExecStart=", "ExecStart=!/run/pause"],
    "bang-twice.service": [*_USER, "ExecStart=", "ExecStart=!!/run/pause"],
    "bang-no-new-privileges.service": [
        *_USER,
        "NoNewPrivileges=yes",
        "ExecStart=",
        "ExecStart=-!/run/pause",
    ],
    "bang-dynamic-user.service": ["DynamicUser=yes", "ExecStart=", "ExecStart=!/run/pause"],
    "bang-bounded.service": [
        "User=nobody",
        "AmbientCapabilities=CAP_SYS_ADMIN",
        "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_CHOWN",
        "ExecStart=",
        "ExecStart=!/run/pause",
    ],
    "dashed-name.service.d/no-suffix": ["[Service]", "LockPersonality=yes"],
}

REFUSED: Mapping[str, Sequence[str]] = {
    # libseccomp takes no rule that says what the default says.
    "errno-of-all.service": [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~uname:EPERM",
        "SystemCallErrorNumber=EPERM",
    ],
    "kill-of-all.service": ["SystemCallFilter=@system-service", "SystemCallFilter=~uname:kill"],
    "errno-4095.service": ["SystemCallFilter=~uname:4095"],
    "section.service": ["[Install", "WantedBy=multi-user.target"],
    "not-utf8.service": ["Description=\udcff"],
}
"""Services that systemd cannot start."""
