"""Kernel constants of the families that change what is known about a file."""

from __future__ import annotations

from attacks.consts import Named

ENODATA = Named(61, "ENODATA")

S_IFMT = 0o170000
S_ISUID = Named(0o4000, "S_ISUID")
S_ISGID = Named(0o2000, "S_ISGID")
S_SET_ID = S_ISUID | S_ISGID

IOSQE_IO_LINK = Named(0x4, "IOSQE_IO_LINK")

MOUNT_ATTR_IDMAP = Named(0x100000, "MOUNT_ATTR_IDMAP")

FS_IOC_GETFLAGS = Named(0x80086601, "FS_IOC_GETFLAGS")
FS_IOC_SETFLAGS = Named(0x40086602, "FS_IOC_SETFLAGS")
FS_IOC32_SETFLAGS = Named(0x40046602, "FS_IOC32_SETFLAGS")
FS_IOC_FSSETXATTR = Named(0x401C5820, "FS_IOC_FSSETXATTR")
FS_NODUMP_FL = Named(0x40, "FS_NODUMP_FL")
FS_NOATIME_FL = Named(0x80, "FS_NOATIME_FL")
FS_XFLAG_NODUMP = Named(0x80, "FS_XFLAG_NODUMP")
