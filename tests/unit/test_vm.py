"""What a virtual machine is made of, without one."""

import io
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mitigations
from evaluator import vm_kernel
from evaluator.errors import EnvironmentLackError, InputError
from evaluator.sandbox import runner_path
from evaluator.vm import QEMU, denials, qemu
from evaluator.vm_initrd import initrd
from evaluator.vm_kernel import cache, kernel, unpacked

_SIDESTEP = (sys.executable, "-c", "from evaluator.entry import main; main()")
_ELF = b"\x7fELF" + bytes(60)


def image(payload: bytes) -> bytes:
    """A compressed kernel (Documentation/arch/x86/boot.rst) with one sector of setup."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x248:0x250] = (0).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return bytes(head) + payload


def test_the_kernel_in_a_compressed_image() -> None:
    assert unpacked(image(lzma.compress(_ELF))) == _ELF
    unknown = image(b"BZh91AY&SY")
    assert unpacked(unknown) == unknown
    no_kernel = image(lzma.compress(b"text"))
    assert unpacked(no_kernel) == no_kernel


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by path, of a cpio archive in the format newc."""
    file, found = io.BytesIO(archive), dict[str, tuple[int, bytes]]()
    while True:
        head = file.read(110)
        assert head[:6] == b"070701"
        fields = [int(head[at : at + 8], 16) for at in range(6, 110, 8)]
        name = file.read(fields[11])[:-1].decode()
        file.seek(-file.tell() % 4, io.SEEK_CUR)
        if name == "TRAILER!!!":
            return found
        assert name not in found
        found[name] = fields[1], file.read(fields[6])
        file.seek(-file.tell() % 4, io.SEEK_CUR)


def test_what_is_in_the_initramfs(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_text('#!/bin/sh\nprintf "busybox\\ncat\\nsh\\ninsmod\\n"\n')
    busybox.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    module = tmp_path / "virtio.ko"
    module.write_bytes(b"module")
    archive = initrd({"bin/busybox": busybox, "etc/empty.d": folder}, [module], runner_path())
    found = entries(archive)
    assert found["init"][0] == 0o100755
    assert found["runner"] == (0o100755, runner_path().read_bytes())
    assert found["modules/0-virtio.ko"] == (0o100644, b"module")
    assert found["bin/insmod"] == (0o120777, b"busybox")
    assert found["bin/sh"][0] == 0o100755  # this machine's own, for honest programs
    assert found["etc/empty.d"][0] == 0o040755
    for name in found:
        assert name.rpartition("/")[0] in {"", *found}, f"{name} has no directory"


def test_a_script_of_the_initramfs_is_a_script(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_text("#!/bin/sh\n")
    busybox.chmod(0o755)
    found = entries(initrd({"bin/busybox": busybox}, [], runner_path()))
    for name in ("init", "start", "load"):
        subprocess.run(["sh", "-n"], input=found[name][1], check=True)


def test_denials_in_a_console() -> None:
    line = (
        '[ 4.1] audit: type=1400 audit(1.2:3): apparmor="{}" operation="{}" profile="{}" name="/x"'
    )
    console = "\n".join(
        [
            line.format("DENIED", "mkdir", "p"),
            line.format("DENIED", "open", "p"),
            line.format("DENIED", "mkdir", "p"),
            line.format("DENIED", "mkdir", "another"),
            line.format("STATUS", "profile_load", "p"),
            'apparmor="DENIED" operation="cut off',
            "sidestep: the runner is started",
        ]
    )
    assert denials(console, "p") == [("mkdir", 2), ("open", 1)]
    assert denials(console, "q") == []


def test_denials_under_a_name_that_is_no_word_and_in_a_hat() -> None:
    line = 'audit: type=1400 audit(1.2:3): apparmor="DENIED" operation="exec" profile={} name="/x"'
    names = (b"a b".hex().upper(), '"a b//hat"', '"a b c"', '"a b/"')
    assert denials("\n".join(map(line.format, names)), "a b") == [("exec", 2)]


def test_where_packages_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "sidestep" / "vm"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache() == Path.home() / ".cache" / "sidestep" / "vm"


@pytest.mark.parametrize("name", ["", "-o", "../x", "a b", "x;y", "Linux", "a=1"])
def test_what_is_no_name_of_a_package(name: str) -> None:
    with pytest.raises(InputError, match="not the name of a package"):
        kernel(name)


def test_nothing_is_downloaded_where_it_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    distribution(tmp_path, monkeypatch)
    found = kernel("linux-image-x", lambda _: None)
    assert kernel("linux-image-x", pytest.fail) == found
    assert found.release == "6.1.0"
    assert [one.name for one in found.modules] == ["virtio_ring.ko", "virtio.ko"]
    assert vm_kernel.is_kept("linux-image-x")


def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a package with a kernel in the place of the distribution's: its archive."""
    boot, modules = tmp_path / "root" / "boot", tmp_path / "root" / "lib" / "modules" / "6.1.0"
    boot.mkdir(parents=True)
    modules.mkdir(parents=True)
    (boot / "vmlinuz-6.1.0").write_bytes(image(lzma.compress(_ELF)))
    (modules / "virtio.ko.xz").write_bytes(lzma.compress(b"virtio"))
    (modules / "virtio_ring.ko").write_bytes(b"ring")
    archive = tmp_path / "data.tar"
    subprocess.run(["tar", "-C", tmp_path / "root", "-cf", archive, "./boot", "./lib"], check=True)
    dpkg = f"#!/bin/sh\ncase $1 in --fsys-tarfile) cat {archive} && [ ! -e {archive}.bad ];; esac\n"
    tools(tmp_path, monkeypatch, "#!/bin/sh\n: >$3.deb\n", dpkg)
    return archive


def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt_get: str, dpkg_deb: str) -> None:
    where = tmp_path / "bin"
    where.mkdir()
    for name, script in (("apt-get", apt_get), ("dpkg-deb", dpkg_deb)):
        (where / name).write_text(script)
        (where / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{where}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_not_whole_any_more_is_downloaded_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, missing: bool
) -> None:
    distribution(tmp_path, monkeypatch)
    found = kernel("linux-image-x")
    if missing:
        found.image.unlink()
    else:
        found.image.write_bytes(_ELF[:8])
    assert not vm_kernel.is_kept("linux-image-x")
    said: list[str] = []
    assert kernel("linux-image-x", said.append) == found
    assert found.image.read_bytes() == _ELF
    assert len(said) == 1
    assert "what is there is not whole" in said[0]
    assert [one.name for one in cache().iterdir()] == ["linux-image-x"]


@pytest.mark.parametrize("how", ["cut", "no end", "module"])
def test_a_damaged_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    archive = distribution(tmp_path, monkeypatch)
    if how == "cut":
        archive.write_bytes(archive.read_bytes()[:1500])
    elif how == "no end":
        archive.with_name("data.tar.bad").touch()
    else:
        whole = archive.read_bytes()
        archive.write_bytes(whole.replace(lzma.compress(b"virtio"), bytes(64)[:64]))
    with pytest.raises(EnvironmentLackError, match=r"linux-image-x\.deb: damaged: "):
        kernel("linux-image-x")
    assert list(cache().iterdir()) == []


def test_a_download_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt_get = "#!/bin/sh\necho 'E: no network' >&2\nexit 100\n"
    tools(tmp_path, monkeypatch, apt_get, "#!/bin/sh\n")
    said: list[str] = []
    with pytest.raises(EnvironmentLackError, match="linux-image-x: no network"):
        kernel("linux-image-x", said.append)
    assert len(said) == 1
    assert "not installed" in said[0]
    assert list(cache().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--exhaustive"], "all rewrites of all families would run for an hour: name families"),
        (["--jobs", "2"], "has one machine for all trials: leave --jobs out"),
        (["--search", "1"], "--runtime vm does not take --search"),
        (["--kernel", ""], "--kernel : not the name of a package"),
    ],
)
def test_options_that_a_machine_cannot_serve_are_refused(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools(tmp_path, monkeypatch, "#!/bin/sh\nexit 1\n", "#!/bin/sh\nexit 1\n")
    for name in (QEMU, "setpriv"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    profile = Path(mitigations.__file__).parent / "library" / "block-mkdir.json"
    done = subprocess.run(
        [*_SIDESTEP, "evaluate", profile, "--runtime", "vm", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLackError, match=f"no {QEMU}: apt-get install qemu-system-x86"):
        qemu()
    (tmp_path / QEMU).write_text("#!/bin/sh\n")
    (tmp_path / QEMU).chmod(0o755)
    with pytest.raises(EnvironmentLackError, match="no setpriv: apt-get install util-linux"):
        qemu()
    assert vm_kernel.missing_tool() == "there is no apt-get here"
