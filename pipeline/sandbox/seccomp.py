"""The system calls that a sandboxed program has no business with, as a filter for the kernel.

A deny list (EPERM) on top of namespaces, for what could reach outside or around the limits: new user namespaces and
mounts (a fresh in-memory file system has no size limit), memory that counts for no process (memory files, System V
shared memory, semaphores and queues, POSIX queues), tracing, kernel keyrings, BPF, performance counters, modules, time,
and io_uring, which does file and network work past such filters. Sockets are of the families that a network namespace
shuts in: others, such as AF_VSOCK, lead past it to the host of a virtual machine.
"""

import functools
import platform
import struct

CLONE_NEWUSER = 0x10000000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
SOCKET = {"x86_64": 41, "aarch64": 198}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
DENIED = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "semctl": 66, "msgget": 68, "msgsnd": 69,
        "msgrcv": 70, "msgctl": 71, "semtimedop": 220, "mq_open": 240, "memfd_create": 319, "memfd_secret": 447,
        "ptrace": 101, "pivot_root": 155, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "init_module": 175, "delete_module": 176, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
        "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "mount_setattr": 442,
    },
    "aarch64": {
        "mq_open": 180, "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191,
        "semtimedop": 192, "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "memfd_create": 279,
        "memfd_secret": 447,
        "umount2": 39, "mount": 40, "pivot_root": 41, "unshare": 97, "kexec_load": 104, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "ptrace": 117, "reboot": 142, "settimeofday": 170,
        "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "perf_event_open": 241,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "fsconfig": 431, "fsmount": 432, "mount_setattr": 442,
    },
}  # fmt: skip


@functools.cache
def filter_program() -> bytes | None:
    """The filter in the kernel's BPF form; None on a processor whose system calls are not listed here."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return None
    refuse, missing = (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ERRNO | ENOSYS)
    program = [(LOAD, 0, 0, ARCH_AT), (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]), refuse, (LOAD, 0, 0, NUMBER_AT)]
    if machine == "x86_64":  # the x32 calls carry this bit, and are another way to the same kernel
        program += [(JUMP_SET, 0, 1, 0x40000000), refuse]
    for number in DENIED[machine].values():
        program += [(JUMP_EQUAL, 0, 1, number), refuse]
    program += [(JUMP_EQUAL, 0, 1, CLONE3), missing]  # its flags cannot be read here; libc falls back to clone
    allowed, other = (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | EAFNOSUPPORT)
    families = [(JUMP_EQUAL, left, 0, family) for left, family in zip(range(4, 0, -1), FAMILIES.values(), strict=True)]
    program += [(JUMP_EQUAL, 0, 7, SOCKET[machine]), (LOAD, 0, 0, FIRST_ARGUMENT_AT), *families, other, allowed]
    program += [(JUMP_EQUAL, 0, 3, CLONE[machine]), (LOAD, 0, 0, FIRST_ARGUMENT_AT), (JUMP_SET, 0, 1, CLONE_NEWUSER)]
    program += [refuse, allowed]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
