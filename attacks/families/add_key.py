"""Add a key to the kernel's keyrings, where it may outlive whoever made it.

The key's name is sixteen letters that nobody can guess, which the victim notes for the attack.  The
witness looks for them in /proc/keys, which shows to each user what the user's own keys are.
"""

from attacks import deputy, witness
from attacks.consts import AT_FDCWD, NULL, O_RDONLY, Named
from attacks.consts_namespaces import STATX_BASIC_STATS
from attacks.effects import SECRET, Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer

FAMILY = Family(
    "add-key",
    title="Add a key to a keyring",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="kernel surface",
    unrecorded={
        "add_key to the user's keyring": (
            "before Linux 5.3 that is the user's own on the machine, and the key would stay there"
        ),
        "request_key with a callout": "the kernel starts /sbin/request-key on the host",
        "add_key of a big_key, an asymmetric, an encrypted or a trusted key": (
            "the types are not in every kernel, and the call is the same"
        ),
        "keyctl(KEYCTL_GET_PERSISTENT)": (
            "its keyring is called after the user, so nobody can tell whether it is a new one"
        ),
        "keyctl(KEYCTL_GET_KEYRING_ID) that creates one": (
            "all such keyrings have one name, so nobody can tell whose it is"
        ),
        "keyctl(KEYCTL_UPDATE)": "changes what is in a key that is there already",
        "keyctl(KEYCTL_CHOWN), keyctl(KEYCTL_SETPERM)": (
            "change who may use a key that is there already"
        ),
        "keyctl(KEYCTL_LINK)": "puts a key that is there already into one more keyring",
    },
)
KEY_SPEC_THREAD_KEYRING = Named(-1, "KEY_SPEC_THREAD_KEYRING")
KEY_SPEC_PROCESS_KEYRING = Named(-2, "KEY_SPEC_PROCESS_KEYRING")
KEY_SPEC_SESSION_KEYRING = Named(-3, "KEY_SPEC_SESSION_KEYRING")
KEYCTL_GET_KEYRING_ID = Named(0, "KEYCTL_GET_KEYRING_ID")
KEYCTL_JOIN_SESSION_KEYRING = Named(1, "KEYCTL_JOIN_SESSION_KEYRING")
_PAYLOAD = b"p"
_STATX_SIZE, _STATX_UID = 256, 20
_PAGES, _PAGE = 8, 4096
_NAME_SIZE = len(SECRET)


@FAMILY.witness
def the_key_is_there(w: Kernel) -> None:
    """Only a user's own keys are shown, so the file is opened as the subject's user."""
    about = w.buffer(_STATX_SIZE, name="statx")
    w.statx(AT_FDCWD, w.proc_pid(witness.subject(w)), 0, STATX_BASIC_STATS, about)
    w.setfsuid(w.load(about, _STATX_UID, 4))
    file = w.openat(AT_FDCWD, w.proc("keys"), O_RDONLY).may_fail()
    w.setfsuid(0)
    keys = w.buffer(_PAGES * _PAGE, name="keys")
    w.copy(keys, w.buffer(_PAGES * _PAGE, name="zeros"), keys.size)
    end = w.add(keys, 0)
    for _ in range(_PAGES):  # one read gives a page at the most
        end = w.add(end, w.read(file, end, _PAGE))
    w.close(file)
    w.expect(w.find(keys, keys.size, SECRET), 1 << 63, 0)


@FAMILY.variant(Technique.BASELINE, references=("man 2 add_key",))
def add_key(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _add(k, "user", KEY_SPEC_PROCESS_KEYRING)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def add_key_thread(k: Kernel) -> None:
    """The thread's own keyring has another number; a rule on the others does not match."""
    _add(k, "user", KEY_SPEC_THREAD_KEYRING)


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def add_key_session(k: Kernel) -> None:
    """The session's keyring is handed on to every child and every program that is run."""
    _own_session(k)
    _add(k, "user", KEY_SPEC_SESSION_KEYRING)


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=Assumption.TRUSTED_SETUP)
def add_key_by_number(k: Kernel) -> None:
    """Every keyring has a number of its own: rules on the special ones do not match."""
    _own_session(k)
    keyring = k.setup.keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
    name = _name(k)
    payload = k.data(_PAYLOAD, name="payload")
    k.add_key(k.text("user"), name, payload, len(_PAYLOAD), keyring).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def add_key_keyring(k: Kernel) -> None:
    """Makes a keyring: the type is text behind a pointer, and there is no payload to look at."""
    k.add_key(k.text("keyring"), _name(k), NULL, 0, KEY_SPEC_PROCESS_KEYRING).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def add_key_logon(k: Kernel) -> None:
    """A key that no program can read, only the kernel: the call shows nothing of the type."""
    _add(k, "logon", KEY_SPEC_PROCESS_KEYRING, prefix="sidestep:")


@FAMILY.variant(Technique.MULTIPLEXER, references=("man 2 keyctl",))
def keyctl_join_session(k: Kernel) -> None:
    """An operation of keyctl makes a keyring of that name: add_key is never called."""
    k.keyctl(KEYCTL_JOIN_SESSION_KEYRING, _name(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def keyctl_join_session_i386(k: Kernel) -> None:
    """The 32-bit table has the same operation under another number."""
    k.i386.keyctl(KEYCTL_JOIN_SESSION_KEYRING, _name(k)).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC has the same session keyring."""
    _own_session(k)
    name = _name(k)
    with deputy.sibling_thread(k) as thread:
        payload = thread.data(_PAYLOAD, name="payload")
        thread.add_key(thread.text("user"), name, payload, len(_PAYLOAD), KEY_SPEC_SESSION_KEYRING)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def request_key(k: Kernel) -> None:
    """Looks for a key of that name, and without a callout nobody is asked to make one."""
    k.request_key(k.text("user"), _name(k), NULL, KEY_SPEC_PROCESS_KEYRING).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def add_key_logon_without_prefix(k: Kernel) -> None:
    """The name of such a key must say what it is for, before a colon; else it is refused."""
    payload = k.data(_PAYLOAD, name="payload")
    k.add_key(
        k.text("logon"), _name(k), payload, len(_PAYLOAD), KEY_SPEC_PROCESS_KEYRING
    ).decisive().may_fail()


def _add(k: Kernel, kind: str, keyring: Named, prefix: str = "") -> None:
    name = _name(k, prefix)
    payload = k.data(_PAYLOAD, name="payload")
    k.add_key(k.text(kind), name, payload, len(_PAYLOAD), keyring).decisive()


def _name(k: Kernel, prefix: str = "") -> Buffer:
    """The letters, with a NUL behind them, noted by the victim."""
    name = k.data(prefix.encode() + bytes(_NAME_SIZE + 1), name="name")
    k.victim.copy(name.at(len(prefix)), k.env(Environment.SECRET), _NAME_SIZE)
    return name


def _own_session(k: Kernel) -> None:
    """A session keyring of its own: that of whoever started the sandbox is not touched."""
    k.setup.keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)
