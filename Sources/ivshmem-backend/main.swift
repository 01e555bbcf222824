// ivshmem-backend: serves devices over ivshmem links. It only composes.
import BackendService
import CLinux
import LinuxSupport

cl_exit(BackendProgram.run(programArguments()))
