"""Android's C library as a linker sees it, for 64-bit Arm and Android 10 (API 29) or later.

API 29 is where thread-local variables became the system's own. What the runtime's sources see of it
are musl's headers: types and flags are the kernel's in both, and so are the sizes of the types of
pthread.h that the runtime has (mutex 40 bytes, condition 48, attributes 56). ``errno`` and the
numbers of ``sysconf`` differ.
"""

from pathlib import Path

from pock_tvm.artifact.link import run_zig

_HEADER = """\
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <unistd.h>
int *__errno(void);
#undef errno
#define errno (*__errno())
#undef _SC_PAGESIZE
#define _SC_PAGESIZE 39
#undef _SC_NPROCESSORS_ONLN
#define _SC_NPROCESSORS_ONLN 97
_Static_assert(sizeof(pthread_mutex_t) == 40 && sizeof(pthread_cond_t) == 48, "as in bionic");
_Static_assert(sizeof(pthread_attr_t) == 56, "as in bionic");
"""

_MATHEMATICS = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh erf erfc exp exp2 expm1 fabs floor "
    "fma fmax fmin fmod hypot ldexp lgamma log log10 log1p log2 nearbyint pow remainder rint round "
    "sin sinh sqrt tan tanh tgamma trunc"
)

_EXPORTS = {
    "libc.so": (
        "__errno abort close fcntl fstat fsync getauxval madvise memchr memcmp memcpy memmove "
        "memset mmap munmap open pread pthread_attr_destroy pthread_attr_init "
        "pthread_attr_setstacksize pthread_cond_broadcast pthread_cond_destroy pthread_cond_init "
        "pthread_cond_signal "
        "pthread_cond_wait pthread_create pthread_equal pthread_join pthread_mutex_destroy "
        "pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock pthread_self read rename "
        "sched_getaffinity sched_setaffinity snprintf strchr strcmp strcspn strerror strlen "
        "strncmp strrchr strspn sysconf unlink vsnprintf write __stack_chk_fail"
    ),
    "libm.so": " ".join(f"{name} {name}f" for name in _MATHEMATICS.split()),
    "libdl.so": "dlclose dlerror dlopen dlsym",
}
"""What the runtime and kernels may call; all of it is in the NDK's libraries for API 29."""


def write_header(folder: Path) -> Path:
    """Write what every source has to include first."""
    path = folder / "pock_bionic.h"
    path.write_text(_HEADER, encoding="utf-8")
    return path


_HEAP = "calloc free malloc posix_memalign"


def write_stubs(folder: Path, triple: str, *, heap: bool) -> list[Path]:
    """Write libraries that export the names and do nothing: only a linker reads them."""
    written = []
    for library, names in _EXPORTS.items():
        more = _HEAP if heap and library == "libc.so" else ""
        source = folder / f"{Path(library).stem}_stub.c"
        body = "".join(f"void {name}(void) {{}}\n" for name in f"{names} {more}".split())
        source.write_text(body, encoding="utf-8")
        written.append(folder / library)
        options = ["-shared", "-nostdlib", "-fno-builtin", "-w", f"-Wl,-soname,{library}"]
        run_zig(options, triple, [source], written[-1])
    return written
