"""Every setting that a unit of systemd 252 with commands may have, by what becomes of it here.

A contract test compares the lists with what systemd itself lists, so that none is forgotten.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HONOURED = _words("""
AmbientCapabilities CapabilityBoundingSet LockPersonality MemoryDenyWriteExecute NoNewPrivileges
Personality RestrictAddressFamilies RestrictNamespaces RestrictSUIDSGID SystemCallArchitectures
SystemCallErrorNumber SystemCallFilter SystemCallLog User
""")
"""All that they enforce is part of the candidate."""

IN_PART = {
    "DynamicUser": "the private and read-only directories that it brings",
    "PrivateDevices": "the /dev of its own and the device policy",
    "ProtectClock": "the device policy",
    "ProtectHostname": "the UTS namespace",
    "ProtectKernelLogs": "that /proc/kmsg and /dev/kmsg are out of reach",
    "ProtectKernelModules": "that the directory of modules is out of reach",
    "ProtectKernelTunables": "that /proc/sys, /sys and others are read-only",
    "RestrictRealtime": "the limit on real-time priority",
}
"""Their filters and capabilities are part of the candidate, what is said here is not."""

NOT_MODELLED = _words("""
AllowedCPUs AllowedMemoryNodes AppArmorProfile BPFProgram BindPaths BindReadOnlyPaths
BlockIOReadBandwidth BlockIOWriteBandwidth CPUQuota Delegate DeviceAllow DevicePolicy ExecPaths
ExtensionDirectories ExtensionImages Group IOReadBandwidthMax IOReadIOPSMax IOWriteBandwidthMax
IOWriteIOPSMax IPAddressAllow IPAddressDeny IPCNamespacePath IPEgressFilterPath
IPIngressFilterPath InaccessibleDirectories InaccessiblePaths KeyringMode LimitAS LimitCORE
LimitCPU LimitDATA LimitFSIZE LimitLOCKS LimitMEMLOCK LimitMSGQUEUE LimitNICE LimitNOFILE
LimitNPROC LimitRSS LimitRTPRIO LimitRTTIME LimitSIGPENDING LimitSTACK LogNamespace MemoryHigh
MemoryLimit MemoryMax MemorySwapMax MountAPIVFS MountFlags MountImages NUMAMask NUMAPolicy
NetworkNamespacePath NoExecPaths PAMName PermissionsStartOnly PrivateIPC PrivateMounts
PrivateNetwork PrivateTmp PrivateUsers ProcSubset ProtectControlGroups ProtectHome ProtectProc
ProtectSystem ReadOnlyDirectories ReadOnlyPaths ReadWriteDirectories ReadWritePaths RemoveIPC
RestrictFileSystems RestrictNetworkInterfaces RootDirectory RootDirectoryStartOnly RootHash
RootHashSignature RootImage RootImageOptions RootVerity SELinuxContext SELinuxContextFromNet
SecureBits Slice SmackLabel SmackLabelIPIn SmackLabelIPOut SmackProcessLabel SocketBindAllow
SocketBindDeny SupplementaryGroups TasksMax TemporaryFileSystem UMask
""")
"""They enforce something that no layer here stands for."""

ENFORCING = HONOURED | IN_PART.keys() | NOT_MODELLED

SWITCHES = _words("""
Delegate MountAPIVFS PermissionsStartOnly PrivateIPC PrivateMounts PrivateNetwork PrivateTmp
PrivateUsers ProtectControlGroups ProtectHome ProtectSystem RemoveIPC RootDirectoryStartOnly
""")
"""Those of them that a no switches off."""

NOT_ENFORCING = _words("""
Accept Backlog BindIPv6Only BindToDevice BlockIOAccounting BlockIODeviceWeight BlockIOWeight
Broadcast BusName CPUAccounting CPUAffinity CPUQuotaPeriodSec CPUSchedulingPolicy
CPUSchedulingPriority CPUSchedulingResetOnFork CPUShares CPUWeight CacheDirectory
CacheDirectoryMode ConfigurationDirectory ConfigurationDirectoryMode CoredumpFilter
DefaultMemoryLow DefaultMemoryMin DeferAcceptSec DirectoryMode DisableControllers Environment
EnvironmentFile ExecCondition ExecReload ExecSearchPath ExecStart ExecStartPost ExecStartPre
ExecStop ExecStopPost ExecStopPre ExitType FailureAction FileDescriptorName FileDescriptorStoreMax
FinalKillSignal FlushPending ForceUnmount FreeBind GuessMainPID IOAccounting
IODeviceLatencyTargetSec IODeviceWeight IOSchedulingClass IOSchedulingPriority IOWeight
IPAccounting IPTOS IPTTL IgnoreSIGPIPE KeepAlive KeepAliveIntervalSec KeepAliveProbes
KeepAliveTimeSec KillMode KillSignal LazyUnmount ListenDatagram ListenFIFO ListenMessageQueue
ListenNetlink ListenSequentialPacket ListenSpecial ListenStream ListenUSBFunction LoadCredential
LoadCredentialEncrypted LogExtraFields LogLevelMax LogRateLimitBurst LogRateLimitIntervalSec
LogsDirectory LogsDirectoryMode ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit
ManagedOOMPreference ManagedOOMSwap Mark MaxConnections MaxConnectionsPerSource MemoryAccounting
MemoryLow MemoryMin MessageQueueMaxMessages MessageQueueMessageSize Nice NoDelay NonBlocking
NotifyAccess OOMPolicy OOMScoreAdjust Options PIDFile PassCredentials PassEnvironment
PassPacketInfo PassSecurity PipeSize Priority ReadWriteOnly RebootArgument ReceiveBuffer
RemainAfterExit RemoveOnStop Restart RestartForceExitStatus RestartKillSignal
RestartPreventExitStatus RestartSec ReusePort RuntimeDirectory RuntimeDirectoryMode
RuntimeDirectoryPreserve RuntimeMaxSec RuntimeRandomizedExtraSec SendBuffer SendSIGHUP SendSIGKILL
Service SetCredential SetCredentialEncrypted SloppyOptions SocketGroup SocketMode SocketProtocol
SocketUser Sockets StandardError StandardInput StandardInputData StandardInputText StandardOutput
StartLimitAction StartLimitBurst StartLimitInterval StartupAllowedCPUs StartupAllowedMemoryNodes
StartupBlockIOWeight StartupCPUShares StartupCPUWeight StartupIOWeight StateDirectory
StateDirectoryMode SuccessExitStatus Symlinks SyslogFacility SyslogIdentifier SyslogLevel
SyslogLevelPrefix TCPCongestion TTYColumns TTYPath TTYReset TTYRows TTYVHangup TTYVTDisallocate
TasksAccounting TimeoutAbortSec TimeoutCleanSec TimeoutSec TimeoutStartFailureMode
TimeoutStartSec TimeoutStopFailureMode TimeoutStopSec TimerSlackNSec Timestamping Transparent
TriggerLimitBurst TriggerLimitIntervalSec Type USBFunctionDescriptors USBFunctionStrings
UnsetEnvironment UtmpIdentifier UtmpMode WatchdogSec WatchdogSignal What Where WorkingDirectory
Writable
""")
"""How a program is started, watched, logged, scheduled and ended."""

COMMANDS = _words("""
ExecCondition ExecReload ExecStart ExecStartPost ExecStartPre ExecStop ExecStopPost ExecStopPre
""")
