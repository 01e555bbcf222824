// ivshmem-backend: serves devices over ivshmem links. It only composes.
import CLinux
import LinuxRuntime
import LinuxSupport

cl_exit(BackendProgram.run(programArguments()))
