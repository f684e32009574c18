package server

import "golang.org/x/sys/unix"

// multiplexing is what INFO calls multiplexing_api.
const multiplexing = "epoll"

// systemMemory returns the machine's memory in bytes.
func systemMemory() int64 {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0
	}
	return int64(si.Totalram) * int64(si.Unit)
}
