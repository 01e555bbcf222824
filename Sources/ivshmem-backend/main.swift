// ivshmem-backend: serves devices over ivshmem links. It only composes.
import CLinux
import LinuxRuntime

cl_exit(BackendProgram.run(Array(CommandLine.arguments.dropFirst())))
